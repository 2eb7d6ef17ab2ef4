package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hostile is one bad client; i says which kind.
func hostile(t *testing.T, s *site, i int) {
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url(0), "http://"))
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(wait))
	read := func() string { b, _ := io.ReadAll(c); return string(b) }
	switch i % 6 {
	case 0: // an endless URL
		_, _ = io.WriteString(c, "GET /events?channel="+strings.Repeat("a", 1<<20))
		if a := read(); a != "" && !strings.HasPrefix(a, "HTTP/1.1 431") {
			t.Errorf("endless URL: %.100q", a)
		}
	case 1: // a head that never ends
		_, _ = io.WriteString(c, "GET /events?channel=x HTTP/1.1\r\nHost: ")
		if a := read(); a != "" {
			t.Errorf("slow head: %.100q", a)
		}
	case 2: // silence
		read()
	case 3: // a stream that is left at once
		fmt.Fprintf(c, "GET /events?channel=leak:%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
	case 4: // a stream that talks
		fmt.Fprintf(c, "GET /events?channel=leak:%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		_, _ = io.WriteString(c, strings.Repeat("junk", 8<<10))
		read()
	case 5: // not HTTP at all
		_, _ = io.WriteString(c, "\x16\x03\x01\x00\xff\x00\r\n\r\n")
		if a := read(); a != "" && !strings.HasPrefix(a, "HTTP/1.1 400") { // nothing while more could follow
			t.Errorf("garbage: %.100q", a)
		}
	}
}

// leave is one client that does not end as it should; i says how.
// The context is the end of those that stay.
func leave(ctx context.Context, t *testing.T, s *site, i int, path string) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url(0), "http://"))
	if err != nil {
		t.Error(err)
		return
	}
	tcp := conn.(*net.TCPConn)
	defer tcp.Close()
	_ = tcp.SetReadBuffer(4 << 10)
	_ = tcp.SetLinger(0) // its end is a reset
	_ = tcp.SetDeadline(time.Now().Add(wait))
	fmt.Fprintf(tcp, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	buf := make([]byte, 512)
	switch i % 4 {
	case 0: // before the answer
	case 1: // in the middle of it
		_, _ = tcp.Read(buf)
	case 2: // half of it: the node has to end the other half
		_ = tcp.CloseWrite()
		if _, err := io.Copy(io.Discard, tcp); err != nil {
			t.Errorf("half-closed %s: %v", path, err)
		}
	case 3: // 5 KB/s
		defer context.AfterFunc(ctx, func() { tcp.Close() })()
		for ctx.Err() == nil && err == nil {
			_, err = tcp.Read(buf)
			pause(ctx, 100*time.Millisecond)
		}
	}
}

// runPublisher runs the program to its end and returns what it printed.
func runPublisher(t *testing.T, s *site, stdin string, args ...string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "publisher"), args...)
	cmd.Env = []string{"REDIS_URL=" + s.redis.URL(), "NATS_URL=" + s.nats.URL()}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("publisher %q: %v: %s", args, err, out)
	}
	return string(out)
}

// deps are all packages that go into a program.
func deps(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}
