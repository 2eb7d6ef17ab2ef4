package origin

import "testing"

func TestSites(t *testing.T) {
	f := func(want bool, origin, fetch, host string) {
		t.Helper()
		if got := (Site{origin, fetch, host}).Same(); got != want {
			t.Errorf("%q %q %q: %v", origin, fetch, host, got)
		}
	}
	f(true, "", "", "h")
	f(true, "", "none", "h")
	f(true, "https://h", "", "h")
	f(true, "https://h", "same-origin", "another")
	f(true, "https://H:8443", "", "h:8443")
	f(false, "https://h:8443", "", "h")
	f(false, "https://a.com", "", "h")
	f(false, "https://h", "cross-site", "h")
	f(false, "https://h", "same-site", "h")
	f(false, "", "cross-site", "h")
	f(false, "null", "", "")
	f(false, "null", "", "null")
	f(false, "://", "", "")
}
