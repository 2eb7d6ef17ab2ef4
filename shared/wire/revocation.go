package wire

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"
)

// Revoked is the name of the key-value bucket with the tokens that no longer count.
// Whoever revokes the first one makes it.
func (s Stream) Revoked() string { return s.Name + "_REVOKED" }

// RevokedPrefix is the prefix, ending in a dot, of the subjects of the bucket's keys.
func (s Stream) RevokedPrefix() string { return "$KV." + s.Revoked() + "." }

// RevokedStream is the stream that a bucket is.
func (s Stream) RevokedStream() string { return "KV_" + s.Revoked() }

const (
	// RevokedBytes bounds the bucket; one that is revoked needs about 300 bytes. When
	// it is full, no more can be revoked until some have ended.
	RevokedBytes = 64 << 20
	// MaxRevoked is how long something may stay revoked. Tokens last for less.
	MaxRevoked = 366 * 24 * time.Hour
)

// Revocation is the value of a key in the bucket: one token, or those of one
// subject, do not count. An empty value, as a deletion leaves, takes it back.
type Revocation struct {
	Subject string `json:"sub,omitempty"` // either this
	TokenID string `json:"jti,omitempty"` // or that
	// At is when it was revoked: of a subject, tokens issued later count.
	At    time.Time `json:"at"`
	Until time.Time `json:"until"` // when it is over
}

// SubjectKey and TokenKey are the bucket's keys for any subject and any token id:
// letters, digits, `-` and `_` after the kind, 47 bytes. They are made of a hash, so
// that neither odd nor long names are a matter of NATS.
func SubjectKey(subject string) string { return revokedKey("sub.", subject) }

// TokenKey is SubjectKey for the id of a token.
func TokenKey(id string) string { return revokedKey("jti.", id) }

func revokedKey(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return kind + base64.RawURLEncoding.EncodeToString(sum[:])
}

// Key is the bucket's key for the revocation.
func (r Revocation) Key() string {
	if r.TokenID != "" {
		return TokenKey(r.TokenID)
	}
	return SubjectKey(r.Subject)
}

// Encode writes the revocation as JSON.
func (r Revocation) Encode() []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("encode revocation: %v", err)) // only strings and times
	}
	return b
}

// ParseRevocation is the reverse of Encode. It fails on what does not belong to the
// key, too.
func ParseRevocation(key string, data []byte) (Revocation, error) {
	var r Revocation
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("revocation %s: %w", key, err)
	}
	if (r.Subject == "") == (r.TokenID == "") || r.Key() != key {
		return r, fmt.Errorf("revocation %s: want the sub or the jti that the key is of", key)
	}
	if r.At.IsZero() || r.Until.IsZero() {
		return r, fmt.Errorf("revocation %s: want the times at and until", key)
	}
	return r, nil
}
