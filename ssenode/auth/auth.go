// Package auth says who may listen to what: it finds the token in a request,
// verifies it, and compares the channels that the request names with those that
// the token, or everyone, may read. All ways to events ask it the same question,
// once, before anything is subscribed or read.
//
// A token is a JWT. Its signature is checked with the one kind of key that the
// settings give, and only methods that fit that kind are taken. The error of a
// refused token says why by a Code; nothing of a token is in an error or a log.
package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/certs"
	"sluice/shared/channel"
)

// mostFilled bounds what one template of SSENODE_USER_CHANNELS gives by claims
// that are arrays.
const mostFilled = 10000

// Guard decides. Without a key in its settings it lets everything pass.
type Guard struct {
	// Revocations are heeded from when they are added.
	Revocations *Revocations

	s      *Settings
	verify *verifier // nil: authentication is off
	jwks   *jwks     // nil: another kind of key
}

// New prepares what the settings, which Validate has found right, ask for. It
// opens nothing: a key set is fetched by Run.
func New(s *Settings, log *slog.Logger) (*Guard, error) {
	g := &Guard{s: s, Revocations: newRevocations()}
	switch secret := s.JWT.Secret.Reveal(); {
	case secret != "":
		if len(secret) < 32 {
			log.Warn("SSENODE_JWT_SECRET is short: it can be guessed from any token; want 32 bytes or more")
		}
		key := []byte(secret)
		g.verify = newVerifier(s, shared, func(t *jwt.Token) (any, error) { return fitting(t, key) })
	case s.JWT.PublicKey != "":
		key, methods, err := publicKey(s.JWT.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("SSENODE_JWT_PUBLIC_KEY=%q: %w", certs.Shown(s.JWT.PublicKey), err)
		}
		g.verify = newVerifier(s, methods, func(t *jwt.Token) (any, error) { return fitting(t, key) })
	case s.JWKS.URL != "":
		g.jwks = newJWKS(s, log)
		g.verify = newVerifier(s, publicOnes, g.jwks.key)
	default:
		log.Warn("no authentication: everyone may read every channel (set SSENODE_JWT_SECRET, SSENODE_JWT_PUBLIC_KEY or SSENODE_JWKS_URL)")
	}
	return g, nil
}

func fitting(t *jwt.Token, key any) (any, error) {
	if !fits(t.Method, key) {
		return nil, jwt.ErrInvalidKeyType
	}
	return key, nil
}

// Run keeps the keys fresh until the context ends.
func (g *Guard) Run(ctx context.Context) {
	if g.jwks != nil {
		g.jwks.run(ctx)
	}
}

// Ready says why tokens cannot be judged yet, or nil.
func (g *Guard) Ready() error {
	if g.jwks != nil {
		return g.jwks.ready()
	}
	return nil
}

// On tells whether there is authentication.
func (g *Guard) On() bool { return g.verify != nil }

// Identify returns who a request acts for, nil if it has no token or there is no
// authentication. Errors are *Unauthorized, *Forbidden or ErrNoKeys.
func (g *Guard) Identify(c *Carrier, from Site) (*Identity, error) {
	if !g.On() {
		return nil, nil
	}
	token, byCookie, err := c.Token()
	if err != nil || token == "" {
		return nil, err
	}
	if byCookie && !g.s.mayUseCookie(from) {
		origin := from.Origin
		if origin == "" {
			origin = "another site"
		}
		return nil, &Forbidden{Origin: origin}
	}
	return g.valid(g.verify.verify(token))
}

func (g *Guard) valid(id *Identity, err error) (*Identity, error) {
	if err == nil && g.Revocations.Has(g.Bearer(id)) {
		return nil, &Unauthorized{Code: Revoked}
	}
	return id, err
}

