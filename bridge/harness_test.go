package bridge

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"sluice/shared/channel"
	"sluice/shared/embedded"
	"sluice/shared/redisconn"
	"sluice/shared/route"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

func TestMain(m *testing.M) {
	embedded.TestsAtOnce(8, 4)
	goleak.VerifyTestMain(m)
}

// wait bounds every wait of these tests; only a hang reaches it.
const wait = 40 * time.Second

func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	embedded.Eventually(t, what, wait, f)
}

// rig is a Redis, a NATS and somebody who listens to what the bridge makes.
type rig struct {
	t        testing.TB
	redis    embedded.RedisServer // nil if it is not a single server
	redisURL string
	pub      redis.UniversalClient
	nats     *embedded.NATS
	nc       *nats.Conn
	js       jetstream.JetStream
	live     chan *nats.Msg
	names    wire.Stream
}

func newRig(t testing.TB, o embedded.NATSOptions) *rig {
	t.Helper()
	server := embedded.TestRedis(t)
	r := newRigAt(t, server.URL(), o)
	r.redis = server
	return r
}

// newRigAt is newRig with another Redis than a single server.
func newRigAt(t testing.TB, redisURL string, o embedded.NATSOptions) *rig {
	t.Helper()
	r := &rig{t: t, redisURL: redisURL, names: wire.Stream{Name: "SLUICE", Prefix: "sluice"}}
	var err error
	if r.pub, err = redisconn.Open(redisURL, redisconn.Options{Worker: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.pub.Close() })
	if r.nats, err = embedded.StartNATS(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.nats.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	if r.nc, err = nats.Connect(r.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.nc.Close)
	if r.js, err = jetstream.New(r.nc); err != nil {
		t.Fatal(err)
	}
	r.live = make(chan *nats.Msg, 1<<18)
	if _, err := r.nc.ChanSubscribe(r.names.Live()+">", r.live); err != nil {
		t.Fatal(err)
	}
	if err := r.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return r
}

// routes parses a ROUTES setting.
func routes(t testing.TB, text string) route.Table {
	t.Helper()
	table, err := route.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return *table
}

func (r *rig) config(change func(*Config)) Config {
	c := worker.Default[Config]()
	c.Admin.Addr = "127.0.0.1:0"
	c.Redis.URL, c.NATS.URL = r.redisURL, r.nats.URL()
	c.Bridge.MaxBytes = 64 << 20
	c.Bridge.Pulse = 100 * time.Millisecond
	if change != nil {
		change(&c)
	}
	return c
}

// start runs a bridge until the test ends or stop is called, which waits.
func (r *rig) start(change func(*Config)) (b *Bridge, stop func()) {
	r.t.Helper()
	b, err := New(r.config(change), embedded.TestLog(r.t))
	if err != nil {
		r.t.Fatal(err)
	}
	return b, embedded.TestRun(r.t, b.Run)
}

// lead is start, and waits until the bridge mirrors.
func (r *rig) lead(change func(*Config)) (*Bridge, func()) {
	r.t.Helper()
	b, stop := r.start(change)
	until(r.t, "bridge leads", func() bool { return b.leader.leads.Load() && b.ready() == nil })
	return b, stop
}

func (r *rig) publish(name, payload string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := r.pub.Publish(ctx, name, payload).Err(); err != nil {
		r.t.Fatalf("publish %q: %v", name, err)
	}
}

// next is the next message that nodes get, pulses left out.
func (r *rig) next() *nats.Msg {
	r.t.Helper()
	limit := time.After(wait)
	for {
		select {
		case m := <-r.live:
			if m.Subject[len(r.names.Live())] != '$' {
				return m
			}
		case <-limit:
			r.t.Fatal("no message came")
		}
	}
}

// want checks the next message.
func (r *rig) want(name, payload string) *nats.Msg {
	r.t.Helper()
	m := r.next()
	got, err := channel.FromSubject(m.Subject[len(r.names.Live()):])
	if err != nil || got != name || string(m.Data) != payload {
		r.t.Fatalf("got %q with %.100q (%d bytes), %v; want %q with %.100q", got, m.Data, len(m.Data), err, name, payload)
	}
	return m
}

// state is the stream's.
func (r *rig) state() jetstream.StreamState {
	r.t.Helper()
	return r.info().State
}

func (r *rig) info() *jetstream.StreamInfo {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	s, err := r.js.Stream(ctx, r.names.Name)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.CachedInfo()
}

// messages are all that the stream holds, by subject below the log prefix.
func (r *rig) messages() (list []*stored) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.names.Name)
	if err != nil {
		r.t.Fatal(err)
	}
	// Not a question each: there are thousands, with the padding before barriers.
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{AckPolicy: jetstream.AckNonePolicy, MemoryStorage: true})
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() {
		if err := stream.DeleteConsumer(ctx, consumer.CachedInfo().Name); err != nil {
			r.t.Error(err)
		}
	}()
	for more := true; more; {
		batch, err := consumer.FetchNoWait(1000)
		if err != nil {
			r.t.Fatal(err)
		}
		more = false
		for m := range batch.Messages() {
			more = true
			meta, err := m.Metadata()
			if err != nil {
				r.t.Fatal(err)
			}
			var header bytes.Buffer
			if err := http.Header(m.Headers()).Write(&header); err != nil {
				r.t.Fatal(err)
			}
			list = append(list, &stored{
				Subject: m.Subject()[len(r.names.Log()):], Seq: meta.Sequence.Stream,
				Header: header.Bytes(), Data: m.Data(), Time: meta.Timestamp,
			})
		}
		if err := batch.Error(); err != nil {
			r.t.Fatalf("after %d messages: %v", len(list), err)
		}
	}
	return list
}

// lastPulse is the newest in the stream.
func (r *rig) lastPulse() wire.Pulse {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	k := &keeper{nc: r.nc, names: r.names}
	m, err := k.get(ctx, map[string]any{"last_by_subj": r.names.Log() + wire.PulseToken})
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := wire.ParsePulse(m.Data)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}
