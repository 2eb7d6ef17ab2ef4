package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

// pair is two bridges, each with proxies of its own, and a publisher that goes on.
type pair struct {
	*rig
	first, second             *Bridge
	stopFirst, stopSecond     func()
	redisOfFirst, natsOfFirst *embedded.Proxy
	wg                        sync.WaitGroup
	enough                    chan struct{}
	sent                      int
}

const pairRoutes = "c:> history=100000/10m; off history=off"

func newPair(t *testing.T, change func(*Config)) *pair {
	t.Helper()
	p := &pair{rig: newRig(t, embedded.NATSOptions{}), enough: make(chan struct{})}
	p.redisOfFirst, p.natsOfFirst = embedded.TestProxy(t, p.redis.Addr()), embedded.TestProxy(t, p.nats.Addr())
	with := func(c *Config) {
		if err := c.Routes.Decode(pairRoutes); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(c)
		}
	}
	p.first, p.stopFirst = p.lead(func(c *Config) {
		with(c)
		c.Redis.URL, c.NATS.URL = "redis://"+p.redisOfFirst.Addr(), "nats://"+p.natsOfFirst.Addr()
	})
	p.second, p.stopSecond = p.start(with)
	return p
}

// newSlowPair is a pair whose second bridge, hot, has a way of its own to NATS, which can
// be made slow, and what comes that way as padding: core NATS shows it whether the stream
// stores it or not. One message is published.
func newSlowPair(t *testing.T) (p *pair, slow *embedded.Proxy, padding *nats.Subscription) {
	t.Helper()
	p = newPair(t, nil)
	slow = embedded.TestProxy(t, p.nats.Addr())
	p.stopSecond()
	p.second, p.stopSecond = p.start(func(c *Config) {
		if err := c.Routes.Decode(pairRoutes); err != nil {
			t.Fatal(err)
		}
		c.NATS.URL = "nats://" + slow.Addr()
	})
	p.publish("c:0", expected(0))
	p.sent++
	p.want("c:0", expected(0))
	hot(t, p.second)
	var err error
	if padding, err = p.nc.SubscribeSync(p.names.Log() + wire.FenceToken); err != nil {
		t.Fatal(err)
	}
	return p, slow, padding
}

// flow publishes until finish is called. Of five messages one is always the same.
func (p *pair) flow() {
	p.wg.Go(func() {
		for {
			select {
			case <-p.enough:
				return
			case <-time.After(200 * time.Microsecond):
				p.publish("c:0", expected(p.sent))
				p.publish("off", strconv.Itoa(p.sent))
				p.sent++
			}
		}
	})
}

func expected(i int) string {
	if i%5 == 0 {
		return "again"
	}
	return strconv.Itoa(i)
}

// finish ends the flow and checks that the stream has all of it, once and in order.
func (p *pair) finish() {
	p.t.Helper()
	close(p.enough)
	p.wg.Wait()
	p.publish("c:0", "end")
	until(p.t, "all is stored", func() bool {
		list := p.messages()
		return len(list) > 0 && len(p.texts(list)) > 0 && last(p.texts(list)) == "end"
	})
	list := p.texts(p.messages())
	for i, text := range list[:len(list)-1] {
		if text != expected(i) {
			p.t.Fatalf("message %d of %d is %q, want %q; then %q", i, p.sent, text, expected(i), list[i:min(i+10, len(list))])
		}
	}
	if len(list) != p.sent+1 {
		p.t.Fatalf("%d are stored, want %d", len(list)-1, p.sent)
	}
}

func last(list []string) string { return list[len(list)-1] }

func (p *pair) texts(list []*stored) (texts []string) {
	for _, m := range list {
		if m.Subject == "c.0" {
			texts = append(texts, string(m.Data))
		}
	}
	return texts
}

func (r *rig) marks() (list []wire.Mark) {
	r.t.Helper()
	for _, m := range r.messages() {
		if m.Subject == wire.GapToken {
			mark, err := wire.ParseMark(m.Data)
			if err != nil {
				r.t.Fatal(err)
			}
			list = append(list, mark)
		}
	}
	return list
}

