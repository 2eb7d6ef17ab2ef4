package main

import (
	"fmt"
	"strings"
	"testing"
)

// Tabs of one person share a connection, though each has a token of its own; nobody
// else's, and nobody's with other rights, shares it.
func TestClientPeople(t *testing.T) {
	p := newPages(t, 2, appSignedIn, "SSENODE_USER_CHANNELS=user:{claim.sub}")
	begin := func(token string, channels ...string) *tab {
		b := p.tab(t)
		b.begin(p.server, fmt.Sprintf(`{token: %q, onError: e => errors.push(e.message)}`, token), channels...)
		b.positioned()
		return b
	}
	connections := func(want float64) {
		t.Helper()
		if n := p.connections(); n != want {
			t.Errorf("%v connections, want %v", n, want)
		}
	}
	anna, again := begin(token(t, "anna", "jti", "1"), "user:anna"), begin(token(t, "anna", "jti", "2", "iat", 1), "user:anna")
	connections(1)
	admin := begin(token(t, "anna", "role", "admin"), "user:anna")
	connections(2)
	eve := begin(token(t, "eve"), "user:eve")
	connections(3)
	p.publish("user:anna", `{"event":"e","data":"to anna's admin","criteria":{"role":"admin"}}`)
	p.publish("user:anna", `"to anna"`)
	p.publish("user:eve", `"to eve"`)
	has := func(b *tab, want string) {
		t.Helper()
		b.until(fmt.Sprintf(`JSON.stringify(got.map(e => e.data)) === %q`, want))
	}
	has(anna, `["to anna"]`)
	has(again, `["to anna"]`)
	has(admin, `["to anna's admin","to anna"]`)
	has(eve, `["to eve"]`)
}

// Where there are no locks each tab has its own connection.
func TestClientPlainContext(t *testing.T) {
	p := newPages(t, 1)
	url := strings.Replace(p.origin.URL, "127.0.0.1", plainHost, 1)
	var tabs []*tab
	for range 2 {
		b := p.tabAt(t, url)
		b.until(`!isSecureContext && !navigator.locks`)
		b.begin(p.server, `{}`, "a")
		b.positioned()
		tabs = append(tabs, b)
	}
	if n := p.connections(); n != 2 {
		t.Errorf("%v connections", n)
	}
	p.publish("a", "1")
	for _, b := range tabs {
		b.until(`got.length === 1 && got[0].data === 1`)
	}
}
