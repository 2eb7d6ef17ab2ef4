package natsconn

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sluice/shared/certs"
)

// Settings is the group of settings that begins with NATS_. User and password, or a
// token, may stand in the URL. All files are read again at each connection.
type Settings struct {
	URL   string `default:"nats://127.0.0.1:4222" desc:"NATS servers, separated by commas"`
	Creds string `desc:"file with a NATS user's JWT and seed, as nsc writes it"`
	NKey  string `desc:"file with the seed of a NATS user's nkey"`
	certs.Client
}

// Validate checks the URL and the files without connecting. Errors name the setting
// and are free of secrets.
func (s Settings) Validate() error {
	login := false
	for u := range strings.SplitSeq(s.URL, ",") {
		p, err := url.Parse(strings.TrimSpace(u))
		if err != nil || p.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, p.Scheme) {
			return fmt.Errorf("NATS_URL=%q: want nats://host:port, several separated by commas (tls:// to insist on TLS; what has a meaning in URLs must be percent-encoded in user, password and token)", Redact(s.URL))
		}
		login = login || p.User != nil
	}
	var logins []string
	for _, l := range []struct {
		name string
		set  bool
	}{{"a user or token in NATS_URL", login}, {"NATS_CREDS", s.Creds != ""}, {"NATS_NKEY", s.NKey != ""}} {
		if l.set {
			logins = append(logins, l.name)
		}
	}
	if len(logins) > 1 {
		return fmt.Errorf("%s: want one of them", strings.Join(logins, " and "))
	}
	if _, err := s.login(); err != nil {
		return err
	}
	return s.Client.Validate("NATS")
}

// login is how to prove who connects, by JWT or nkey.
func (s Settings) login() ([]nats.Option, error) {
	switch {
	case s.Creds != "":
		err := useSecret(s.Creds, func(text []byte) error {
			jwt, err := nkeys.ParseDecoratedJWT(text)
			if err == nil && strings.Count(jwt, ".") != 2 { // else it is the whole file
				return errors.New("no JWT in it: want a credentials file as nsc writes it")
			}
			if err != nil {
				return err
			}
			return checkSeed(text)
		})
		if err != nil {
			return nil, fmt.Errorf("NATS_CREDS=%q: %w", certs.Shown(s.Creds), err)
		}
		return []nats.Option{nats.UserCredentials(s.Creds)}, nil
	case s.NKey != "":
		option, err := nats.NkeyOptionFromSeed(s.NKey)
		if shown := useSecret(s.NKey, checkSeed); shown != nil {
			err = shown
		}
		if err != nil {
			return nil, fmt.Errorf("NATS_NKEY=%q: %w", certs.Shown(s.NKey), err)
		}
		return []nats.Option{option}, nil
	}
	return nil, nil
}

// useSecret gives the file to f and then forgets it.
func useSecret(file string, f func([]byte) error) error {
	text, err := certs.ReadFile(file)
	if err != nil {
		return err
	}
	defer clear(text)
	return f(text)
}

func checkSeed(text []byte) error {
	k, err := nkeys.ParseDecoratedUserNKey(text)
	if err != nil {
		return errors.New("no seed of a user in it: want one that begins with SU")
	}
	k.Wipe()
	return nil
}

// tls is how to speak TLS. With any of the files TLS is insisted on.
func (s Settings) tls() []nats.Option {
	if !s.Client.IsSet() {
		return nil
	}
	option := nats.ClientTLSConfig(nil, s.Authorities)
	switch {
	case s.Cert != "" && s.CA != "":
		option = nats.ClientTLSConfig(s.Certificate, s.Authorities)
	case s.Cert != "":
		option = nats.ClientTLSConfig(s.Certificate, nil)
	}
	return []nats.Option{option}
}

// hidden takes the place of what may be secret.
const hidden = "***"

// Redact replaces user names, passwords and tokens in a list of URLs. What cannot be
// told from a part of a secret is replaced, too: all of the list when a comma in a
// password has torn it apart.
func Redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		u = strings.TrimSpace(u)
		scheme, rest, found := strings.Cut(u, "://")
		at := strings.LastIndexByte(rest, '@')
		switch p, err := url.Parse(u); {
		case !found && (len(list) > 1 || strings.Contains(u, "@")):
			return hidden
		case at >= 0:
			u = scheme + "://" + hidden + "@" + rest[at+1:]
		case err != nil || p.User != nil:
			u = scheme + "://" + hidden
		}
		list[i] = u
	}
	return strings.Join(list, ",")
}
