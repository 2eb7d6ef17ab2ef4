package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// As a child process this binary is a worker, see TestSignals.
func TestMain(m *testing.M) {
	if os.Getenv("SLUICE_TEST_WORKER") != "" {
		spec(&worker{}).Main()
	}
	goleak.VerifyTestMain(m)
}

type config struct {
	Log  Log
	Test struct {
		Word  string        `default:"hello" desc:"a word"`
		Pause time.Duration `default:"3s" desc:"a pause"`
		Count int           `desc:"a number"`
	}
}

func (c *config) Validate() error {
	if c.Test.Word == "bad" {
		return errors.New(`TEST_WORD="bad": want another`)
	}
	return nil
}

// worker runs until its context ends, and then until hold is closed.
type worker struct {
	err  error
	hold chan struct{}
}

func (w *worker) Run(ctx context.Context) error {
	if w.err != nil {
		return w.err
	}
	say("running")
	<-ctx.Done()
	say("draining")
	if os.Getenv("SLUICE_TEST_WORKER") == "hold" {
		<-w.hold // nil: for ever
	}
	return nil
}

func spec(w Worker) Spec[config] {
	return Spec[config]{
		Name: "tester", About: "tests", Log: func(c *config) Log { return c.Log },
		New: func(c config, _ *slog.Logger) (Worker, error) {
			if c.Test.Count == 99 {
				return nil, errors.New("99 is taken")
			}
			return w, nil
		},
	}
}

func TestStart(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	f := func(w Worker, env map[string]string, args []string, code int, out, errText string) {
		t.Helper()
		for k, v := range env {
			t.Setenv(k, v)
		}
		var stdout, stderr bytes.Buffer
		got := spec(w).Start(ended, args, &stdout, &stderr)
		for k := range env {
			os.Unsetenv(k)
		}
		if got != code || !strings.Contains(stdout.String(), out) || !strings.Contains(stderr.String(), errText) {
			t.Errorf("%v %v: code %d, stdout %q, stderr %q", env, args, got, stdout.String(), stderr.String())
		}
	}
	f(&worker{}, nil, nil, ExitOK, "", "stopped")
	f(&worker{err: errors.New("broke")}, nil, nil, ExitFailed, "", "broke")
	f(nil, nil, []string{"-h"}, ExitOK, "TEST_PAUSE  3s       a pause", "")
	f(nil, nil, []string{"-version"}, ExitOK, "tester ", "")
	f(nil, nil, []string{"-x"}, ExitSettings, "", "-h lists")
	f(nil, nil, []string{"x"}, ExitSettings, "", `takes no argument but health or ready, got "x"`)
	f(nil, map[string]string{"TEST_PAUSE": "soon"}, nil, ExitSettings, "", `TEST_PAUSE="soon": want a duration`)
	f(nil, map[string]string{"TEST_COUNT": "many"}, nil, ExitSettings, "", `TEST_COUNT="many": want a whole number`)
	f(nil, map[string]string{"TEST_WORD": "bad"}, nil, ExitSettings, "", `TEST_WORD="bad": want another`)
	f(nil, map[string]string{"LOG_LEVEL": "loud"}, nil, ExitSettings, "", `LOG_LEVEL="loud"`)
	f(nil, map[string]string{"LOG_FORMAT": "xml"}, nil, ExitSettings, "", `LOG_FORMAT="xml"`)
	f(nil, map[string]string{"TEST_COUNT": "99"}, nil, ExitSettings, "", "99 is taken")
	f(&worker{}, map[string]string{"TEST_WROD": "x", "TEST_PORT": "tcp://1.2.3.4", "TEST_SERVICE_HOST": "x"}, nil, ExitOK, "", "setting=TEST_WROD")
}

func TestDefaults(t *testing.T) {
	t.Setenv("TEST_WORD", "from the environment")
	if c := Default[config](); c.Test.Word != "hello" || c.Test.Pause != 3*time.Second || c.Log.Level != "info" {
		t.Errorf("%+v", c)
	}
	c, err := Load[config]()
	if err != nil || c.Test.Word != "from the environment" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestSettingsTable(t *testing.T) {
	table := SettingsTable[config]()
	if !strings.HasSuffix(table, "| `TEST_PAUSE` | `3s` | a pause |\n| `TEST_COUNT` |  | a number |\n") {
		t.Errorf("the table is\n%s", table)
	}
}

// The first signal drains, the second one ends the process at once.
func TestSignals(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(mode string) (*exec.Cmd, *lines) {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "SLUICE_TEST_WORKER="+mode)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd, &lines{r: out}
	}
	cmd, out := start("end")
	out.await(t, "running")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	out.await(t, "draining")
	if err := cmd.Wait(); err != nil {
		t.Errorf("one signal: %v", err)
	}
	cmd, out = start("hold")
	out.await(t, "running")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	out.await(t, "draining")
	// The handler is taken away by a goroutine: until then a signal is swallowed.
	stop := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer stop.Stop()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
				t.Errorf("two signals: %v", err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type lines struct {
	r    io.Reader
	text string
}

func (l *lines) await(t *testing.T, word string) {
	t.Helper()
	b := make([]byte, 256)
	for !strings.Contains(l.text, word) {
		n, err := l.r.Read(b)
		l.text += string(b[:n])
		if err != nil {
			t.Fatalf("no %q in %q: %v", word, l.text, err)
		}
	}
}

func TestAdmin(t *testing.T) {
	var why error
	a, err := NewAdmin("127.0.0.1:0", "tester", func() error { return why }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	f := func(path string, status int, text string) {
		t.Helper()
		resp, err := client.Get("http://" + a.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != status || !strings.Contains(string(b), text) {
			t.Errorf("%s: %d %s", path, resp.StatusCode, b)
		}
	}
	f("/healthz", 200, "ok")
	f("/readyz", 200, "ready")
	f("/metrics", 200, `sluice_build_info{`)
	f("/debug/pprof/goroutine?debug=1", 200, "goroutine profile")
	f("/other", 404, "")
	why = errors.New("not connected to NATS")
	f("/readyz", 503, "not connected to NATS")
	_, err = NewAdmin(a.Addr().String(), "tester", nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "ADMIN_ADDR=") || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("taken port: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", a.Addr().String()); err == nil {
		t.Error("port is still open")
	}
}

// say tells the parent of a child process how far it is.
func say(text string) {
	if os.Getenv("SLUICE_TEST_WORKER") != "" {
		fmt.Println(text)
	}
}