// Judge is Identify for the claims, as JSON, of a token that another node has
// verified; nil without authentication.
func (g *Guard) Judge(claims []byte) (*Identity, error) {
	if !g.On() {
		return nil, nil
	}
	c := Claims{}
	d := json.NewDecoder(bytes.NewReader(claims))
	d.UseNumber()
	if err := d.Decode(&c); err != nil {
		return nil, &Unauthorized{Code: Malformed}
	}
	return g.valid(g.verify.judge(c))
}

// Bearer is what to keep of an identity, nil for nobody.
func (g *Guard) Bearer(id *Identity) Bearer {
	if id == nil {
		return Bearer{}
	}
	return g.Revocations.bearer(id)
}

// CheckClient tells whether the bearer may go by a clientId that it has chosen.
func (g *Guard) CheckClient(id *Identity, clientID string) error {
	if !g.On() || id.Owns(clientID) {
		return nil
	}
	return &Forbidden{ClientID: clientID}
}

// Check tells whether the bearer, nil for nobody, may read all that is wanted: of
// a pattern everything that it could ever match. Errors are *Forbidden with the
// first that it may not, or *Unauthorized for nobody, who might with a token.
func (g *Guard) Check(id *Identity, clientID string, want []channel.Pattern) error {
	if !g.On() {
		return nil
	}
	granted := g.Granted(id, clientID)
	for _, p := range want {
		switch {
		case p.CoveredBy(granted):
		case id == nil:
			return &Unauthorized{Code: Missing}
		case p.Literal():
			name, err := channel.FromSubject(p.Subject())
			if err != nil {
				name = p.String()
			}
			return &Forbidden{Channel: name}
		default:
			return &Forbidden{Channel: p.String()}
		}
	}
	return nil
}

// Granted is all that the bearer, nil for nobody, may read; with authentication.
func (g *Guard) Granted(id *Identity, clientID string) []channel.Pattern {
	list := g.s.PublicChannels.list
	if id == nil {
		return list
	}
	list = list[:len(list):len(list)] // of all requests: what follows is not to be written into it
	texts, _ := id.Claims.Values(g.s.ChannelsClaim)
	for _, text := range texts {
		// What is no pattern allows nothing.
		if p, err := channel.ParsePattern(text); err == nil {
			list = append(list, p)
		}
	}
	return append(list, id.fill(g.s.UserChannels.list, mostFilled, clientID)...)
}

// Auto is what comes by itself on every stream: SSENODE_AUTO_CHANNELS. With
// authentication nobody gets of it only what is for everyone.
func (g *Guard) Auto(id *Identity, clientID string) []channel.Pattern {
	list := id.fill(g.s.AutoChannels.list, mostFilled, clientID)
	if g.On() && id == nil {
		list = slices.DeleteFunc(list, func(p channel.Pattern) bool { return !p.CoveredBy(g.s.PublicChannels.list) })
	}
	return list
}

// fill puts what is known of the bearer into templates. A claim that is not there, or
// is too long for a channel or has too many values, gives nothing.
func (id *Identity) fill(templates []channel.Template, limit int, clientID string) (list []channel.Pattern) {
	for _, t := range templates {
		filled, err := t.Fill(limit, func(name string) ([]string, error) { return id.value(name, clientID) })
		if err == nil {
			list = append(list, filled...)
		}
	}
	return list
}

// value is what a placeholder of SSENODE_USER_CHANNELS stands for.
func (id *Identity) value(name, clientID string) ([]string, error) {
	if name == "clientId" {
		return []string{clientID}, nil
	}
	return id.Claim(name[len("claim."):])
}

// Claim is what {claim.NAME} stands for. Nobody, and a token without the claim,
// is an error of the kind *Unauthorized.
func (id *Identity) Claim(name string) ([]string, error) {
	if id == nil {
		return nil, &Unauthorized{Code: Missing}
	}
	values, ok := id.Claims.Values(name)
	if !ok {
		return nil, &Unauthorized{Code: Missing, Claim: name}
	}
	return values, nil
}
