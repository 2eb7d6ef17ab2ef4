package publisher

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"sluice/shared/certs"
)

// A batch of five of which one is refused, or whose connection ends in the
// middle: an error, and nothing is sent a second time.
func TestPublishBroken(t *testing.T) {
	f := func(third string, wantAcked int, wantReceivers int64, wantErr string) {
		t.Helper()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		published := make(chan int, 1)
		go func() {
			for n := 0; ; {
				c, err := ln.Accept()
				if err != nil {
					published <- n
					return
				}
				n += oldRedis(c, third)
			}
		}()
		client, err := Open("redis://"+ln.Addr().String(), certs.Client{})
		if err != nil {
			t.Fatal(err)
		}
		acked, receivers, err := outbox{client}.publish(t.Context(), make([]message, 5))
		if acked != wantAcked || receivers != wantReceivers || err == nil || !strings.Contains(err.Error(), wantErr) {
			t.Errorf("third answer %q: %d acknowledged, the last to %d, error %v; want %d, %d, %s", third, acked, receivers, err, wantAcked, wantReceivers, wantErr)
		}
		client.Close()
		ln.Close()
		if n := <-published; n != 5 {
			t.Errorf("third answer %q: published %d times, want 5", third, n)
		}
	}
	f("-NOPERM no permission", 4, 5, "NOPERM")
	f("", 0, 0, "EOF")
}

// oldRedis speaks Redis just well enough: to the nth PUBLISH it says n, but to
// the third something else; or, if that is "", it hangs up after the fifth.
func oldRedis(c net.Conn, third string) (published int) {
	defer c.Close()
	for lines := bufio.NewScanner(c); lines.Scan(); {
		switch strings.ToLower(lines.Text()) {
		case "hello":
			fmt.Fprint(c, "-ERR unknown command 'hello'\r\n")
		case "client":
			fmt.Fprint(c, "+OK\r\n")
		case "publish":
			switch published++; {
			case published == 5 && third == "":
				// Not Close, which would be a reset if anything is left to read.
				c.(*net.TCPConn).CloseWrite()
			case published == 3 && third != "":
				fmt.Fprint(c, third, "\r\n")
			case published < 3 || third != "":
				fmt.Fprintf(c, ":%d\r\n", published)
			}
		}
	}
	return published
}
