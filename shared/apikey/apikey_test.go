package apikey

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const one, two = "0123456789abcdef", "another-key-of-length"

func TestFind(t *testing.T) {
	var k Keys
	if err := k.Decode(" " + one + ", " + two); err != nil || k.Validate("X") != nil || k.Len() != 2 {
		t.Fatal(err, k.Validate("X"), k.Len())
	}
	f := func(key string, want int) {
		t.Helper()
		if got := k.Find(key); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
	f(one, 0)
	f(two, 1)
	f("", -1)
	f(one[:15], -1)
	f(one+"x", -1)
	f(strings.ToUpper(one), -1)
	f(one+","+two, -1)
	var none Keys
	if err := none.Decode("  "); err != nil || none.Len() != 0 || none.Find("") != -1 || none.Validate("X") != nil {
		t.Error("an empty setting has keys")
	}
}

// A wrong setting is told without the keys, and nothing prints them.
func TestKeysAreNotShown(t *testing.T) {
	f := func(value, want string) {
		t.Helper()
		var k Keys
		if err := k.Decode(value); err != nil {
			t.Errorf("%q: Decode: %v", value, err)
		}
		err := k.Validate("PUBLISHER_API_KEYS")
		if err == nil || !strings.HasPrefix(err.Error(), "PUBLISHER_API_KEYS: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", value, err, want)
			return
		}
		for key := range strings.SplitSeq(value, ",") {
			if len(key) > 3 && strings.Contains(err.Error(), key) {
				t.Errorf("%q: the error has the key: %v", value, err)
			}
		}
	}
	f("short", "key 1 of 1 has 5 bytes: want 16")
	f(one+",", "key 2 of 2 has 0 bytes")
	f(one+","+strings.Repeat("x", 257), "key 2 of 2 has 257 bytes")
	f(one+","+one, "key 2 of 2 is there twice")
	f("a key with blanks in it", "blank")
	f("schlüssel-mit-umlaut", "not ASCII")

	var k Keys
	_ = k.Decode(one)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", k)
	for _, text := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s", k, k, k), fmt.Sprintf("%v", struct{ K Keys }{k}), log.String()} {
		if strings.Contains(text, one) {
			t.Errorf("shown: %s", text)
		}
	}
}

func TestBearer(t *testing.T) {
	f := func(key string, missing, ok bool, fields ...string) {
		t.Helper()
		if k, m, o := Bearer(fields); k != key || m != missing || o != ok {
			t.Errorf("%q: %q %v %v", fields, k, m, o)
		}
	}
	f("", true, false)
	f(one, false, true, "Bearer "+one)
	f(one, false, true, "bearer  "+one+" ")
	f("", false, false, "")
	f("", false, false, "Bearer")
	f("", false, false, "Bearer ")
	f("", false, false, "Basic "+one)
	f("", false, false, one)
	f("", false, false, "Bearer "+one+" "+two)
	f("", false, false, "Bearer "+one, "Bearer "+two)
	f("", false, false, "Bearer "+strings.Repeat("x", 257))
}
