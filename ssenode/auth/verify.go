package auth

import (
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Identity is who a request acts for, as a valid token says.
type Identity struct {
	Subject string
	ID      string // of the token, "" if it has none
	Claims  Claims
	// IssuedAt is the token's iat, zero if it has none that could be true.
	IssuedAt time.Time
	// ExpiresAt is the token's exp; Until when it is taken, with the leeway. Both
	// are zero for a token without.
	ExpiresAt, Until time.Time
}

// verifier judges tokens.
type verifier struct {
	parser   *jwt.Parser
	key      jwt.Keyfunc
	issuer   string
	audience []string
	leeway   time.Duration
	now      func() time.Time
}

func newVerifier(s *Settings, methods []string, key jwt.Keyfunc) *verifier {
	return &verifier{
		// The times are judged here: the library takes an exp of 0 for none.
		parser: jwt.NewParser(jwt.WithValidMethods(methods), jwt.WithJSONNumber(),
			jwt.WithStrictDecoding(), jwt.WithoutClaimsValidation()),
		key: key, issuer: s.JWT.Issuer, audience: s.JWT.Audience, leeway: s.JWT.Leeway, now: time.Now,
	}
}

// verify returns who the token is for. Errors are *Unauthorized or ErrNoKeys.
func (v *verifier) verify(token string) (*Identity, error) {
	refuse := func(c Code) (*Identity, error) { return nil, &Unauthorized{Code: c} }
	claims := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, claims, v.key)
	switch {
	case err == nil:
	case errors.Is(err, ErrNoKeys):
		return nil, ErrNoKeys
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse(Malformed)
	default:
		return refuse(BadSignature)
	}
	// A token may demand that extensions are understood (RFC 7515, 4.1.11); none is.
	if _, demands := parsed.Header["crit"]; demands {
		return refuse(Malformed)
	}
	return v.judge(Claims(claims))
}

// judge is verify for claims of which it is known who signed them.
func (v *verifier) judge(c Claims) (*Identity, error) {
	refuse := func(c Code) (*Identity, error) { return nil, &Unauthorized{Code: c} }
	exp, ok1 := c.moment("exp")
	nbf, ok2 := c.moment("nbf")
	now := v.now()
	id := &Identity{Claims: c, ExpiresAt: exp}
	if !exp.IsZero() {
		id.Until = exp.Add(v.leeway)
	}
	switch {
	case !ok1 || !ok2:
		return refuse(Malformed)
	case !exp.IsZero() && !now.Before(id.Until):
		return refuse(Expired)
	case !nbf.IsZero() && now.Add(v.leeway).Before(nbf):
		return refuse(NotYetValid)
	case v.issuer != "" && !c.has("iss", []string{v.issuer}):
		return refuse(Issuer)
	case len(v.audience) > 0 && !c.has("aud", v.audience):
		return refuse(Audience)
	}
	id.Subject, _ = scalar(c["sub"])
	id.ID, _ = scalar(c["jti"])
	// One of the future, in milliseconds say, would put it after every revocation.
	if iat, ok := c.moment("iat"); ok && !now.Add(v.leeway).Before(iat) {
		id.IssuedAt = iat
	}
	return id, nil
}