func (p *pair) noMarks() {
	p.t.Helper()
	if list := p.marks(); len(list) > 0 {
		p.t.Errorf("gap marks %+v", list)
	}
}

func hot(t testing.TB, b *Bridge) {
	t.Helper()
	until(t, "the standby is hot", func() bool { return b.leader.state.Load().hot })
}

// wholeLive checks that nodes have got every message of the channel without history.
func (p *pair) wholeLive() {
	p.t.Helper()
	for i := 0; i < p.sent; {
		if m := p.next(); m.Subject == p.names.Live()+"off" {
			if string(m.Data) != strconv.Itoa(i) {
				p.t.Fatalf("without history: got %s, want %d", m.Data, i)
			}
			i++
		}
	}
}

// A bridge is stopped while messages flow: the other goes on exactly there, also with
// those of channels without history, and nodes need not look for anything.
func TestPlannedTakeover(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	hot(t, p.second)
	p.flow()
	until(t, "messages flow", func() bool { return p.first.stats.stored.Load() > 300 })
	p.stopFirst()
	until(t, "the second leads", p.second.leader.leads.Load)
	until(t, "messages flow on", func() bool { return p.second.stats.stored.Load() > 300 })
	p.finish()
	p.noMarks()
	p.wholeLive()
	if n := p.second.stats.takeovers[planned].Load(); n != 1 {
		t.Errorf("%d planned takeovers", n)
	}
	for _, m := range p.messages() {
		if pulse, err := wire.ParsePulse(m.Data); err == nil && m.Subject == wire.PulseToken && pulse.Marked && pulse.Term == 2 {
			t.Error("the takeover's pulse is marked")
		}
	}
}

// The leader cannot reach NATS any more: the other goes on exactly there, and the
// first stands by, hot, when it comes back, and can take over in turn.
func TestTakeoverFromTheDead(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	hot(t, p.second)
	p.flow()
	until(t, "messages flow", func() bool { return p.first.stats.stored.Load() > 300 })
	p.natsOfFirst.Hang()
	until(t, "the second leads", p.second.leader.leads.Load)
	until(t, "messages flow on", func() bool { return p.second.stats.stored.Load() > 300 })
	p.natsOfFirst.Cut()
	until(t, "the first gives up", func() bool { return !p.first.leader.leads.Load() })
	hot(t, p.first)
	before := p.first.stats.stored.Load()
	p.stopSecond()
	until(t, "messages flow on", func() bool { return p.first.stats.stored.Load() > before+300 })
	p.finish()
	p.noMarks()
	if n := p.second.stats.takeovers[exact].Load(); n != 1 {
		t.Errorf("%d exact takeovers of the second", n)
	}
	if a, b := p.first.stats.leaders.Load(), p.second.stats.leaders.Load(); a != 1 || b != 1 {
		t.Errorf("each has seen the other one lead, and counts %d and %d times", a, b)
	}
}

// The leader loses Redis: it writes what it has and lets the other go on.
func TestTakeoverFromOneWithoutRedis(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	hot(t, p.second)
	p.flow()
	until(t, "messages flow", func() bool { return p.first.stats.stored.Load() > 300 })
	p.redisOfFirst.Shut() // not only cut: a link that is back at once is no reason to give way
	until(t, "the second leads", p.second.leader.leads.Load)
	p.redisOfFirst.Reopen()
	hot(t, p.first)
	p.finish()
	p.noMarks()
	if n := p.second.stats.takeovers[planned].Load(); n != 1 {
		t.Errorf("%d planned takeovers", n)
	}
}

