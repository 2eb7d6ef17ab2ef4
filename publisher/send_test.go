package publisher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/shared/worker"
)

// What a subscriber gets is exactly what was given, on any channel name.
func TestSendPayload(t *testing.T) {
	url := startRedis(t).URL()
	sub := subscribe(t, url, "?*")
	f := func(stdin string, args []string, wantChannel, wantPayload string) {
		t.Helper()
		code, out, errs := run(t.Context(), stdin, append([]string{"send"}, args...)...)
		if code != worker.ExitOK || errs != "" {
			t.Fatalf("%q: exit %d, stderr %s", args, code, errs)
		}
		if want := fmt.Sprintf("published 1 message to %q; 1 Redis subscriber received it\n", wantChannel); out != want {
			t.Errorf("%q: stdout %q, want %q", args, out, want)
		}
		if m := sub.next(); m.Channel != wantChannel || m.Payload != wantPayload {
			t.Errorf("%q: got %q on %q, want %q on %q", args, m.Payload, m.Channel, wantPayload, wantChannel)
		}
	}
	type l = []string
	f("", l{"race-events:demo", `{"type":"race-start"}`}, "race-events:demo", `{"type":"race-start"}`)
	f("unread", l{"c", ""}, "c", "")
	f("", l{"a b,*>.\x00\xff", "x"}, "a b,*>.\x00\xff", "x")
	f("", l{"c", "--", "-n"}, "c", "-n")

	// Standard input, byte for byte.
	f("line\n", l{"c"}, "c", "line\n")
	f("line\r\n\r\n", l{"c", "-"}, "c", "line\r\n\r\n")
	f("", l{"c"}, "c", "")
	f("\x00\xff\xfe\n\x80", l{"c"}, "c", "\x00\xff\xfe\n\x80")
	big := strings.Repeat("0123456789abcdef", 1<<18)
	f(big, l{"c"}, "c", big)

	// Envelopes.
	f("", l{"c", `{"a":1}`, "-event", "e"}, "c", `{"event":"e","data":{"a":1}}`)
	f("", l{"-event", "e", "c", "some text"}, "c", `{"event":"e","data":"some text"}`)
	f("", l{"c", "-event=e", "12"}, "c", `{"event":"e","data":12}`)
	f("say \"hi\"\n", l{"c", "-event", "e"}, "c", `{"event":"e","data":"say \"hi\"\n"}`)
	f("", l{"c", "x", "-event", `"`}, "c", `{"event":"\"","data":"x"}`)

	// Redis 7 does not count the empty channel to the pattern "*".
	sub = subscribe(t, url, "")
	f("", l{"", "x"}, "", "x")
}

func TestSendMany(t *testing.T) {
	sub := subscribe(t, startRedis(t).URL(), "load")
	f := func(n int, args ...string) {
		t.Helper()
		code, out, errs := run(t.Context(), "", append([]string{"send", "load", "x", "-n", fmt.Sprint(n)}, args...)...)
		if code != worker.ExitOK {
			t.Fatalf("exit %d, stderr %s", code, errs)
		}
		if !strings.HasPrefix(out, fmt.Sprintf(`published %d messages to "load" in `, n)) || !strings.HasSuffix(out, "/s); 1 Redis subscriber received the last one\n") {
			t.Errorf("stdout %q", out)
		}
		for range n {
			sub.next()
		}
		select {
		case m := <-sub.ch:
			t.Errorf("one more than %d: %q", n, m.Payload)
		case <-time.After(20 * time.Millisecond): // an extra one would be there already
		}
	}
	f(1300)
	f(40, "-rate", "400")
}

func TestSendTellsWhenNobodyListens(t *testing.T) {
	startRedis(t)
	code, out, errs := run(t.Context(), "", "send", "c", "x")
	if code != worker.ExitOK || !strings.Contains(out, "0 Redis subscribers") || !strings.Contains(errs, "is the bridge running?") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
	}
}

