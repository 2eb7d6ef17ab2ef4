package publisher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"sluice/shared/channel"
	"sluice/shared/control"
	"sluice/shared/redisconn"
	"sluice/shared/wire"
)

const (
	// tapAgain is how often nodes are asked to go on, within wire.TapLease.
	tapAgain = wire.TapLease * 2 / 5
	// tapWaiting bounds what has come and was not looked at yet.
	tapWaiting = 4096
	// tapTick is how often it is looked for what is late.
	tapTick = 100 * time.Millisecond
)

// tapOptions say what to follow.
type tapOptions struct {
	channel  string
	messages int           // it ends after so many,
	lasts    time.Duration // or after so long
	show     int           // bytes of payloads that are kept
}

// tapper follows the messages of one channel: by a subscription of its own in Redis,
// by one to the live subject, and by what nodes tell.
type tapper struct {
	tapOptions
	subject string
	id      string
	names   wire.Stream
	nc      *nats.Conn
	asker   *control.Asker
	redis   *redisconn.Server
	trails  trails
	seen    uint64 // highest sequence of the channel that is known
	blind   bool   // the stream does not answer

	came    chan any     // what the goroutines hear, in its order for each of them
	dropped atomic.Int64 // that had no room

	// What is told.
	ready  func(nodes control.Answers, server string)
	passed func(*trail)
}

// Things that come.
type (
	fromRedis struct {
		payload []byte
		at      time.Time
	}
	fromLive struct {
		payload []byte
		streamed
	}
	fromNodes struct{ answers control.Answers }
	ended     struct{ err error }
)

// hear never waits: a reader that stops would hold up a server.
func (t *tapper) hear(x any) {
	select {
	case t.came <- x:
	default:
		t.dropped.Add(1)
	}
}

// tap follows until there were as many messages as wanted, the time is over or the
// context ends; an error tells that something could not be heard any more.
func tap(ctx context.Context, cfg *Config, o tapOptions, log *slog.Logger, t *tapper) (err error) {
	t.tapOptions, t.names, t.came = o, cfg.Stream, make(chan any, tapWaiting)
	t.id = strings.ToLower(rand.Text())
	t.trails = trails{show: o.show, watching: map[string]int{}}
	if t.subject, err = channel.Subject(o.channel); err != nil {
		return err
	}
	if t.nc, err = openNATS(ctx, cfg.NATS, "operator", log); err != nil {
		return err
	}
	defer t.nc.Close()
	if t.asker, err = control.New(t.nc, t.names, nil); err != nil {
		return err
	}
	// NATS first: what Redis delivers from then on is heard there, too.
	if err := t.subscribe(); err != nil {
		return err
	}
	work, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { t.asker.Run(work) })
	first, err := t.askFirst(work)
	if err != nil {
		return err
	}
	home, err := redisconn.OpenHome(cfg.Redis.URL, redisconn.Options{Worker: "tap", Channel: wire.MarkChannel, TLS: cfg.Redis.Client})
	if err != nil {
		return err
	}
	defer home.Close()
	find, cancel := context.WithTimeout(work, redisTapLimit)
	defer cancel()
	if t.redis, err = home.Find(find); err != nil {
		return fmt.Errorf("REDIS_URL=%s: %w", redisconn.Redact(cfg.Redis.URL), err)
	}
	defer t.redis.Close()
	ps := t.redis.Subscribe(work)
	defer ps.Close() // ends listen
	if err := ps.Subscribe(find, o.channel); err != nil {
		return fmt.Errorf("subscribe at REDIS_URL=%s: %w", redisconn.Redact(cfg.Redis.URL), err)
	}
	if _, err := ps.ReceiveTimeout(find, redisTapLimit); err != nil {
		return explainTap(fmt.Errorf("subscribe at REDIS_URL=%s: %w", redisconn.Redact(cfg.Redis.URL), err))
	}
	wg.Go(func() { t.listen(work, ps) })
	wg.Go(func() { t.keepAsking(work, ps) })
	last, err := t.get(work, map[string]any{"last_by_subj": t.names.Log() + t.subject})
	if t.blind = err != nil; last != nil {
		t.seen = last.Seq
	}
	t.trails.since = time.Now()
	t.ready(first, t.redis.Addr)
	return t.follow(work)
}

// redisTapLimit bounds finding the server and subscribing there, and how long it may be
// silent, which is pinged each tapAgain.
const redisTapLimit = 5 * time.Second

func explainTap(err error) error {
	if redis.IsPermissionError(err) {
		return fmt.Errorf("%w (to tap a user needs: +subscribe +ping and the channel)", err)
	}
	return err
}

// subscribe listens to the live subject and to what nodes tell.
func (t *tapper) subscribe() error {
	for subject, f := range map[string]nats.MsgHandler{
		t.names.Live() + t.subject: func(m *nats.Msg) {
			s := streamed{live: time.Now()}
			s.seq, _ = strconv.ParseUint(lastValue(m.Header[wire.HeaderSequence]), 10, 64)
			s.stored, _ = time.Parse(time.RFC3339Nano, lastValue(m.Header["Nats-Time-Stamp"]))
			t.hear(fromLive{m.Data, s})
		},
		t.names.Taps(t.id): func(m *nats.Msg) {
			var r wire.Tapped
			if wire.DecodeControl(m.Data, &r) == nil {
				t.hear(r)
			}
		},
	} {
		sub, err := t.nc.Subscribe(subject, f)
		if err == nil {
			err = sub.SetPendingLimits(tapWaiting, 64<<20)
		}
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", subject, err)
		}
	}
	if err := t.nc.FlushTimeout(natsLimit); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// lastValue is of a header that is there twice if a message was republished twice.
