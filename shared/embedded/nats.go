package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	natsReady = 5 * time.Second
	natsStop  = 10 * time.Second
)

// NATSOptions are all optional.
type NATSOptions struct {
	// Addr is host:port. Port -1 or 0 is a free one. Default "127.0.0.1:-1".
	Addr string
	// StoreDir keeps the JetStream files. Default: a temporary directory, which
	// Shutdown removes.
	StoreDir string
	// MaxPayload is the largest message in bytes, headers included. Default 1 MiB.
	MaxPayload int32
	// MaxMemory bounds JetStream's memory streams, in bytes. Default: the
	// server's, three quarters of the machine's memory.
	MaxMemory int64
	// Log gets the server's log. Default: none.
	Log *slog.Logger
	// Modify may change the server's options last: users, TLS, cluster.
	Modify func(*server.Options)
}

// NATS is a real nats-server with JetStream, in this process. Its methods are
// not for concurrent use.
type NATS struct {
	o       NATSOptions
	tempDir string // to be removed by Shutdown
	addr    string // with the real port
	letGo   func() // of the port, if it was chosen here; it stays ours after Stop
	srv     *server.Server
}

// StartNATS starts a server and returns once clients can connect, or an error,
// at the latest after 5 s. A taken port is an error at once.
func StartNATS(o NATSOptions) (*NATS, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:-1"
	}
	n := &NATS{o: o, addr: o.Addr, letGo: func() {}}
	if o.StoreDir == "" {
		dir, err := os.MkdirTemp("", "sluice-nats-")
		if err != nil {
			return nil, fmt.Errorf("embedded nats: %w", err)
		}
		n.tempDir, n.o.StoreDir = dir, dir
	}
	err := n.choosePort()
	if err == nil {
		err = n.start()
	}
	if err != nil {
		n.letGo()
		_ = n.removeTemp()
		return nil, fmt.Errorf("embedded nats: %w", err)
	}
	return n, nil
}

// Addr is the host:port that the server listens on. It outlives Stop.
func (n *NATS) Addr() string { return n.addr }

// URL is the nats:// URL of Addr.
func (n *NATS) URL() string { return "nats://" + n.addr }

// Server is the running server, nil after Stop: for tests that look inside.
func (n *NATS) Server() *server.Server { return n.srv }

// Stop ends the server and waits until nothing of it is left, 10 s at most. The
// files stay: Restart goes on with them. (Memory streams are gone.)
func (n *NATS) Stop() error {
	if n.srv == nil {
		return nil
	}
	srv := n.srv
	n.srv = nil
	return stopServer(srv)
}

// Restart stops the server, if it runs, and starts it on the same port and
// files.
func (n *NATS) Restart() error {
	if err := n.Stop(); err != nil {
		return err
	}
	if err := n.start(); err != nil {
		return fmt.Errorf("embedded nats: %w", err)
	}
	return nil
}

// Shutdown is Stop; then it removes the temporary directory, if there is one.
func (n *NATS) Shutdown() error {
	err := n.Stop()
	n.letGo()
	return errors.Join(err, n.removeTemp())
}

func (n *NATS) removeTemp() error {
	if n.tempDir == "" {
		return nil
	}
	return os.RemoveAll(n.tempDir)
}

// choosePort makes a free port of -1 and 0, on loopback one that is held.
func (n *NATS) choosePort() error {
	host, port, err := n.hostPort()
	if err != nil || port > 0 {
		return err
	}
	if host != "127.0.0.1" {
		return nil // the server's choice
	}
	if port, n.letGo, err = holdPort(); err != nil {
		n.letGo = func() {}
		return err
	}
	n.addr = net.JoinHostPort(host, strconv.Itoa(port))
	return nil
}

func (n *NATS) hostPort() (host string, port int, err error) {
	host, text, err := net.SplitHostPort(n.addr)
	if err != nil {
		return "", 0, err
	}
	if port, err = strconv.Atoi(text); err != nil {
		return "", 0, fmt.Errorf("address %s: %w", n.addr, err)
	}
	return host, port, nil
}

func (n *NATS) start() error {
	host, port, err := n.hostPort()
	if err != nil {
		return err
	}
	if port > 0 {
		// The server would find out last, after JetStream's recovery, and say so
		// only in its log.
		l, err := net.Listen("tcp", n.addr)
		if err != nil {
			return err
		}
		l.Close()
	} else {
		port = server.RANDOM_PORT
	}
	if err := os.MkdirAll(n.o.StoreDir, 0o755); err != nil {
		return err
	}
	opts := &server.Options{
		Host: host, Port: port, NoSigs: true,
		JetStream: true, StoreDir: n.o.StoreDir, JetStreamMaxMemory: n.o.MaxMemory, DisableJetStreamBanner: true,
		MaxPayload: n.o.MaxPayload,
	}
	if n.o.Modify != nil {
		n.o.Modify(opts)
	}
	srv, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	log := &natsLog{log: n.o.Log, fatal: make(chan error, 1)}
	srv.SetLoggerV2(log, false, false, false)
	if err := run(srv, log.fatal); err != nil {
		return errors.Join(err, stopServer(srv))
	}
	n.srv, n.addr = srv, srv.Addr().String()
	return nil
}

// run starts srv. A server that cannot start calls its logger's Fatalf, counts
// on that to end the process, and otherwise just returns from Start.
func run(srv *server.Server, fatal <-chan error) error {
	deadline := time.NewTimer(natsReady)
	defer deadline.Stop()
	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	select {
	case <-started:
	case err := <-fatal:
		return err
	case <-deadline.C:
		return fmt.Errorf("not started within %v", natsReady)
	}
	select {
	case err := <-fatal:
		return err
	default:
	}
	if !srv.ReadyForConnections(natsReady) {
		return fmt.Errorf("not ready within %v", natsReady)
	}
	return nil
}

func stopServer(srv *server.Server) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		srv.Shutdown()
		srv.WaitForShutdown()
	}()
	select {
	case <-stopped:
		return nil
	case <-time.After(natsStop):
		return fmt.Errorf("embedded nats: still there %v after its shutdown", natsStop)
	}
}
