package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/sseclient"
)

// What breaks off without an answer is asked of another node if it is a GET, and never
// if it is a POST. When no node answers, an EventSource is told to come back.
func TestBalancersRetry(t *testing.T) {
	for _, name := range balancers {
		t.Run(name, func(t *testing.T) {
			embedded.NeedProgram(t, name)
			var gets, posts atomic.Int64
			broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/readyz":
					return
				case r.Method == http.MethodPost:
					_, _ = io.Copy(io.Discard, r.Body)
					posts.Add(1)
				default:
					gets.Add(1)
				}
				panic(http.ErrAbortHandler)
			}))
			t.Cleanup(broken.Close)
			addr := broken.Listener.Addr().String()
			all := []string{addr, addr, addr}
			b := newBalancer(t, name, all, all, addr)
			client := b.client(true, "127.0.0.1")
			for _, path := range []string{"/subscribe", "/publish/a", "/broadcast"} {
				posts.Store(0)
				if got := postBy(t, client, b.url+path+"?token="+secret, "{}"); got[0] != '5' || !strings.Contains(got, `"error":`) {
					t.Errorf("POST %s: %s", path, got)
				}
				if n := posts.Load(); n != 1 {
					t.Errorf("POST %s was sent %d times", path, n)
				}
			}
			// HAProxy says so only on a connection's first request. On others, and by HTTP/2,
			// it breaks off itself, after which an EventSource comes back, too.
			sentBack(t, b, b.client(false, "127.0.0.1"))
			if n := gets.Load(); n < 2 {
				t.Errorf("GET was tried %d times", n)
			}
			broken.Close() // now nobody is there at all
			until(t, "it is noticed", func() bool {
				c, err := net.Dial("tcp", addr)
				if err == nil {
					c.Close()
				}
				return err != nil
			})
			sentBack(t, b, client)
			if got := postBy(t, client, b.url+"/notify?token="+secret, "{}"); !strings.HasPrefix(got, "503 {") || !strings.Contains(got, `"success":false`) {
				t.Errorf("without a publisher: %s", got)
			}
			until(t, "it is logged", func() bool { return strings.Contains(b.Output(), "/notify ") })
		})
	}
}

// sentBack demands that an EventSource of any page is sent away for a moment only.
func sentBack(t *testing.T, b *balancer, client *http.Client) {
	t.Helper()
	st, err := sseclient.Open(t.Context(), b.url+"/events?channel=a&token="+secret, sseclient.Options{Client: client, Header: http.Header{"Origin": {"https://page.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	ev, err := st.NextWithin(wait)
	if err != nil || !ev.HasRetry || ev.Retry < time.Second || ev.Retry > 3*time.Second || ev.HasID || ev.HasData {
		t.Errorf("got %+v, %v", ev, err)
	}
	if _, err := st.NextWithin(wait); !errors.Is(err, io.EOF) {
		t.Errorf("the answer does not end: %v", err)
	}
	if got := st.Header().Get("Access-Control-Allow-Origin"); got != "https://page.example" {
		t.Errorf("its page may not read it: %q", got)
	}
}
