package auth

import (
	"encoding/json"
	"log/slog"
)

// Secret is a setting that nothing prints: not fmt in any form, not slog, not
// JSON. The text is in a function, so that also a struct printed whole, with
// its unexported fields, shows an address at most.
type Secret struct{ reveal func() string }

const redacted = "[redacted]"

// NewSecret hides a text; the empty one is as if nothing was set.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{func() string { return text }}
}

// Decode takes a setting's value; it makes Secret a field that envconfig can fill.
func (s *Secret) Decode(value string) error {
	*s = NewSecret(value)
	return nil
}

// Reveal is the secret's text, "" if none is set.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

func (s Secret) String() string {
	if s.reveal == nil {
		return ""
	}
	return redacted
}

// LogValue is what slog prints.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON is what a struct of settings shows as JSON.
func (s Secret) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }
