package channel

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Template is a pattern in which {NAME} stands for text that is known later. A
// value is always literal: whatever it contains, it fills only its place (a
// colon makes more segments there) and never becomes a wildcard.
type Template struct {
	texts []string // literal text and names in turn, beginning with text
	names []string
}

var placeholder = regexp.MustCompile(`\{([^{}]*)\}`)

// ParseTemplate reads a template. known tells whether a name can have a value;
// want says in an error which ones can.
func ParseTemplate(text string, known func(name string) bool, want string) (Template, error) {
	var t Template
	if text == "" {
		return t, fmt.Errorf("an empty channel template")
	}
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[2]:m[3]]
		if !known(name) {
			return t, fmt.Errorf("template %q: unknown placeholder {%s}; want %s", text, name, want)
		}
		t.texts = append(t.texts, text[end:m[0]])
		t.names = append(t.names, name)
		end = m[1]
	}
	t.texts = append(t.texts, text[end:])
	if strings.ContainsAny(strings.Join(t.texts, ""), "{}") {
		return t, fmt.Errorf("template %q: a { or } without its partner", text)
	}
	// Whether the text is a legal pattern shows with any value put in. An x is
	// neither a wildcard's neighbour nor a hexadecimal digit, so that no value
	// can complete a wildcard or an escape of the text around it.
	if _, err := ParsePattern(strings.Join(t.texts, "x")); err != nil {
		return t, fmt.Errorf("template %q: %w", text, err)
	}
	return t, nil
}

// Names are the names in the template.
func (t Template) Names() []string { return t.names }

// ErrTooMany is the error of a Fill that would give more than its limit.
var ErrTooMany = errors.New("too many channels of one template")

// Fill returns the template with values put in, one pattern for each combination
// of them, at most limit. values returns what a name stands for; its error is
// returned as it is.
func (t Template) Fill(limit int, values func(name string) ([]string, error)) ([]Pattern, error) {
	filled := []string{t.texts[0]}
	for i, name := range t.names {
		list, err := values(name)
		if err != nil {
			return nil, err
		}
		if len(list)*len(filled) > limit {
			return nil, fmt.Errorf("{%s}: %d values: %w, at most %d", name, len(list), ErrTooMany, limit)
		}
		next := make([]string, 0, len(filled)*len(list))
		for _, text := range filled {
			for _, value := range list {
				exact, err := Exact(value)
				if err != nil {
					return nil, fmt.Errorf("{%s}: %w", name, err)
				}
				next = append(next, text+exact.String()+t.texts[i+1])
			}
		}
		filled = next
	}
	patterns := make([]Pattern, len(filled))
	for i, text := range filled {
		var err error
		if patterns[i], err = ParsePattern(text); err != nil {
			return nil, err
		}
	}
	return patterns, nil
}
