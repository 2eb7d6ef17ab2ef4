package auth

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"sluice/shared/apikey"
	"sluice/shared/channel"
	"sluice/shared/origin"
)

// Settings are the part of a node's settings that says who may listen to what.
type Settings struct {
	JWT struct {
		Secret    Secret        `desc:"shared secret that tokens are signed with (HS256, HS384, HS512)"`
		PublicKey string        `split_words:"true" desc:"file with the public key of who signs tokens, in PEM (RS, ES, EdDSA)"`
		Issuer    string        `desc:"iss that a token must have, empty: any"`
		Audience  []string      `desc:"aud of which a token must have one, separated by commas, empty: any"`
		Leeway    time.Duration `default:"30s" desc:"how far clocks may be apart, for exp and nbf"`
	}
	JWKS struct {
		URL     string        `desc:"address of a JSON Web Key Set with the public keys of who signs tokens"`
		Refresh time.Duration `default:"10m" desc:"how often the key set is fetched"`
	}
	ChannelsClaim  string      `split_words:"true" default:"channels" desc:"claim with the patterns of channels that its bearer may read"`
	UserChannels   Templates   `split_words:"true" desc:"templates of channels for whoever has a token, e.g. user:{claim.sub},sse:group:{claim.groups}"`
	PublicChannels Patterns    `split_words:"true" desc:"patterns of channels for everyone, also without a token"`
	AutoChannels   Templates   `split_words:"true" desc:"templates of channels that come by themselves on every stream, e.g. sse:broadcast,sse:channel:{clientId}"`
	Attributes     []string    `default:"*" desc:"claims that criteria of events are compared with, separated by commas; without authentication parameters of the query; *: all"`
	Cookie         string      `default:"sluice_token" desc:"cookie that may hold the token, empty: none"`
	Origins        origin.List `default:"*" desc:"origins of pages that may connect, e.g. https://a.com,https://*.b.com; *: all"`
	APIKeys        apikey.Keys `split_words:"true" desc:"keys, separated by commas, of programs that may see who is there: Authorization: Bearer KEY"`
	Credentials    bool        `desc:"these pages may use the cookie, too; else only pages of the same host"`
}

// On tells whether there is a key, and so authentication.
func (s *Settings) On() bool {
	return s.JWT.Secret.Reveal() != "" || s.JWT.PublicKey != "" || s.JWKS.URL != ""
}

// cookieName is a token of RFC 6265.
var cookieName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")

// Validate checks what parses but cannot work; errors name the setting.
func (s *Settings) Validate() error {
	var kinds []string
	for _, k := range []struct {
		name string
		set  bool
	}{
		{"SSENODE_JWT_SECRET", s.JWT.Secret.Reveal() != ""},
		{"SSENODE_JWT_PUBLIC_KEY", s.JWT.PublicKey != ""},
		{"SSENODE_JWKS_URL", s.JWKS.URL != ""},
	} {
		if k.set {
			kinds = append(kinds, k.name)
		}
	}
	if len(kinds) > 1 {
		return fmt.Errorf("%s are set: want one of them", strings.Join(kinds, " and "))
	}
	if s.JWKS.URL != "" {
		// The address may hold a password: errors do not repeat it.
		u, err := url.Parse(s.JWKS.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("SSENODE_JWKS_URL is no address: want one such as https://issuer.example/.well-known/jwks.json")
		}
	}
	if err := s.APIKeys.Validate("SSENODE_API_KEYS"); err != nil {
		return err
	}
	switch {
	case s.JWKS.Refresh < time.Second:
		return fmt.Errorf("SSENODE_JWKS_REFRESH=%s: want at least 1s", s.JWKS.Refresh)
	case s.JWT.Leeway < 0 || s.JWT.Leeway > time.Hour:
		return fmt.Errorf("SSENODE_JWT_LEEWAY=%s: want 0s to 1h", s.JWT.Leeway)
	case !cookieName.MatchString(s.Cookie):
		return fmt.Errorf("SSENODE_COOKIE=%q: want the name of a cookie", s.Cookie)
	case s.Credentials && s.Origins.Any():
		return fmt.Errorf("SSENODE_CREDENTIALS=true with SSENODE_ORIGINS=*: any page could act for a signed-in user; name the origins")
	case !s.On():
		for name, set := range map[string]bool{
			"SSENODE_JWT_ISSUER": s.JWT.Issuer != "", "SSENODE_JWT_AUDIENCE": len(s.JWT.Audience) > 0,
			"SSENODE_USER_CHANNELS": len(s.UserChannels.list) > 0, "SSENODE_PUBLIC_CHANNELS": len(s.PublicChannels.list) > 0,
		} {
			if set {
				return fmt.Errorf("%s is set, but no key: everything would be open; want SSENODE_JWT_SECRET, SSENODE_JWT_PUBLIC_KEY or SSENODE_JWKS_URL", name)
			}
		}
	}
	return nil
}

// Patterns are a setting: patterns of channels, separated by commas.
type Patterns struct{ list []channel.Pattern }

// Decode parses the setting's value; it makes Patterns a field that envconfig
// can fill.
func (p *Patterns) Decode(value string) error {
	p.list = nil
	for text := range entries(value) {
		pattern, err := channel.ParsePattern(text)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		p.list = append(p.list, pattern)
	}
	return nil
}

// Templates are a setting: templates of channels, separated by commas.
type Templates struct{ list []channel.Template }

var known = regexp.MustCompile(`^(claim\.[^{}\s]+|clientId)$`)

// Decode parses the setting's value. What a client chooses itself has no place
// here: {query.room} would be a wildcard.
func (t *Templates) Decode(value string) error {
	t.list = nil
	for text := range entries(value) {
		template, err := channel.ParseTemplate(text, known.MatchString, "{claim.NAME} or {clientId}")
		if err != nil {
			return err
		}
		t.list = append(t.list, template)
	}
	return nil
}

// entries are what commas separate, without blanks around and empty ones.
func entries(value string) func(func(string) bool) {
	return func(yield func(string) bool) {
		for text := range strings.SplitSeq(value, ",") {
			if text = strings.TrimSpace(text); text != "" && !yield(text) {
				return
			}
		}
	}
}
