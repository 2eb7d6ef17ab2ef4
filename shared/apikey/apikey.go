// Package apikey is the setting that holds the bearer keys of an HTTP API, and
// the check of a request against them. The keys themselves are not kept: only
// their SHA-256 sums, so that nothing that prints settings can print a key.
package apikey

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of a key in bytes: a shorter one can be guessed, a longer one does not
// belong into a header field.
const (
	MinLength = 16
	MaxLength = 256
)

// Keys is a setting: keys, separated by commas. The zero value has none.
type Keys struct {
	sums    [][sha256.Size]byte
	mistake string // of the value, for Validate
}

// Decode takes the setting's value; it makes Keys a field that envconfig can
// fill. It never fails: whoever reports its error would quote the keys. See
// Validate.
func (k *Keys) Decode(value string) error {
	*k = Keys{}
	if strings.TrimSpace(value) == "" {
		return nil
	}
	list := strings.Split(value, ",")
	for i, key := range list {
		key = strings.TrimSpace(key)
		where := fmt.Sprintf("key %d of %d", i+1, len(list))
		switch {
		case len(key) < MinLength || len(key) > MaxLength:
			k.mistake = fmt.Sprintf("%s has %d bytes: want %d to %d, for example what `openssl rand -hex 24` prints", where, len(key), MinLength, MaxLength)
		case !legal(key):
			k.mistake = where + " has a blank, a control character or one that is not ASCII: want A-Z a-z 0-9 and signs"
		case k.Find(key) >= 0:
			k.mistake = where + " is there twice"
		}
		k.sums = append(k.sums, sha256.Sum256([]byte(key)))
	}
	return nil
}

func legal(key string) bool {
	for _, r := range key {
		if r <= ' ' || r >= utf8.RuneSelf-1 {
			return false
		}
	}
	return true
}

// Validate says what is wrong with the value, without quoting any of it; setting
// is the name of the variable.
func (k *Keys) Validate(setting string) error {
	if k.mistake != "" {
		return fmt.Errorf("%s: %s", setting, k.mistake)
	}
	return nil
}

// Len is how many keys there are.
func (k *Keys) Len() int { return len(k.sums) }

// Find returns the place of a key in the list, from 0, or -1. It takes as long
// for one key as for another: all are compared, by their sums.
func (k *Keys) Find(key string) int {
	sum, at := sha256.Sum256([]byte(key)), -1
	for i := range k.sums {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(k.sums[i][:], sum[:]), i, at)
	}
	return at
}

// String is what prints instead of the keys.
func (k Keys) String() string { return fmt.Sprintf("[%d keys]", len(k.sums)) }

// Bearer takes the key out of the values of the Authorization fields of a
// request. missing: there is none; otherwise, without ok, it cannot be read.
func Bearer(fields []string) (key string, missing, ok bool) {
	if len(fields) == 0 {
		return "", true, false
	}
	scheme, key, found := strings.Cut(strings.TrimSpace(fields[0]), " ")
	key = strings.TrimSpace(key)
	if len(fields) > 1 || !found || !strings.EqualFold(scheme, "Bearer") || key == "" || len(key) > MaxLength || !legal(key) {
		return "", false, false
	}
	return key, false, true
}
