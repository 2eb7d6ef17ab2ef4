package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

// A program asks another one of its kind on ADMIN_ADDR, and says what is wrong.
func TestAsk(t *testing.T) {
	var why error
	a, err := NewAdmin("127.0.0.1:0", "tester", func() error { return why }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.State = func() string { return "leader" }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	f := func(addr, question string, code int, out, errText string) {
		t.Helper()
		t.Setenv("ADMIN_ADDR", addr)
		var stdout, stderr bytes.Buffer
		got := spec(nil).Start(t.Context(), []string{question}, &stdout, &stderr)
		if got != code || stdout.String() != out || !strings.Contains(stderr.String(), errText) || (errText == "") != (stderr.Len() == 0) {
			t.Errorf("%s %s: code %d, stdout %q, stderr %q", addr, question, got, stdout.String(), stderr.String())
		}
	}
	addr := a.Addr().String()
	_, port, _ := strings.Cut(addr, ":")
	f(addr, "health", ExitOK, "ok\n", "")
	f(addr, "ready", ExitOK, "leader\n", "")
	f(":"+port, "ready", ExitOK, "leader\n", "") // as in a container
	f("0.0.0.0:"+port, "health", ExitOK, "ok\n", "")
	t.Setenv("TEST_PAUSE", "soon") // none of its business
	f(addr, "health", ExitOK, "ok\n", "")
	why = errors.New("not connected to NATS")
	f(addr, "health", ExitOK, "ok\n", "")
	f(addr, "ready", ExitFailed, "", "tester: not connected to NATS")
	f("", "health", ExitFailed, "", `ADMIN_ADDR=""`)
	f("no address", "health", ExitFailed, "", `ADMIN_ADDR="no address"`)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f(addr, "health", ExitFailed, "", `nobody answers on ADMIN_ADDR="`+addr+`"`)
}

// One that takes connections and says nothing is not well.
func TestAskHanging(t *testing.T) {
	a, err := NewAdmin("127.0.0.1:0", "tester", nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close() // never run: it answers nobody
	t.Setenv("ADMIN_ADDR", a.Addr().String())
	var stdout, stderr bytes.Buffer
	code := spec(nil).Start(t.Context(), []string{"health"}, &stdout, &stderr)
	if code != ExitFailed || !strings.Contains(stderr.String(), context.DeadlineExceeded.Error()) {
		t.Errorf("code %d, stderr %q", code, stderr.String())
	}
}

// The settings may be without an ADMIN_ADDR; then there is nobody to ask.
func TestAdminAddr(t *testing.T) {
	type with struct {
		Admin struct {
			Addr string `default:"127.0.0.1:9"`
		}
	}
	if addr := adminAddr[with](); addr != "127.0.0.1:9" {
		t.Errorf("by default %q", addr)
	}
	t.Setenv("ADMIN_ADDR", ":1")
	if addr := adminAddr[with](); addr != ":1" {
		t.Errorf("by the environment %q", addr)
	}
}

func TestStamp(t *testing.T) {
	defer func(old string) { stamped = old }(stamped)
	if stamped = "1.2.3"; Version() != "1.2.3" {
		t.Errorf("the version is %q", Version())
	}
}
