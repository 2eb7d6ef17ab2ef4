package publisher

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"sluice/shared/control"
	"sluice/shared/embedded"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

// tapRun is a tap in the background.
type tapRun struct {
	t         *testing.T
	out, errs embedded.Lines
	cancel    context.CancelFunc
	code      chan int
}

func startTap(t *testing.T, where settings, args ...string) *tapRun {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &tapRun{t: t, cancel: cancel, code: make(chan int, 1)}
	go func() { r.code <- where.command(ctx, "", &r.out, &r.errs).run(append([]string{"tap"}, args...)) }()
	t.Cleanup(cancel)
	until(t, "it taps", func() bool { return strings.Contains(r.out.String(), "tapping") })
	return r
}

func (r *tapRun) ends(code int, want string) {
	r.t.Helper()
	select {
	case got := <-r.code:
		if text := r.out.String() + r.errs.String(); got != code || !strings.Contains(text, want) {
			r.t.Errorf("exit %d, want %d with %q: %s", got, code, want, text)
		}
	case <-time.After(patience):
		r.t.Fatalf("it does not end: %s", r.out.String())
	}
}

// tapped is a Redis and a NATS, the settings with both, and connections to them.
func tapped(t *testing.T) (settings, redis.UniversalClient, *nats.Conn) {
	t.Helper()
	r, n := embedded.TestRedis(t), embedded.TestNATS(t)
	client := embeddedClient(t, r.URL())
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return at(r.URL(), n.URL()), client, nc
}

// What happens on the way is told: a message that is in the stream and was not heard on
// its way to the nodes is found there, the others are not.
func TestTapLooksIntoTheStream(t *testing.T) {
	t.Parallel()
	where, client, nc := tapped(t)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	// Without RePublish, as after the unclean death of its leader.
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SLUICE", Subjects: []string{"sluice.log.>"}, Storage: jetstream.MemoryStorage}); err != nil {
		t.Fatal(err)
	}
	store := func(payload string) {
		t.Helper()
		if _, err := js.Publish(t.Context(), "sluice.log.a", []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	publish := func(payload string) {
		t.Helper()
		if err := client.Publish(t.Context(), "a", payload).Err(); err != nil {
			t.Fatal(err)
		}
	}
	store("one") // before the tap: not what it looks for
	tap := startTap(t, where, "a", "-n", "3")
	for _, payload := range []string{"one", "two"} {
		store(payload) // first: only so long is it waited for once Redis has delivered it
		publish(payload)
	}
	publish("lost")
	tap.ends(worker.ExitOK, "not there after 4s")
	out := tap.out.String()
	for _, want := range []string{"sequence 2", "sequence 3"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %s in %s", want, out)
		}
	}
	if strings.Contains(out, "sequence 1\n") || strings.Count(out, "not heard: nodes fetch it") != 2 {
		t.Errorf("%s", out)
	}
}

// It ends with its time also while more comes: what Redis delivers after it, and what is
// heard on the live subject of that, is not followed.
func TestTapEndsWhileMessagesFlow(t *testing.T) {
	t.Parallel()
	where, client, nc := tapped(t)
	defer embedded.TestRun(t, func(ctx context.Context) error {
		for i := 0; ctx.Err() == nil; i++ {
			// Nodes hear a channel without history so.
			err := errors.Join(client.Publish(context.Background(), "a", i).Err(), nc.Publish("sluice.live.a", strconv.AppendInt(nil, int64(i), 10)))
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
		}
		return nil
	})()
	tap := startTap(t, where, "a", "-for", "1s", "-n", "1000")
	tap.ends(worker.ExitOK, "without history")
	if out := tap.out.String(); strings.Contains(out, "not delivered here") || strings.Contains(out, "\n1000  ") {
		t.Errorf("it goes on after its time: …%s", out[max(0, len(out)-1000):])
	}
}