// A refused message is not in the stream. If the leader dies before it has told the
// clients, the next one does.
func TestTakeoverTellsOfRefused(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	hot(t, p.second)
	p.publish("c:big1", strings.Repeat("x", 1<<20))
	until(t, "the first mark", func() bool { return len(p.marks()) == 1 })
	p.publish("c:big2", strings.Repeat("x", 1<<20)) // told in a second
	p.publish("c:0", "after")
	p.want("c:0", "after")
	p.natsOfFirst.Mute.Store(true)
	until(t, "the second leads", p.second.leader.leads.Load)
	until(t, "clients are told", func() bool {
		return slices.ContainsFunc(p.marks(), func(m wire.Mark) bool { return slices.Contains(m.Subjects, "c.big2") })
	})
	if n := p.second.stats.takeovers[exact].Load(); n != 1 {
		t.Errorf("%d exact takeovers", n)
	}
}

// Who takes over without knowing where the last leader was tells everybody.
func TestColdTakeover(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	_, stop := r.lead(nil)
	second, _ := r.start(func(c *Config) {
		if err := c.Bridge.Patterns.Decode("c:*"); err != nil {
			t.Fatal(err)
		}
	})
	r.publish("c:0", "0")
	r.want("c:0", "0")
	until(t, "the second knows why it is cold", func() bool { return errors.Is(second.leader.state.Load().why, errOtherPlan) })
	// The first one counts what the second does not hear of.
	until(t, "the first counts far from a nonce", func() bool {
		// At once, for a nonce comes each second.
		const many = 150
		pipe := r.pub.Pipeline()
		for range many {
			pipe.Publish(t.Context(), "x:1", "x")
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
		var last *nats.Msg
		for range many {
			last = r.want("x:1", "x")
		}
		stamp, err := wire.ParseStamp(last.Header.Get(wire.Header))
		if err != nil {
			t.Fatal(err)
		}
		_, count, _ := strings.Cut(stamp.Position, "+")
		n, err := strconv.Atoi(count)
		return err == nil && n > 100
	})
	stop()
	until(t, "the second leads", second.leader.leads.Load)
	r.publish("c:0", "1")
	r.want("c:0", "1")
	if list := r.marks(); len(list) != 1 || list[0].Reason != wire.GapUpstream || list[0].Subjects != nil {
		t.Errorf("gap marks %+v", list)
	}
}

// A bridge takes over while Redis is away: what is published until it has a link is
// told, too.
func TestTakeoverWithoutRedis(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	_, stop := r.lead(nil)
	stop()
	if err := r.redis.Stop(); err != nil {
		t.Fatal(err)
	}
	second, _ := r.start(nil)
	until(t, "it leads all the same", second.leader.leads.Load)
	until(t, "the takeover is told", func() bool { return len(r.marks()) == 1 })
	if err := r.redis.Restart(); err != nil {
		t.Fatal(err)
	}
	until(t, "it has a link", second.source.linked)
	until(t, "the time without one is told", func() bool { return len(r.marks()) == 2 })
}

// What an ex-leader had on its way to the stream arrives after another bridge took
// over: none of it may be stored, whatever sequence it expects.
func TestStaleMessagesAreFenced(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	p.publish("c:0", "0")
	p.want("c:0", "0")
	hot(t, p.second)
	p.natsOfFirst.Hang()
	before := p.state().LastSeq
	until(t, "the second leads", p.second.leader.leads.Load)
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	stored := 0
	for i := range uint64(maxWindow) {
		m := nats.NewMsg(p.names.Log() + "c.0")
		m.Header.Set(wire.Header, wire.Stamp{Term: 1, Number: i + 10}.String())
		m.Header.Set(headerExpected, fmt.Sprint(before+i))
		answer, err := p.nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseAck(answer); err == nil {
			stored++
		}
	}
	if stored > 0 {
		t.Errorf("%d stale messages were stored", stored)
	}
}

// Where the padding takes longer than an answer may, a bridge takes over all the same.
func TestTakeoverOnASlowWay(t *testing.T) {
	t.Parallel()
	p, slow, _ := newSlowPair(t)
	const fence = fenceLen * 150 // bytes, at least
	slow.Rate.Store(fence / int64(askLimit/time.Second))
	p.natsOfFirst.Shut() // or it would be back by then
	until(t, "the second leads", p.second.leader.leads.Load)
}

// Messages of an ex-leader that come while the padding is on its way are all stored, and
// the padding is not, or none of them is.
func TestStaleMessagesMeetThePadding(t *testing.T) {
	t.Parallel()
	p, slow, padding := newSlowPair(t)
	slow.Rate.Store(fenceLen * 150 / 5) // it would take five seconds, half of what it may
	p.natsOfFirst.Shut()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	if _, err := padding.NextMsgWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	e, err := (&keeper{nc: p.nc, names: p.names}).readEnd(ctx)
	if err != nil {
		t.Fatal(err)
	}
	before := e.seq
	if e.fence != "" { // on a busy machine all of it may be there already
		before -= fenceLen
	}
	answers, err := p.nc.SubscribeSync(p.nc.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(maxWindow) {
		m := nats.NewMsg(p.names.Log() + "c.0")
		m.Reply = answers.Subject
		m.Header.Set(wire.Header, wire.Stamp{Term: 1, Number: i + 10}.String())
		m.Header.Set(headerExpected, fmt.Sprint(before+i))
		if err := p.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	stored := 0
	var refused error
	for range maxWindow {
		answer, err := answers.NextMsgWithContext(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseAck(answer); err == nil {
			stored++
		} else if refused == nil {
			refused = err
		}
	}
	if stored != 0 && stored != maxWindow {
		t.Errorf("%d of %d stale messages were stored after %d, the first of the others not: %v", stored, maxWindow, before, refused)
	}
	slow.Rate.Store(0)
	until(t, "the second leads", p.second.leader.leads.Load)
}

// The leader's way to NATS stands still for so long that the other begins to take over,
// and goes on while the padding is on its way: whoever leads in the end, nothing is lost
// or repeated.
func TestLeaderGoesOnDuringThePadding(t *testing.T) {
	t.Parallel()
	p, slow, padding := newSlowPair(t)
	p.flow()
	until(t, "messages flow", func() bool { return p.first.stats.stored.Load() > 100 })
	slow.Rate.Store(fenceLen * 150)
	p.natsOfFirst.Hold.Store(true)
	if _, err := padding.NextMsg(wait); err != nil {
		t.Fatal(err)
	}
	p.natsOfFirst.Hold.Store(false)
	slow.Rate.Store(0)
	p.finish()
	p.noMarks()
}

// A bridge's own late messages, which come by its old connection while it writes padding
// by a new one, are all stored or none.
func TestOwnLateMessagesMeetThePadding(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	old, slow := embedded.TestProxy(t, r.nats.Addr()), embedded.TestProxy(t, r.nats.Addr())
	slow.Shut()
	b, _ := r.lead(func(c *Config) { c.NATS.URL = "nats://" + old.Addr() + ",nats://" + slow.Addr() })
	r.publish("c:0", "0")
	until(t, "it is stored", func() bool { return b.stats.stored.Load() == 1 })
	padding, err := r.nc.SubscribeSync(r.names.Log() + wire.FenceToken)
	if err != nil {
		t.Fatal(err)
	}
	old.Hold.Store(true)
	const count = 500
	for i := range count {
		r.publish("c:0", fmt.Sprint(i+1))
	}
	until(t, "the bridge rewinds", func() bool { return b.stats.rewinds.Load() == 1 })
	slow.Rate.Store(count * 150)
	slow.Reopen()
	if _, err := padding.NextMsg(wait); err != nil {
		t.Fatal(err)
	}
	old.Hold.Store(false)
	slow.Rate.Store(0)
	until(t, "all is stored", func() bool { return b.stats.stored.Load() == count+1 })
	checkWhole(t, r.payloads(), count+1)
	r.publish("c:0", fmt.Sprint(count+1))
	until(t, "it goes on", func() bool { return len(r.payloads()) >= count+2 })
	checkWhole(t, r.payloads(), count+2)
	if list := r.marks(); len(list) > 0 {
		t.Errorf("gap marks %+v", list)
	}
}
