package bridge

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/shared/wire"
)

// model is several bridges at one Redis and one stream, without the network: only
// who has read how far, and who has written what.
type model struct {
	t       *rapid.T
	redis   []string // what was published: "nonce …", "refused" or "m"
	bridges []*modelled
	leader  int
	nonces  int

	stored   int    // of the last message in the stream, its index in redis
	position string // of the stream's end
	told     bool   // a gap mark came after it
}

type modelled struct {
	leader
	read int // index in redis
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, stored: -1}
	for range 3 {
		b := &modelled{}
		b.queue = newQueue(rapid.SampledFrom([]int64{5 * overhead, 1 << 20}).Draw(t, "bound"))
		m.bridges = append(m.bridges, b)
	}
	m.bridges[0].queue.leadAll()
	return m
}

func (m *model) pick() *modelled { return m.bridges[rapid.IntRange(0, 2).Draw(m.t, "bridge")] }

// deliver lets a bridge read up to n more of what Redis has sent it.
func (b *modelled) deliver(redis []string, n int) {
	for ; n > 0 && b.read < len(redis); n, b.read = n-1, b.read+1 {
		switch what := redis[b.read]; what {
		case "m":
			if !b.queue.push(message{subject: strconv.Itoa(b.read)}) {
				b.queue.tell(newMark(wire.GapDropped))
			}
		case "refused":
			b.queue.pass()
		default:
			b.queue.nonce(what, time.Time{})
		}
	}
}

// write stores up to n of what waits at the leader.
func (m *model) write(n int) {
	b := m.bridges[m.leader]
	batch, through := b.queue.pop(nil, n)
	for i := range batch {
		m.store(&b.leader, &batch[i])
	}
	if len(batch) == 0 {
		b.handled(through)
		m.position = b.place.text() // of a pulse
	}
}

func (m *model) store(l *leader, msg *message) {
	l.reach(msg)
	switch {
	case msg.nonce != nil || msg.broken:
		return
	case msg.mark != nil:
		m.told = true
	default:
		i, _ := strconv.Atoi(msg.subject)
		if i <= m.stored {
			m.t.Fatalf("message %d is stored after %d", i, m.stored)
		}
		for lost := m.stored + 1; lost < i && !m.told; lost++ {
			if m.redis[lost] == "m" {
				m.t.Fatalf("message %d is lost and nobody told", lost)
			}
		}
		m.stored, m.told = i, false
	}
	m.position = l.place.text()
}

// Whatever happens to bridges and their links, the stream has every message once and
// in order, or a gap mark where one is missing.
func TestTakeoversWithoutANetwork(t *testing.T) {
	exactly := 0
	check := func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(map[string]func(*rapid.T){
			"publish": func(t *rapid.T) {
				for range rapid.IntRange(1, 5).Draw(t, "n") {
					m.redis = append(m.redis, rapid.SampledFrom([]string{"m", "m", "m", "refused"}).Draw(t, "what"))
				}
			},
			"nonce": func(*rapid.T) {
				m.nonces++
				m.redis = append(m.redis, fmt.Sprint("nonce", m.nonces))
			},
			"read":  func(t *rapid.T) { m.pick().deliver(m.redis, rapid.IntRange(1, 9).Draw(t, "n")) },
			"write": func(t *rapid.T) { m.write(rapid.IntRange(1, 9).Draw(t, "n")) },
			"look":  func(*rapid.T) { _ = m.pick().queue.stored(m.position) },
			"lose the link": func(t *rapid.T) {
				b := m.pick()
				b.queue.broken()
				b.read = len(m.redis) // the new link brings only what is published from now on
				b.queue.tell(newMark(wire.GapUpstream))
			},
			"take over": func(t *rapid.T) {
				next := rapid.IntRange(0, 2).Draw(t, "next")
				if next == m.leader {
					return
				}
				old, b := m.bridges[m.leader], m.bridges[next]
				if b.queue.stored(m.position) != nil {
					// What it gets only now from Redis it would repeat, after a gap mark:
					// that it is not behind is what a cold one waits for.
					b.deliver(m.redis, m.stored+1-b.read)
				}
				from, _, why := b.queue.lead(m.position, nil, false)
				b.place, b.cut = from, false
				if why != nil {
					b.queue.tell(newMark(wire.GapUpstream))
				} else {
					exactly++
				}
				// The old one finds out: part of it may have been in its window.
				list, _ := old.queue.pop(nil, rapid.IntRange(0, 9).Draw(t, "in its window"))
				old.queue.back(list)
				m.leader = next
			},
		})
		for _, b := range m.bridges {
			b.deliver(m.redis, len(m.redis))
		}
		m.write(1 << 20)
	}
	for range 100 { // of a hundred runs each: they are short
		rapid.Check(t, check)
	}
	if exactly == 0 {
		t.Error("no takeover was exact: the test has not tested it")
	}
}

