package origin

import (
	"net/url"
	"strings"
	"testing"
)

func TestOrigins(t *testing.T) {
	f := func(setting, origin string, want bool) {
		t.Helper()
		var o List
		if err := o.Decode(setting); err != nil {
			t.Errorf("%q: %v", setting, err)
			return
		}
		if got := o.Allows(origin); got != want {
			t.Errorf("%q: %q is allowed: %v", setting, origin, got)
		}
	}
	f("*", "https://a.com", true)
	f("*", "null", true)
	f("", "https://a.com", false)
	f("https://a.com", "https://a.com", true)
	f("HTTPS://A.com:443", "https://a.com", true)
	f("http://a.com:80", "http://a.com", true)
	f("https://a.com:80", "https://a.com:80", true)
	f("https://a.com", "http://a.com", false)
	f("https://a.com", "https://a.com:8443", false)
	f("https://a.com", "https://b.a.com", false)
	f("https://a.com", "https://a.com.b.com", false)
	f("https://a.com", "", false)
	f("https://a.com", "null", false)
	f("http://localhost:3000", "http://localhost:3000", true)
	f("http://[::1]:3000", "http://[::1]:3000", true)
	f("capacitor://localhost", "capacitor://localhost", true)
	f("https://a.com, https://*.b.com", "https://x.b.com", true)
	f("https://*.b.com", "https://x.y.b.com", true)
	f("https://*.b.com:8443", "https://x.b.com:8443", true)
	f("https://*.b.com:8443", "https://x.b.com", false)
	f("https://*.b.com", "https://b.com", false)
	f("https://*.b.com", "https://.b.com", false)
	f("https://*.b.com", "https://x..b.com", false)
	f("https://*.b.com", "https://xb.com", false)
	f("https://*.b.com", "https://evil.com/.b.com", false)
	f("https://*.b.com", "https://evil.com#.b.com", false)
	f("https://*.b.com", "https://evil.com:1.b.com", false)
	f("https://*.b.com", "https://u@x.b.com", false)
	f("https://*.b.com", "https://x.b.com\r\nA: b", false)
	f("https://*.b.com", "https://a\r\nb.b.com", false)
	f("https://*.b.com", "http://x.b.com", false)
	f("https://*.b.com", "https://*.b.com", false)

	g := func(setting string) {
		t.Helper()
		var o List
		if err := o.Decode(setting); err == nil || !strings.Contains(err.Error(), "want one such as") {
			t.Errorf("%q: %v", setting, err)
		}
	}
	for _, bad := range []string{"a.com", "https://", "https://a.com/", "https://a.com/x", "https://a.com?x", "https://a.com#", "https://u@a.com", "null",
		"https://*", "https://*.", "https://a.*.com", "https://*a.com", "https://*.*.com", "https://ü.com", "*.a.com", "https://:1", "https://a b.com"} {
		g(bad)
	}
}

// What is allowed under a wildcard is an origin whose host ends in the name.
func FuzzOrigin(f *testing.F) {
	for _, o := range []string{"https://x.b.com", "https://b.com", "https://x.b.com:1", "https://evil.com/.b.com", "https://a\r\n.b.com", "null", "https://x.b.com."} {
		f.Add("https://*.b.com", o)
	}
	f.Add("https://a.com:443,http://*.x", "https://a.com")
	f.Fuzz(func(t *testing.T, setting, origin string) {
		var o List
		if o.Decode(setting) != nil || o.any || !o.Names(origin) {
			return
		}
		if strings.ContainsAny(origin, "\r\n ,*") {
			t.Fatalf("%q allows %q", setting, origin)
		}
		u, err := url.Parse(origin)
		if err != nil {
			return // one that is spelled out; net/url knows fewer than browsers
		}
		if u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Host == "" {
			t.Fatalf("%q allows %q", setting, origin)
		}
		if o.exact[origin] {
			return
		}
		for _, d := range o.under {
			if strings.HasPrefix(origin, d.scheme) && strings.HasSuffix(u.Host, d.rest) && strings.HasPrefix(d.rest, ".") {
				return
			}
		}
		t.Fatalf("%q allows %q", setting, origin)
	})
}
