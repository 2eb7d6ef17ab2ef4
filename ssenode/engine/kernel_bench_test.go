//go:build linux

package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kernelClients is how many clients there are: their two ends and what a test
// needs besides have to fit in 20,000 descriptors.
const kernelClients = 8000

// BenchmarkKernel is what clients cost the kernel, which no heap shows: an idle
// one (slab objects; both ends are here, so half of what it grows by), and the
// buffers of one that reads nothing until its socket is full (TCP memory, which
// net.ipv4.tcp_mem bounds; the client's receive buffer is made small). It reads
// what the whole machine uses: run it where nothing else happens, -benchtime 1x.
func BenchmarkKernel(b *testing.B) {
	if _, err := os.Stat("/proc/net/sockstat"); err != nil {
		b.Skipf("needs Linux's /proc/net/sockstat: %v", err)
	}
	for b.Loop() {
		e, err := New("epoll", 1)
		if err != nil {
			b.Fatal(err)
		}
		l := e.Loops()[0] // not running: this goroutine stands for its own
		listener := e.Listener(time.Minute)
		ln, err := listener.Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		small := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
			if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4096) }); e != nil {
				return e
			}
			return err
		}}
		var clients []net.Conn
		var sockets []Socket
		slab := kernelNumber(b, "/proc/meminfo", "Slab:", 1)
		for range kernelClients {
			c, err := small.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			clients = append(clients, c)
			accepted, err := ln.Accept()
			if err != nil {
				b.Fatal(err)
			}
			s, err := e.Take(accepted, time.Minute, nil)
			if err != nil {
				b.Fatal(err)
			}
			accepted.Close() // the engine has its own descriptor
			if err := l.Add(s, nobody{}); err != nil {
				b.Fatal(err)
			}
			sockets = append(sockets, s)
		}
		b.ReportMetric(float64(kernelNumber(b, "/proc/meminfo", "Slab:", 1)-slab)*1024/kernelClients/2, "B/idle")

		pages := kernelNumber(b, "/proc/net/sockstat", "TCP:", 10)
		event := bytes.Repeat([]byte{'x'}, 200)
		taken := 0
		for _, s := range sockets {
			for {
				n, err := s.Write(event)
				if err != nil {
					b.Fatal(err)
				}
				if taken += n; n < len(event) {
					break
				}
			}
		}
		grown := (kernelNumber(b, "/proc/net/sockstat", "TCP:", 10) - pages) * int64(os.Getpagesize())
		b.ReportMetric(float64(grown)/kernelClients, "B/full")
		b.ReportMetric(float64(taken)/kernelClients, "taken/full")
		for _, c := range clients {
			c.Close()
		}
		ln.Close()
		l.Stop()
		l.Run(nobody{})
	}
}

type nobody struct{}

func (nobody) Writable()      {}
func (nobody) Gone(error)     {}
func (nobody) Woken()         {}
func (nobody) Tick(time.Time) {}

// kernelNumber is the i-th word of the line that begins with a name.
func kernelNumber(b *testing.B, file, name string, i int) (n int64) {
	b.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) > i && words[0] == name {
			if _, err := fmt.Sscan(words[i], &n); err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatalf("%s has no %s", file, name)
	return 0
}
