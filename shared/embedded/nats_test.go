package embedded

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

func dial(t *testing.T, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := nats.Connect(url, nats.Timeout(wait))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func store(t *testing.T, js jetstream.JetStream, storage jetstream.StorageType) {
	t.Helper()
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: storage}
	if _, err := js.CreateOrUpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s.a", []byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestNATSRestartKeepsPortAndFiles(t *testing.T) {
	n, err := StartNATS(NATSOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Shutdown()
	_, js := dial(t, n.URL())
	store(t, js, jetstream.FileStorage)
	addr := n.Addr()
	if err := n.Restart(); err != nil {
		t.Fatal(err)
	}
	if n.Addr() != addr {
		t.Errorf("restarted on %s, was %s", n.Addr(), addr)
	}
	_, js = dial(t, n.URL())
	s, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	if err := n.Shutdown(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(n.tempDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still listening after Shutdown")
	}
}

func TestNATSKeepsAStoreDirThatWasGiven(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		n, err := StartNATS(NATSOptions{StoreDir: dir, Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		_, js := dial(t, n.URL())
		store(t, js, jetstream.FileStorage)
		s, err := js.Stream(t.Context(), "S")
		if err != nil || s.CachedInfo().State.LastSeq != uint64(i+1) {
			t.Errorf("start %d: %+v, %v", i, s.CachedInfo().State, err)
		}
		if err := n.Shutdown(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNATSTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = StartNATS(NATSOptions{Addr: l.Addr().String()})
	if err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), l.Addr().String()) {
		t.Error(err)
	}
	// The port is taken between our look at it and the server's.
	port := l.Addr().(*net.TCPAddr).Port
	_, err = StartNATS(NATSOptions{Modify: func(o *server.Options) { o.Port = port }})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Error(err)
	}
}

func TestNATSBadStoreDir(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := StartNATS(NATSOptions{StoreDir: file}); err == nil {
		t.Error("a file as directory is accepted")
	}
	for _, addr := range []string{"nonsense", "127.0.0.1:x", "127.0.0.1:99999"} {
		if _, err := StartNATS(NATSOptions{Addr: addr}); err == nil {
			t.Errorf("address %q is accepted", addr)
		}
	}
}

func TestNATSOptions(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	w := writer(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return log.Write(p)
	})
	n, err := StartNATS(NATSOptions{MaxPayload: 1000, MaxMemory: 1 << 20, Log: slog.New(slog.NewTextHandler(w, nil)),
		Modify: func(o *server.Options) { o.Username, o.Password = "u", "p" }})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Shutdown()
	if _, err := nats.Connect(n.URL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("Modify had no effect: %v", err)
	}
	nc, js := dial(t, "nats://u:p@"+n.Addr())
	if nc.MaxPayload() != 1000 {
		t.Errorf("max payload %d", nc.MaxPayload())
	}
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	cfg := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Storage: jetstream.MemoryStorage, MaxBytes: 2 << 20}
	if _, err := js.CreateStream(ctx, cfg); err == nil {
		t.Error("a memory stream larger than MaxMemory")
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(log.String(), "Listening for client connections") {
		t.Errorf("log: %s", log.String())
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestNATSHelper(t *testing.T) {
	n := TestNATS(t)
	_, js := dial(t, n.URL())
	store(t, js, jetstream.MemoryStorage)
	if n.Server() == nil {
		t.Error("no server")
	}
}
