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
	"context"
	"fmt"
	"log/slog"

	"github.com/golang-jwt/jwt/v5"

	"sluice/shared/certs"
	"sluice/shared/channel"
)

// mostFilled bounds what one template of SSENODE_USER_CHANNELS gives by claims
// that are arrays.
const mostFilled = 10000

// Guard decides. Without a key in its settings it lets everything pass.
type Guard struct {
	s      *Settings
	verify *verifier // nil: authentication is off
	jwks   *jwks     // nil: another kind of key
}

// New prepares what the settings, which Validate has found right, ask for. It
// opens nothing: a key set is fetched by Run.
func New(s *Settings, log *slog.Logger) (*Guard, error) {
	g := &Guard{s: s}
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
	return g.verify.verify(token)
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
	granted := g.granted(id, clientID)
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

// granted is all that the bearer may read.
func (g *Guard) granted(id *Identity, clientID string) []channel.Pattern {
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
	for _, t := range g.s.UserChannels.list {
		// A claim that is not there, or too long for a channel, allows nothing.
		filled, err := t.Fill(mostFilled, func(name string) ([]string, error) { return id.value(name, clientID) })
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
