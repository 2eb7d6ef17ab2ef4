package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice/publisher"
	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// postTo posts and returns status and body.
func postTo(t testing.TB, url, body string, header ...string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := plainClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(resp.StatusCode) + " " + strings.TrimSuffix(string(b), "\n")
}

// frontOf is a front of these programs' addresses.
func frontOf(t testing.TB, nodes []string, poster string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(ln, nodes, poster, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return "http://" + ln.Addr().String()
}

// The programs as they are deployed, behind a front: what a page posts to the host
// that it streams from reaches the clients of all nodes, under any name.
func TestPostedEvents(t *testing.T) {
	s := newSite(t, embedded.NATSProcessOptions{}, 2)
	poster := start(t, "publisher serve", "REDIS_URL="+s.redis.URL(), "PUBLISHER_ADDR=127.0.0.1:0", "PUBLISHER_DRAIN_DELAY=0s")
	addr := poster.says(`msg="publisher serves" addr=(\S+)`)
	until(t, "the publisher is ready", poster.ready)
	site := frontOf(t, []string{strings.TrimPrefix(s.url(0), "http://"), strings.TrimPrefix(s.url(1), "http://")}, addr)

	const ok = `200 {"success":true,"recipients":null}`
	post := func(want, path, body string) {
		t.Helper()
		if got := postTo(t, site+path, body, "Origin: "+site); !strings.HasPrefix(got, want) {
			t.Errorf("POST %.100s: got %.300s, want %s", path, got, want)
		}
	}
	for _, name := range []string{"a", "a/b", "//x/", "a b", "%2F", "..", "ü", "\xff", "*", ""} {
		st := openURL(t, site+"/events?channel="+url.QueryEscape(name))
		post(ok, "/publish/"+url.PathEscape(name), "to "+url.QueryEscape(name))
		want(t, st, "", "to "+url.QueryEscape(name))
		st.Close()
	}
	// A path that is not encoded, as curl sends it, is not "cleaned" on the way.
	st := openURL(t, site+"/events?channel="+url.QueryEscape("x//y/./z"))
	post(ok, "/publish/x//y/./z", "raw")
	want(t, st, "", "raw")
	st.Close()

	names := []string{"sse:broadcast", "sse:channel:c1", "sse:group:staff", "user:1"}
	st = openURL(t, site+"/events?channels="+strings.Join(names, ","))
	post(ok, "/broadcast", `{"event":"broadcast","data":"all"}`)
	want(t, st, "broadcast", `"all"`)
	post(ok, "/notify", `{"clientId":"c1","event":"notification","data":{"a":1}}`)
	want(t, st, "notification", `{"a":1}`)
	post(ok, "/notify", `{"group":"staff","event":"group-message","data":[]}`)
	want(t, st, "group-message", `[]`)
	post(`200 [{"success":true,"recipients":null},{"success":false,`, "/publish", `[{"channel":"user:1","data":"text"},{"channel":"user:1"}]`)
	want(t, st, "", "text")
	post(`200 [{"success":true,`, "/publish", `[{"channel":"user:1","event":"note","data":"text"}]`)
	want(t, st, "note", `"text"`)

	poster.stop()
	if got := postTo(t, site+"/notify", "{}"); !strings.HasPrefix(got, `502 {"error":"the publisher does not answer`) || !strings.Contains(got, `"success":false`) {
		t.Errorf("without a publisher: %s", got)
	}
}

// The largest payload that the publisher takes by default is the largest that the
// bridge does.
func TestPostedMaxPayload(t *testing.T) {
	s := newSite(t, embedded.NATSProcessOptions{}, 1)
	poster := start(t, "publisher serve", "REDIS_URL="+s.redis.URL(), "PUBLISHER_ADDR=127.0.0.1:0")
	site := "http://" + poster.says(`msg="publisher serves" addr=(\S+)`)
	until(t, "the publisher is ready", poster.ready)
	most := worker.Default[publisher.ServeConfig]().Publisher.MaxPayload
	st := s.open(0, "/events?channel=big")
	if got := postTo(t, site+"/publish/big", strings.Repeat("x", most+1)); !strings.HasPrefix(got, "413 ") {
		t.Errorf("%d bytes: %s", most+1, got)
	}
	if got := postTo(t, site+"/publish/big", strings.Repeat("y", most)); !strings.HasPrefix(got, "200 ") {
		t.Errorf("%d bytes: %s", most, got)
	}
	if ev := next(t, st); len(ev.Data) != most || ev.Data[0] != 'y' {
		t.Errorf("got %d bytes of %.1q", len(ev.Data), ev.Data)
	}
	s.publish("big", strings.Repeat("x", most+1))
	until(t, "the bridge refuses one byte more", func() bool { return s.bridge.metric("sluice_bridge_dropped_total") == 1 })
}
