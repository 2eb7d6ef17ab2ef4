package limits

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

// fields are the header fields of a request, as fasthttp gives them.
type fields map[string][]string

func (f fields) PeekAll(name string) (list [][]byte) {
	for _, value := range f[http.CanonicalHeaderKey(name)] {
		list = append(list, []byte(value))
	}
	return list
}

func proxies(t testing.TB, text string) *Proxies {
	t.Helper()
	var p Proxies
	if err := p.Decode(text); err != nil {
		t.Fatal(err)
	}
	return &p
}

func TestClient(t *testing.T) {
	p := proxies(t, "10.0.0.0/8, 192.0.2.1, fd00::/8")
	const older, newer = "X-Forwarded-For", "Forwarded"
	f := func(peer, want string, h fields) {
		t.Helper()
		if got := p.Client(netip.MustParseAddr(peer), h); got != netip.MustParseAddr(want) {
			t.Errorf("%s with %q: got %s, want %s", peer, h, got, want)
		}
	}
	// Who is no proxy is not believed.
	f("203.0.113.9", "203.0.113.9", fields{older: {"1.1.1.1"}, newer: {"for=1.1.1.1"}})
	f("192.0.2.2", "192.0.2.2", fields{older: {"1.1.1.1"}})
	f("fe80::1", "fe80::1", fields{newer: {"for=1.1.1.1"}})
	// A proxy is; what stands before its entry is not.
	f("10.0.0.1", "10.0.0.1", fields{})
	f("10.0.0.1", "1.1.1.1", fields{older: {"1.1.1.1"}})
	f("10.0.0.1", "2.2.2.2", fields{older: {"1.1.1.1, 2.2.2.2"}})
	f("10.0.0.1", "2.2.2.2", fields{older: {"1.1.1.1", "2.2.2.2"}})
	f("fd00::1", "2.2.2.2", fields{older: {"1.1.1.1,2.2.2.2 "}})
	// Several proxies.
	f("10.0.0.1", "2.2.2.2", fields{older: {"1.1.1.1, 2.2.2.2, 10.9.9.9, 192.0.2.1"}})
	f("10.0.0.1", "2.2.2.2", fields{older: {"1.1.1.1, 2.2.2.2", "10.9.9.9", "192.0.2.1"}})
	f("10.0.0.1", "10.2.0.0", fields{older: {"10.2.0.0, 10.9.9.9"}}) // all are
	f("10.0.0.1", "1.2.3.4", fields{older: {"1.2.3.4" + strings.Repeat(", 10.9.9.9", mostHops-1)}})
	f("10.0.0.1", "10.9.9.9", fields{older: {"1.2.3.4" + strings.Repeat(", 10.9.9.9", mostHops)}})
	// Forms of an address.
	f("10.0.0.1", "2.2.2.2", fields{older: {"2.2.2.2:4711"}})
	f("10.0.0.1", "2.2.2.2", fields{older: {"::ffff:2.2.2.2"}})
	f("10.0.0.1", "2001:db8::7", fields{older: {"2001:db8::7"}})
	f("10.0.0.1", "2001:db8::7", fields{older: {"[2001:db8::7]"}})
	f("10.0.0.1", "2001:db8::7", fields{older: {"[2001:db8::7]:443"}})
	// What cannot be read ends the walk at who has passed it on.
	for _, text := range []string{"", " ", "unknown", "_hidden", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:123456",
		"[1.2.3.4]", "[::1", "::1]", "[::1]443", "[::1]:", "fe80::1%eth0", "0.0.0.0", "::", "224.0.0.1", "1.2.3.4 5.6.7.8", `"1.2.3.4"`, "localhost", "\x00", "1.2.3.4;"} {
		f("10.0.0.1", "10.0.0.1", fields{older: {"3.3.3.3, " + text}})
		f("10.0.0.1", "10.7.7.7", fields{older: {"3.3.3.3," + text + ",10.7.7.7"}})
		f("10.0.0.1", "4.4.4.4", fields{older: {text + ", 4.4.4.4"}})
	}

	f("10.0.0.1", "1.1.1.1", fields{newer: {"for=1.1.1.1"}})
	f("10.0.0.1", "1.1.1.1", fields{newer: {"by=10.0.0.1; For=1.1.1.1 ;proto=http"}})
	f("10.0.0.1", "2.2.2.2", fields{newer: {"for=1.1.1.1, for=2.2.2.2;proto=https, for=10.3.3.3"}})
	f("10.0.0.1", "2.2.2.2", fields{newer: {"for=1.1.1.1,for=2.2.2.2", "for=10.3.3.3"}})
	f("10.0.0.1", "2001:db8::7", fields{newer: {`for="[2001:db8::7]:4711"`}})
	f("10.0.0.1", "2001:db8::7", fields{newer: {`for="[2001:db8::7]:_port"`}})
	f("10.0.0.1", "1.1.1.1", fields{newer: {`for="1\.1.1.1:80"`}})
	f("10.0.0.1", "1.1.1.1", fields{newer: {`for=1.1.1.1;host="a,b;for=3.3.3.3"`}})
	for _, text := range []string{"for=unknown", "for=_x", "proto=http", "", "for", "for=", "=1", `for="`, `for="1.2.3.4`, "for=1.2.3.4:80", "for=[::1]",
		"for=1.2.3.4;for=1.2.3.4", `for="1.2.3.4"x`, "for =1.2.3.4", "for= 1.2.3.4", `x="\`, `x="` + "\n" + `"`, "for=1.2.3.4 proto=http"} {
		f("10.0.0.1", "10.0.0.1", fields{newer: {text}})
		f("10.0.0.1", "10.0.0.1", fields{newer: {"for=3.3.3.3, " + text}})
		f("10.0.0.1", "10.7.7.7", fields{newer: {"for=3.3.3.3, " + text, "for=10.7.7.7"}})
		f("10.0.0.1", "4.4.4.4", fields{newer: {text, "for=4.4.4.4"}})
	}
	// An open quotation mark does not swallow what the proxy says.
	f("10.0.0.1", "10.0.0.1", fields{newer: {`for=3.3.3.3;x=", for="[2001:db8::7]"`}})
	f("10.0.0.1", "10.0.0.1", fields{newer: {`for=3.3.3.3;x=", for=4.4.4.4`}})

	// Both fields: a proxy sets one, and the other is whoever's.
	f("10.0.0.1", "1.1.1.1", fields{older: {"1.1.1.1"}, newer: {"for=1.1.1.1"}})
	f("10.0.0.1", "10.0.0.1", fields{older: {"1.1.1.1"}, newer: {"for=2.2.2.2"}})
	f("10.0.0.1", "10.0.0.1", fields{older: {"1.1.1.1"}, newer: {"nonsense"}})
}

func TestProxiesSetting(t *testing.T) {
	f := func(value, text string) {
		t.Helper()
		var p Proxies
		if err := p.Decode(value); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: got %v, want %q", value, err, text)
		}
	}
	f("10.0.0.0/8,x", `"x": want an address or a CIDR such as`)
	f("10.0.0.1/33", "want an address or a CIDR")
	f("fe80::1%eth0", "want an address or a CIDR")
	f("10.0.0.1/8", "want 10.0.0.0/8")
	f("0.0.0.0/0", "any client could name any address")
	f("::/0", "any client could name any address")
	f("::ffff:10.0.0.0/104", "want IPv4 addresses as such")
	p := proxies(t, " , ::ffff:10.0.0.1,,")
	if !p.Trusts(netip.MustParseAddr("10.0.0.1")) || p.Trusts(netip.MustParseAddr("10.0.0.2")) {
		t.Errorf("got %v", p.list)
	}
}