func lastValue(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// askFirst asks until it is known which nodes there are, for a second or two.
func (t *tapper) askFirst(ctx context.Context) (answers control.Answers, err error) {
	for range 5 {
		if answers, err = t.ask(ctx); err != nil || answers.Complete {
			break
		}
		select {
		case <-time.After(control.Limit / 2):
		case <-ctx.Done():
			return answers, ctx.Err()
		}
	}
	t.take(fromNodes{answers})
	return answers, err
}

func (t *tapper) ask(ctx context.Context) (control.Answers, error) {
	return t.asker.Ask(ctx, wire.VerbTap, wire.Tap{ID: t.id, Subject: t.subject})
}

// keepAsking lets nodes go on, finds those that have just come, and has Redis say
// something.
func (t *tapper) keepAsking(ctx context.Context, ps *redis.PubSub) {
	tick := time.NewTicker(tapAgain)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		_ = ps.Ping(ctx) // listen sees what is wrong
		if answers, err := t.ask(ctx); err == nil {
			t.hear(fromNodes{answers})
		}
	}
}

// listen reads from Redis until the first error.
func (t *tapper) listen(ctx context.Context, ps *redis.PubSub) {
	for {
		m, err := ps.ReceiveTimeout(ctx, redisTapLimit)
		switch m := m.(type) {
		case *redis.Message:
			t.hear(fromRedis{[]byte(m.Payload), time.Now()})
		case *redis.Subscription:
			err = errors.New("the connection was made anew: messages may be missing")
		}
		if err == nil {
			continue
		}
		select {
		case t.came <- ended{fmt.Errorf("the link to Redis was lost: %w", err)}:
		case <-ctx.Done():
		}
		return
	}
}

// follow hands on what has passed, until there is enough.
func (t *tapper) follow(ctx context.Context) error {
	tick := time.NewTicker(tapTick)
	defer tick.Stop()
	over := time.NewTimer(t.lasts)
	defer over.Stop()
	for {
		select {
		case x := <-t.came:
			if e, is := x.(ended); is {
				return e.err
			}
			t.take(x)
		case <-tick.C:
		case <-over.C:
			t.trails.closed = true // what is on its way is waited for
		case <-ctx.Done():
			return ctx.Err()
		}
		now := time.Now()
		for _, one := range t.trails.done(now) {
			if !one.stream.is() {
				t.look(ctx, one)
				one.blind = t.blind
			}
			t.seen = max(t.seen, one.stream.seq)
			t.passed(one)
			if one.number == t.messages {
				return nil
			}
		}
		if t.trails.closed && len(t.trails.open) == 0 {
			return nil
		}
	}
}

// take takes in what has come.
func (t *tapper) take(x any) {
	switch x := x.(type) {
	case fromRedis:
		t.trails.redis(x.payload, x.at)
	case fromLive:
		if x.seq != 0 {
			t.blind = false // it has a leader again
		}
		t.trails.live(x.payload, x.streamed)
	case wire.Tapped:
		t.trails.node(x)
	case fromNodes:
		clear(t.trails.watching) // who has left, or does not answer, is not waited for
		for _, a := range x.answers.List {
			var r wire.Tapping
			if wire.DecodeControl(a.Body, &r) == nil && r.Clients > 0 {
				t.trails.watching[a.Name] = r.Clients
			}
		}
	}
}

// look looks in the stream for a message that was not heard on the live subject: it is
// the next one there, if it is there.
func (t *tapper) look(ctx context.Context, one *trail) {
	if t.blind {
		return
	}
	m, err := t.get(ctx, map[string]any{"seq": t.seen + 1, "next_by_subj": t.names.Log() + t.subject})
	if t.blind = err != nil; m != nil && wire.TapHash(m.Data) == one.hash {
		one.stream = streamed{seq: m.Seq, stored: m.Time, found: true}
	}
}

// stored is a message of the stream.
type stored struct {
	Seq  uint64    `json:"seq"`
	Data []byte    `json:"data"`
	Time time.Time `json:"time"`
}

// get asks the stream's leader for a message, nil if there is none.
func (t *tapper) get(ctx context.Context, what map[string]any) (*stored, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	body, _ := json.Marshal(what) // numbers and texts
	m, err := t.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+t.names.Name, body)
	if err != nil {
		return nil, fmt.Errorf("read from stream %s: %w", t.names.Name, err)
	}
	var resp struct {
		Message *stored `json:"message"`
		Error   *struct {
			Code        int    `json:"code"`
			Description string `json:"description"`
		} `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &resp); err != nil {
		return nil, fmt.Errorf("read from stream %s: %w", t.names.Name, err)
	}
	if e := resp.Error; e != nil && e.Code != http.StatusNotFound {
		return nil, fmt.Errorf("read from stream %s: %s", t.names.Name, e.Description)
	}
	return resp.Message, nil
}