// A nonce that comes twice names no place.
func TestNonceTwice(t *testing.T) {
	q := newQueue(1 << 20)
	q.nonce("a", time.Time{})
	q.push(message{})
	if err := q.stored("a+1"); err != nil {
		t.Fatal(err)
	}
	q.nonce("a", time.Time{})
	if err := q.stored("a+1"); err == nil {
		t.Error("a position relative to it is taken")
	}
	for i := range maxAnchors + 1 {
		q.nonce(fmt.Sprint("b", i), time.Time{})
	}
	if n := len(q.order.anchors); n > maxAnchors {
		t.Errorf("%d nonces are remembered", n)
	}
	for _, bad := range []string{"", "b5", "b5+", "b5+x", "b5+-1", "+1"} {
		if err := q.stored(bad); err == nil {
			t.Errorf("position %q is taken", bad)
		}
	}
}

// What a standby keeps is bounded, however long the leader falls behind, and a
// leader that tells no position costs nothing.
func TestStandbyMemoryIsBounded(t *testing.T) {
	const bound = 1 << 20
	q := newQueue(bound)
	q.nonce("a", time.Time{})
	for i := range 3600 * 100 { // an hour of 100 a second
		q.push(message{subject: "some.channel", payload: "some text of a message"})
		if i%100 == 0 {
			q.nonce(fmt.Sprint("n", i), time.Time{})
		}
		if n, bytes := q.load(); bytes > bound || cap(q.list) > 4*bound/overhead || n > bound/overhead {
			t.Fatalf("%d messages, %d bytes, room for %d", n, bytes, cap(q.list))
		}
	}
	if err := q.stored("a+1"); err != errOverflow {
		// The nonce itself is forgotten after an hour.
		if err == nil {
			t.Error("a place before what is kept is taken")
		}
	}
	if err := q.stored("n359900+99"); err != nil {
		t.Error(err)
	}
	if n, _ := q.load(); n > 1 {
		t.Errorf("%d are kept that the stream has", n)
	}
	q.push(message{})
	_ = q.stored("")
	if n, _ := q.load(); n > 0 {
		t.Errorf("%d are kept for nothing", n)
	}
}

// What TestTakeoversWithoutANetwork finds only now and then.
func TestQueueCorners(t *testing.T) {
	begin := func(max int64) *queue {
		q := newQueue(max)
		q.nonce("a", time.Time{})
		return q
	}
	t.Run("a leader that had no room has a hole in what it keeps", func(t *testing.T) {
		q := begin(3 * overhead)
		q.leadAll()
		for q.push(message{}) {
		}
		q.back(nil)
		q.push(message{})
		if err := q.stored("a+0"); err != errOverflow {
			t.Errorf("as a standby: %v, want %v", err, errOverflow)
		}
	})
	t.Run("what was not acknowledged is kept when another leads", func(t *testing.T) {
		q := begin(1 << 20)
		q.leadAll()
		for range 3 {
			q.push(message{})
		}
		window, _ := q.pop(nil, 10)
		q.push(message{})
		q.back(window)
		err := q.stored("a+1")
		if n, _ := q.load(); err != nil || n != 3 {
			t.Errorf("%v, %d are kept, want 3", err, n)
		}
	})
	t.Run("the link breaks before it brought what the last leader had", func(t *testing.T) {
		q := begin(1 << 20)
		if _, _, err := q.lead("a+5", nil, false); err != nil {
			t.Fatal(err)
		}
		q.push(message{}) // stored by the last leader
		q.broken()
		q.push(message{})
		list, _ := q.pop(nil, 10)
		if len(list) != 2 || list[1].place.at != 6 {
			t.Errorf("%+v, want the break and message 6", list)
		}
	})
}
