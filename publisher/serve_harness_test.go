package publisher

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/shared/embedded"
	"sluice/shared/worker"
)

// api is a running server and a client of it.
type api struct {
	t   testing.TB
	s   *Server
	log *embedded.Lines
	end func() // the context of Run
	ran chan struct{}
}

// serveWith starts a server, without waiting for Redis.
func serveWith(t testing.TB, redisURL string, change func(*ServeConfig), who audience) *api {
	t.Helper()
	cfg := worker.Default[ServeConfig]()
	cfg.Redis.URL, cfg.Admin.Addr, cfg.Publisher.Addr = redisURL, "127.0.0.1:0", "127.0.0.1:0"
	cfg.Publisher.DrainDelay, cfg.Publisher.NATS = 0, false
	if change != nil {
		change(&cfg)
	}
	a := &api{t: t, log: &embedded.Lines{}, ran: make(chan struct{})}
	var err error
	if a.s, err = New(cfg, a.log.Logger(slog.LevelDebug)); err != nil {
		t.Fatal(err)
	}
	a.s.audience = who
	ctx, cancel := context.WithCancel(context.Background())
	a.end = cancel
	go func() {
		defer close(a.ran)
		if err := a.s.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { cancel(); <-a.ran })
	return a
}

// serve starts a server on a Redis and waits until it answers.
func serve(t testing.TB, redisURL string, change func(*ServeConfig)) *api {
	t.Helper()
	a := serveWith(t, redisURL, change, nil)
	a.ready()
	return a
}

func (a *api) ready() {
	a.t.Helper()
	embedded.Eventually(a.t, "the server is ready", patience, func() bool { return a.s.ready() == nil })
}

// admin asks the admin port.
func (a *api) admin(path string) (int, string) {
	a.t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+a.s.AdminAddr().String()+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	return do(a.t, req)
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	body   string
}

// noReuse: a connection for each request, so that none is left behind.
var noReuse = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}

// send sends any request; header fields are "Name: value".
func (a *api) send(method, path, body string, header ...string) reply {
	a.t.Helper()
	req, err := http.NewRequest(method, "http://"+a.s.Addr().String()+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	resp, err := noReuse.Do(req)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, strings.TrimSuffix(string(b), "\n")}
}

func (a *api) post(path, body string, header ...string) reply {
	a.t.Helper()
	return a.send(http.MethodPost, path, body, header...)
}

// want posts and compares the answer.
func (a *api) want(status int, answer, path, body string, header ...string) reply {
	a.t.Helper()
	r := a.post(path, body, header...)
	if r.status != status || !strings.Contains(r.body, answer) {
		a.t.Errorf("POST %.100s %.200s: got %d %.300s, want %d %s", path, body, r.status, r.body, status, answer)
	}
	if status != http.StatusNoContent && r.header.Get("Content-Type") != "application/json" {
		a.t.Errorf("POST %.100s: Content-Type %q", path, r.header.Get("Content-Type"))
	}
	return r
}

func (a *api) refused(w why) uint64 { return a.s.stats.refused[w].Load() }

const published = `{"success":true,"recipients":null}`

// gets compares the next message with what was published.
func (s *subscriber) gets(channel, payload string) {
	s.t.Helper()
	if m := s.next(); m.Channel != channel || m.Payload != payload {
		s.t.Fatalf("got %.200q on %.100q, want %.200q on %.100q", m.Payload, m.Channel, payload, channel)
	}
}

// conversations is how many pipelines Redis has answered.
func (a *api) conversations() uint64 {
	a.t.Helper()
	families, err := a.s.admin.Registry.Gather()
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "sluice_publisher_redis_seconds" {
			return f.GetMetric()[0].GetHistogram().GetSampleCount()
		}
	}
	a.t.Fatal("no such metric")
	return 0
}

// wantRaw sends bytes and compares the answer, after which the connection ends.
func (a *api) wantRaw(status int, answer, text string) {
	a.t.Helper()
	if r := a.raw(text); r.status != status || !strings.Contains(r.body, answer) {
		a.t.Errorf("%q: got %+v, want %d %s", text, r, status, answer)
	}
}

// raw sends bytes and reads the answer, after which the connection ends.
func (a *api) raw(text string) reply {
	a.t.Helper()
	c, err := net.Dial("tcp", a.s.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		a.t.Fatal(err)
	}
	all, err := io.ReadAll(c)
	if err != nil {
		a.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil)
	if err != nil {
		a.t.Fatalf("%q: %q: %v", text, all, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, strings.TrimSuffix(string(b), "\n")}
}
