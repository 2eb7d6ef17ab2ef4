package auth

import "testing"

func TestCookieSites(t *testing.T) {
	var s Settings
	if err := s.Origins.Decode("https://a.com"); err != nil {
		t.Fatal(err)
	}
	f := func(want bool, from, fetch, host string) {
		t.Helper()
		if got := s.mayUseCookie(Site{Origin: from, Fetch: fetch, Host: host}); got != want {
			t.Errorf("%q %q %q: %v", from, fetch, host, got)
		}
	}
	f(true, "", "", "h")
	f(true, "https://h", "", "h")
	f(true, "https://H:8443", "", "h:8443")
	f(false, "https://h:8443", "", "h")
	f(false, "https://a.com", "", "h") // named, but without credentials
	f(false, "https://h", "cross-site", "h")
	f(false, "", "cross-site", "h")
	f(false, "null", "", "")
	f(false, "null", "", "null")
	f(false, "://", "", "")
	s.Credentials = true
	f(true, "https://a.com", "cross-site", "h")
	f(false, "https://b.com", "cross-site", "h")
}