func TestSendRedisAway(t *testing.T) {
	t.Parallel()
	f := func(addr, want string) {
		t.Helper()
		where := at("redis://user:secret@"+addr+"?read_timeout=5m", nowhere)
		done := make(chan struct{})
		var code int
		var out, errs string
		go func() {
			defer close(done)
			code, out, errs = where.run(t.Context(), "", "send", "c", "x", "-n", "5")
		}()
		select {
		case <-done:
		case <-time.After(3 * callLimit): // slow machines, too
			t.Fatal("still trying")
		}
		if code != worker.ExitFailed || out != "" {
			t.Errorf("exit %d, stdout %q", code, out)
		}
		for _, part := range []string{"REDIS_URL=redis://***@" + addr, want, "0 of 5 messages acknowledged"} {
			if !strings.Contains(errs, part) {
				t.Errorf("stderr %q, want %q in it", errs, part)
			}
		}
		if strings.Contains(errs, "secret") {
			t.Errorf("the password is in %q", errs)
		}
	}
	f(unused, "connection refused")

	// Somebody listens and never says a word. (The kernel accepts.) The limit is
	// the program's own, whatever the URL says.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f(ln.Addr().String(), "no answer in time")
}

func TestSendWrongArguments(t *testing.T) {
	t.Setenv("REDIS_URL", "redis://127.0.0.1:1") // never reached
	f := func(want string, args ...string) {
		t.Helper()
		code, out, errs := run(t.Context(), "\xff", append([]string{"send"}, args...)...)
		if code != worker.ExitSettings || out != "" || !strings.Contains(errs, want) {
			t.Errorf("%q: exit %d, stdout %q, stderr %q, want %q in it", args, code, out, errs, want)
		}
	}
	f("want a channel and data")
	f("want a channel and data", "c", "d", "e")
	f("-n 0", "c", "d", "-n", "0")
	f("-rate -1", "c", "d", "-rate", "-1")
	f("-rate NaN", "c", "d", "-rate", "NaN")
	f("-rate +Inf", "c", "d", "-rate", "Inf")
	f("not defined: -x", "c", "d", "-x")
	f("no line break", "c", "d", "-event", "a\nb")
	f("not UTF-8", "c", "-event", "e")
	t.Setenv("REDIS_URL", "http://user:secret@host")
	f("REDIS_URL", "c", "d")
}

func TestSendStdinIsBounded(t *testing.T) {
	f := func(in string, ok bool) {
		t.Helper()
		_, err := command{stdin: strings.NewReader(in)}.readPayload(4)
		if (err == nil) != ok {
			t.Errorf("%d bytes of at most 4: %v", len(in), err)
		}
	}
	f("1234", true)
	f("12345", false)
	c := command{stdin: brokenReader{}}
	if _, err := c.readPayload(4); err == nil || !strings.Contains(err.Error(), "standard input") {
		t.Errorf("broken input: %v", err)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("broken") }

func TestSendInterrupted(t *testing.T) {
	sub := subscribe(t, startRedis(t).URL(), "c")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-sub.ch
		cancel()
	}()
	code, out, errs := run(ctx, "", "send", "c", "x", "-n", "1000", "-rate", "0.1")
	if code != worker.ExitFailed || !strings.Contains(out, "published 1 message") || !strings.Contains(errs, "interrupted after 1 of 1000") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, out, errs)
	}
}

// Batches are bounded by count and by bytes, whatever is asked for, and what
// was acknowledged before an error is counted.
func TestRepeatBatches(t *testing.T) {
	f := func(size int, n int64, wantBatch int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			out := &fakeSender{}
			s := repeat(t.Context(), out, message{"c", make([]byte, size)}, n, 0)
			if s.err != nil || s.acked != n || int64(len(out.sent)) != n || out.largest != wantBatch {
				t.Errorf("size %d: acked %d, sent %d, largest batch %d, error %v; want %d in batches of %d", size, s.acked, len(out.sent), out.largest, s.err, n, wantBatch)
			}
		})
	}
	f(1, 2000, batchMessages)
	f(0, 3, 3)
	f(batchBytes/4, 10, 4)
	f(batchBytes*2, 3, 1)

	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		out := &fakeSender{}
		out.fail = func() error {
			if len(out.sent) >= 2*batchMessages {
				return broken
			}
			return nil
		}
		s := repeat(t.Context(), out, message{"c", nil}, 5000, 0)
		if !errors.Is(s.err, broken) || s.acked != 2*batchMessages {
			t.Errorf("acked %d, error %v", s.acked, s.err)
		}
	})
}
