package auth

import "errors"

// Code says why there is nobody whom a request could act for; it is what the
// answer 401 tells.
type Code string

// The codes are a part of the contract with clients.
const (
	Missing      Code = "missing"
	Malformed    Code = "malformed"
	BadSignature Code = "bad_signature"
	Expired      Code = "expired"
	NotYetValid  Code = "not_yet_valid"
	Issuer       Code = "issuer"
	Audience     Code = "audience"
	Revoked      Code = "revoked"
)

// Codes are all of them.
var Codes = [...]Code{Missing, Malformed, BadSignature, Expired, NotYetValid, Issuer, Audience, Revoked}

// Unauthorized is the error of a request with no token, or one that does not
// count. It never holds anything of the token.
type Unauthorized struct {
	Code  Code
	Claim string // that is missing, of a valid token
}

func (e *Unauthorized) Error() string {
	if e.Claim != "" {
		return "unauthorized: the token has no claim " + e.Claim
	}
	return "unauthorized: token " + string(e.Code)
}

// Forbidden is the error of a request that asks for more than it may have.
type Forbidden struct {
	Channel  string // or pattern
	ClientID string // that is not one of the token's subject
	Origin   string // of which a cookie is not taken
}

func (e *Forbidden) Error() string {
	switch {
	case e.ClientID != "":
		return "forbidden: clientId " + e.ClientID
	case e.Origin != "":
		return "forbidden: a cookie from " + e.Origin
	}
	return "forbidden: channel " + e.Channel
}

// ErrNoKeys says that a token cannot be judged now, because the keys cannot be
// had: the client is to come back.
var ErrNoKeys = errors.New("the keys of SSENODE_JWKS_URL cannot be had just now")
