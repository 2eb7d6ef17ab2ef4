package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// longestForm is how long the path-safe form of a subject gets; a clientId has
// 64 bytes, of which some are for what distinguishes a subject's clients.
const longestForm = 40

// PathSafe is the form of a subject in clientIds: letters, digits, `_` and `-`
// stand for themselves, any other byte is `~` and two upper-case hexadecimal
// digits; a form longer than 40 bytes is `~~` and 32 digits of the subject's
// SHA-256. No two subjects share a form, and none has a dot: what follows one in
// a clientId is not the subject's.
func PathSafe(subject string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(subject) {
		switch c := subject[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-':
			b.WriteByte(c)
		default:
			b.Write([]byte{'~', digits[c>>4], digits[c&15]})
		}
		if b.Len() > longestForm {
			sum := sha256.Sum256([]byte(subject))
			return "~~" + strings.ToUpper(hex.EncodeToString(sum[:16]))
		}
	}
	return b.String()
}

// Owns tells whether a clientId is one of the subject's: its path-safe form,
// alone or followed by a dot and anything.
func (id *Identity) Owns(clientID string) bool {
	if id == nil || id.Subject == "" {
		return false
	}
	rest, ok := strings.CutPrefix(clientID, PathSafe(id.Subject))
	return ok && (rest == "" || rest[0] == '.')
}
