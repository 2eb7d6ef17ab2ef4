package auth

import (
	"strings"

	"sluice/shared/apikey"
)

// TakesKeys tells whether there are any.
func (g *Guard) TakesKeys() bool { return g.s.APIKeys.Len() > 0 }

// HasKey tells whether a request's Authorization fields bring one of SSENODE_API_KEYS.
// How long it takes tells nothing of them.
func (g *Guard) HasKey(authorization []string) bool {
	key, _, ok := apikey.Bearer(authorization)
	return ok && g.s.APIKeys.Find(key) >= 0
}

// SeesPresence tells whether the token lets its bearer see who is there.
func (id *Identity) SeesPresence() bool {
	v, _ := id.Claims["presence"].(bool)
	return v
}

// SubjectOf is the subject whose clientId this is, if its form tells: see PathSafe.
func SubjectOf(clientID string) (subject string, ok bool) {
	var b []byte
	for i := 0; i < len(clientID) && clientID[i] != '.'; i++ {
		c := clientID[i]
		if c == '~' {
			if c, ok = unhex(clientID[i+1:]); !ok {
				return "", false
			}
			i += 2
		}
		b = append(b, c)
	}
	return string(b), len(b) > 0
}

const upperHex = "0123456789ABCDEF"

// unhex reads two upper-case hexadecimal digits.
func unhex(s string) (c byte, ok bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi, lo := strings.IndexByte(upperHex, s[0]), strings.IndexByte(upperHex, s[1])
	return byte(hi<<4 | lo), hi >= 0 && lo >= 0
}