// It ends with its time, by a signal, and when it cannot hear any more.
func TestTapEnds(t *testing.T) {
	t.Parallel()
	n := embedded.TestNATS(t)
	f := func(what string, test func(t *testing.T, r *embedded.Process)) {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			test(t, embedded.TestRedisProcess(t))
		})
	}
	// For longer than Redis may be silent.
	f("in time", func(t *testing.T, r *embedded.Process) {
		startTap(t, at(r.URL(), n.URL()), "a", "-for", (redisTapLimit+time.Second).String()).ends(worker.ExitOK, "nothing came")
	})
	f("by a signal", func(t *testing.T, r *embedded.Process) {
		tap := startTap(t, at(r.URL(), n.URL()), "a")
		tap.cancel()
		tap.ends(worker.ExitOK, "")
	})
	f("with a link that hangs", func(t *testing.T, r *embedded.Process) {
		hop := embedded.TestProxy(t, r.Addr())
		tap := startTap(t, at("redis://"+hop.Addr(), n.URL()), "a")
		hop.Hang() // neither end notices
		tap.ends(worker.ExitFailed, "the link to Redis was lost")
	})
	f("with Redis", func(t *testing.T, r *embedded.Process) {
		where := at(r.URL(), n.URL())
		tap := startTap(t, where, "a")
		_ = r.Stop()
		tap.ends(worker.ExitFailed, "the link to Redis was lost")
		if code, _, errs := where.run(t.Context(), "", "tap", "a"); code != worker.ExitFailed || !strings.Contains(errs, "REDIS_URL") {
			t.Errorf("without Redis: %d %s", code, errs)
		}
	})
	f("without NATS", func(t *testing.T, r *embedded.Process) {
		if code, _, errs := at(r.URL(), "nats://"+unused).run(t.Context(), "", "tap", "a"); code != worker.ExitFailed || !strings.Contains(errs, "NATS_URL") {
			t.Errorf("%d %s", code, errs)
		}
	})
}

// What the stream answers while it has no leader is not "it is not there"; and it is
// asked again once it is heard of.
func TestTapBlind(t *testing.T) {
	n := embedded.TestNATSWith(t, embedded.NATSOptions{Modify: func(o *server.Options) { o.JetStream = false }})
	nc, err := nats.Connect(n.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	var answer string // set before each question
	if _, err := nc.Subscribe("$JS.API.STREAM.MSG.GET.SLUICE", func(m *nats.Msg) { _ = m.Respond([]byte(answer)) }); err != nil {
		t.Fatal(err)
	}
	x := &tapper{nc: nc, names: wire.Stream{Name: "SLUICE", Prefix: "sluice"}, subject: "a"}
	f := func(blind, found bool, says string) {
		t.Helper()
		answer = says
		one := &trail{hash: wire.TapHash([]byte("x"))}
		if x.look(t.Context(), one); x.blind != blind || one.stream.found != found {
			t.Errorf("%s: blind %v, found %v", says, x.blind, one.stream.found)
		}
	}
	const there = `{"message":{"seq":7,"data":"eA==","time":"2026-11-22T01:02:03Z"}}`
	f(false, false, `{"error":{"code":404,"err_code":10037,"description":"no message found"}}`)
	f(false, true, there)
	f(true, false, `{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`)
	f(true, false, there)
	x.take(fromLive{[]byte("y"), streamed{live: time.Now()}})
	f(true, false, there) // that was of a channel without history
	x.take(fromLive{[]byte("y"), streamed{live: time.Now(), seq: 6}})
	f(false, true, there)
}

// A node is waited for as long as it has clients of the channel.
func TestTapWaitsForNodes(t *testing.T) {
	x := &tapper{trails: trails{watching: map[string]int{}}}
	answer := func(name string, clients int) wire.Answer {
		body, err := wire.EncodeControl(wire.Tapping{Clients: clients})
		if err != nil {
			t.Fatal(err)
		}
		return wire.Answer{Name: name, Body: body}
	}
	f := func(want map[string]int, a control.Answers) {
		t.Helper()
		if x.take(fromNodes{a}); !maps.Equal(x.trails.watching, want) {
			t.Errorf("waits for %v, want %v", x.trails.watching, want)
		}
	}
	f(map[string]int{"n1": 1, "n2": 2}, control.Answers{List: []wire.Answer{answer("n1", 1), answer("n2", 2), answer("n3", 0)}, Complete: true})
	f(map[string]int{"n3": 3}, control.Answers{List: []wire.Answer{answer("n1", 0), answer("n3", 3)}, Missing: []string{"n2"}})
	f(map[string]int{}, control.Answers{Complete: true}) // n3 has left
}
