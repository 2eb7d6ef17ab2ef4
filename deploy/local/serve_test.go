package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sluice/publisher"
	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// postTo posts and returns status and body.
func postTo(t testing.TB, url, body string, header ...string) string {
	t.Helper()
	return postBy(t, plainClient, url, body, header...)
}

func postBy(t testing.TB, client *http.Client, url, body string, header ...string) string {
	t.Helper()
	code, text := request(t, client, http.MethodPost, url, body, header...)
	return strconv.Itoa(code) + " " + strings.TrimSuffix(text, "\n")
}

func request(t testing.TB, client *http.Client, method, url, body string, header ...string) (code int, text string) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// poster starts `publisher serve`, and tells where it is when it is ready.
func (s *site) poster() (p *proc, addr string) {
	s.t.Helper()
	p = start(s.t, "publisher serve", "REDIS_URL="+s.redis.URL(), "NATS_URL="+s.nats.URL(), "PUBLISHER_ADDR=127.0.0.1:0", "PUBLISHER_DRAIN_DELAY=0s")
	until(s.t, "the publisher is ready", p.ready)
	return p, p.says(`msg="publisher serves" addr=(\S+)`)
}

// frontOf is a front of these programs' addresses.
func frontOf(t testing.TB, nodes []string, poster string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(ln, nodes, poster, slog.New(slog.DiscardHandler))
	embedded.TestRun(t, f.run)
	return "http://" + ln.Addr().String()
}

// The programs as they are deployed, behind a front: what a page posts to the host
// that it streams from reaches the clients of all nodes, under any name.
func TestPostedEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t, embedded.NATSProcessOptions{}, 2)
	poster, addr := s.poster()
	site := frontOf(t, s.addrs(), addr)

	const ok = `200 {"success":true,"recipients":1}`
	number := regexp.MustCompile(`"recipients":\d+`)
	posts, late := 0, 0
	post := func(want, path, body string) {
		t.Helper()
		posts++
		got := postTo(t, site+path, body, "Origin: "+site)
		if unknown := number.ReplaceAllString(want, `"recipients":null`); unknown != want && strings.HasPrefix(got, unknown) {
			late++ // a node has not answered in time: this machine has other work, too
		} else if !strings.HasPrefix(got, want) {
			t.Errorf("POST %.100s: got %.300s, want %s", path, got, want)
		}
	}
	until(t, "the publisher knows the nodes", func() bool {
		return postTo(t, site+"/publish/nobody", "") == `200 {"success":true,"recipients":0}`
	})
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
	post(`200 [{"success":true,"recipients":1},{"success":false,`, "/publish", `[{"channel":"user:1","data":"text"},{"channel":"user:1"}]`)
	want(t, st, "", "text")
	post(`200 [{"success":true,`, "/publish", `[{"channel":"user:1","event":"note","data":"text"}]`)
	want(t, st, "note", `"text"`)

	for i := range 2 { // one of each node's
		other := s.open(i, "/events?channel=sse:broadcast&channel=sse:broadcast&pattern=sse:*")
		post(fmt.Sprintf(`200 {"success":true,"recipients":%d}`, i+2), "/broadcast", `{"event":"broadcast","data":"all"}`)
		want(t, other, "broadcast", `"all"`)
	}
	post(`200 {"success":true,"recipients":null}`, "/broadcast?recipients=0", `{"event":"broadcast","data":"all"}`)
	post(`200 {"success":true,"recipients":0}`, "/notify", `{"channel":"user:1","event":"e","data":1,"criteria":{"role":"admin"}}`)
	post(`404 `, "/revoke", `{"sub":"1","for":"1h"}`) // not for whoever reaches the front
	if late > posts/2 {
		t.Errorf("the recipients of %d of %d posts were not counted", late, posts)
	}

	poster.stop()
	if got := postTo(t, site+"/notify", "{}"); !strings.HasPrefix(got, `502 {"error":"the publisher does not answer`) || !strings.Contains(got, `"success":false`) {
		t.Errorf("without a publisher: %s", got)
	}
}

// The largest payload that the publisher takes by default is the largest that the
// bridge does.
func TestPostedMaxPayload(t *testing.T) {
	t.Parallel()
	s := newSite(t, embedded.NATSProcessOptions{}, 1)
	poster := start(t, "publisher serve", "REDIS_URL="+s.redis.URL(), "PUBLISHER_ADDR=127.0.0.1:0", "PUBLISHER_NATS=false")
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
