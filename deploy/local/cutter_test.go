package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// cutAfter is a hop to an address whose first connection is closed after the marker,
// in the server's words, without any sign that this is not the end. It returns where
// it listens.
func cutAfter(t *testing.T, to, marker string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { ln.Close(); cancel(); all.Wait() })
	relay := func(client net.Conn, marker string) {
		defer client.Close()
		server, err := net.DialTimeout("tcp", to, wait)
		if err != nil {
			return
		}
		defer server.Close()
		defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
		all.Go(func() {
			_, _ = io.Copy(server, client)
			server.Close()
		})
		from, tail := bufio.NewReader(server), []byte{}
		into := bufio.NewWriter(client)
		defer into.Flush()
		for {
			b, err := from.ReadByte()
			if err != nil || into.WriteByte(b) != nil {
				return
			}
			if tail = append(tail, b); marker != "" && bytes.HasSuffix(tail, []byte(marker)) {
				return
			}
			if len(tail) > 4<<10 {
				tail = append(tail[:0], tail[len(tail)-len(marker):]...)
			}
			if from.Buffered() == 0 && into.Flush() != nil {
				return
			}
		}
	}
	all.Go(func() {
		for ; ; marker = "" {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			m := marker
			all.Go(func() { relay(client, m) })
		}
	})
	return ln.Addr().String()
}
