package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/publisher"
	"sluice/shared/certs"
	"sluice/shared/embedded"
	"sluice/shared/sseclient"
	"sluice/shared/worker"
)

func TestMain(m *testing.M) {
	if isChild() {
		os.Exit(childMain(os.Args[2]))
	}
	embedded.TestsAtOnce(4, 1)
	code := m.Run()
	if dir, err := binaries(); err == nil {
		os.RemoveAll(dir)
	}
	if code == 0 {
		plainClient.CloseIdleConnections()
		if err := goleak.Find(
			// See ssenode's tests.
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
			goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

func localConfig() config {
	cfg := worker.Default[config]()
	cfg.Log.Level = "error" // of the children
	cfg.Local.Addr, cfg.Local.RedisAddr, cfg.Local.NATSAddr = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:-1"
	return cfg
}

// runLocal starts it all and returns what ends it, once or more.
func runLocal(t *testing.T, cfg config, out io.Writer) (*local, func()) {
	t.Helper()
	l, err := newLocal(cfg, slog.New(slog.DiscardHandler), out)
	if err != nil {
		t.Fatal(err)
	}
	return l, embedded.TestRun(t, l.Run)
}

// Everything with one command: the page, the simulations, both nodes behind the
// front, and what is published in the embedded Redis.
func TestLocal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l, stop := runLocal(t, localConfig(), &out)
	site := "http://" + l.front.ln.Addr().String()
	until(t, "the front answers", func() bool { code, _ := fetch(t, site+"/version"); return code == http.StatusOK })
	for path, text := range map[string]string{"/": "<title>", "/demo/demo.js": "page.js", "/demo/page.js": "Sluice", "/demo/demo.css": "color-scheme"} {
		if code, body := fetch(t, site+path); code != 200 || !strings.Contains(body, text) {
			t.Errorf("%s: %d", path, code)
		}
	}
	if code, body := fetch(t, site+"/events?wrap=2"); code != 400 || !strings.Contains(body, `{"error":`) {
		t.Errorf("a node's error through the front: %d %s", code, body)
	}
	greetings := ""
	var streams []*sseclient.Stream
	for range 4 {
		st, err := sseclient.Open(t.Context(), site+"/events?channel=mine&channel=stocks:SLCE", sseclient.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		greetings += next(t, st).Data
		streams = append(streams, st)
	}
	if !strings.Contains(greetings, `"node":"node1"`) || !strings.Contains(greetings, `"node":"node2"`) {
		t.Errorf("the front does not spread connections: %s", greetings)
	}
	client, err := publisher.Open(l.redisURL, certs.Client{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	until(t, "the bridge mirrors", func() bool {
		code, _ := fetch(t, "http://"+l.bridges[0].hello.Admin+"/readyz")
		return code == 200
	})
	if err := client.Publish(t.Context(), "mine", "hello").Err(); err != nil {
		t.Fatal(err)
	}
	for _, st := range streams {
		mine, simulated := false, false
		for !mine || !simulated {
			ev := next(t, st)
			mine = mine || ev.Data == "hello"
			simulated = simulated || strings.Contains(ev.Data, `"symbol":"SLCE"`)
		}
	}
	if got := postTo(t, site+"/publish/mine", "through the front", "Origin: "+site); !strings.HasPrefix(got, `200 {"success":true,"recipients":`) {
		t.Fatalf("a page's POST through the front: %s", got)
	}
	if got := postTo(t, site+"/publish/mine", "forged", "Origin: http://evil.example"); !strings.HasPrefix(got, "403 ") {
		t.Errorf("a foreign page's POST through the front: %s", got)
	}
	for _, st := range streams {
		// Between the simulation's, which never end.
		for limit := time.Now().Add(wait); next(t, st).Data != "through the front"; {
			if time.Now().After(limit) {
				t.Fatal("what was posted does not come")
			}
		}
	}
	stop()
	for _, text := range []string{"curl -d ", site + "/publish/race-events:demo", "curl -N '" + site, "redis-cli -u " + l.redisURL + " publish", "publisher send", l.redisURL, l.natsURL} {
		if !strings.Contains(out.String(), text) {
			t.Errorf("it does not print %q: %s", text, out.String())
		}
	}
}

// A taken port is an error that names the setting, and nothing is left running.
func TestTakenPorts(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	f := func(change func(*config, string), setting string) {
		t.Helper()
		cfg := localConfig()
		change(&cfg, taken.Addr().String())
		l, err := newLocal(cfg, slog.New(slog.DiscardHandler), &bytes.Buffer{})
		if err == nil {
			l.close()
			t.Fatalf("%s: a taken port was accepted", setting)
		}
		if !strings.HasPrefix(err.Error(), setting+"=") || !strings.Contains(err.Error(), "set "+setting) {
			t.Errorf("%s: %v", setting, err)
		}
		if setting != "LOCAL_NATS_ADDR" && !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: the cause is lost: %v", setting, err)
		}
	}
	f(func(c *config, addr string) { c.Local.Addr = addr }, "LOCAL_ADDR")
	f(func(c *config, addr string) { c.Local.RedisAddr = addr }, "LOCAL_REDIS_ADDR")
	f(func(c *config, addr string) { c.Local.NATSAddr = addr }, "LOCAL_NATS_ADDR")
}

// No worker's binary contains the servers of the tests, and no worker imports
// another.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, worker := range []string{"bridge", "ssenode", "publisher"} {
		for _, dep := range deps(t, "sluice/"+worker+"/cmd/"+worker) {
			other := strings.SplitN(strings.TrimPrefix(dep, "sluice/"), "/", 2)[0]
			if strings.HasPrefix(dep, "sluice/shared/embedded") || strings.Contains(dep, "nats-server") || strings.Contains(dep, "miniredis") ||
				strings.HasPrefix(dep, "sluice/") && other != worker && other != "shared" {
				t.Errorf("%s contains %s", worker, dep)
			}
		}
	}
}