func TestKeyOf(t *testing.T) {
	f := func(a, b string, same bool) {
		t.Helper()
		if got := keyOf(netip.MustParseAddr(a)) == keyOf(netip.MustParseAddr(b)); got != same {
			t.Errorf("%s and %s count together: %v, want %v", a, b, got, same)
		}
	}
	f("1.2.3.4", "1.2.3.4", true)
	f("1.2.3.4", "::ffff:1.2.3.4", true)
	f("1.2.3.4", "1.2.3.5", false)
	f("2001:db8::1", "2001:db8::ffff:0:0:1", true)
	f("2001:db8::1", "2001:db8:0:1::1", false)
	f("fe80::1%a", "fe80::2%b", true)
}

// Whatever a client sends, it counts as itself or as the proxy it came through,
// never as somebody else; and who is no proxy is not believed at all.
func FuzzForwarded(f *testing.F) {
	for _, text := range []string{"", "1.1.1.1", "10.1.1.1", "for=1.1.1.1", `for=1.1.1.1;x="`, `for="[2001:db8::1]:80", for=_x`, `x="\`, ",,,", "[", "unknown, 10.0.0.1"} {
		f.Add(text, text)
		f.Add(text, "for=1.1.1.1")
	}
	var p Proxies
	if err := p.Decode("10.0.0.0/8"); err != nil {
		f.Fatal(err)
	}
	proxy, real4, real6 := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")
	const older, newer = "X-Forwarded-For", "Forwarded"
	f.Fuzz(func(t *testing.T, a, b string) {
		check := func(h fields, peer netip.Addr, allowed ...netip.Addr) {
			t.Helper()
			got := p.Client(peer, h)
			for _, want := range allowed {
				if got == want {
					return
				}
			}
			t.Errorf("%s with %q: got %s, want one of %s", peer, h, got, allowed)
		}
		check(fields{older: {a}, newer: {b}}, real4, real4)
		check(fields{older: {a + ", 198.51.100.7"}}, proxy, real4)
		check(fields{older: {a, "198.51.100.7, 10.2.2.2"}}, proxy, real4)
		check(fields{newer: {a, "for=198.51.100.7"}}, proxy, real4)
		check(fields{newer: {a, `for="[2001:db8::7]:80";proto=https`}}, proxy, real6)
		check(fields{newer: {a + `, for=198.51.100.7`}}, proxy, real4, proxy)
		check(fields{newer: {a + `, for="[2001:db8::7]:80";proto=https`}}, proxy, real6, proxy)
		check(fields{older: {a + ", 198.51.100.7"}, newer: {b}}, proxy, real4, proxy)
		check(fields{older: {a}, newer: {b, "for=198.51.100.7"}}, proxy, real4, proxy)
		if got := p.Client(proxy, fields{older: {a}, newer: {b}}); !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q, %q: got %s", a, b, got)
		}
	})
}
