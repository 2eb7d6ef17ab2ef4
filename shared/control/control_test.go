package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sluice/shared/embedded"
	"sluice/shared/wire"
)

func TestMain(m *testing.M) {
	embedded.TestsAtOnce(8, 8)
	goleak.VerifyTestMain(m)
}

const wait = 20 * time.Second

var names = wire.Stream{Name: "SLUICE", Prefix: "acme"}

func connect(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// node is an asker that also answers "echo" with its name, and what a test sets.
type node struct {
	*Asker
	nc   *nats.Conn
	stop func()

	mu     sync.Mutex // guards answer
	answer func(m *nats.Msg)
}

func (n *node) reply(m *nats.Msg, a wire.Answer) {
	a.Version = wire.ControlVersion
	data, _ := wire.EncodeControl(a)
	_ = m.Respond(data)
}

func (n *node) with(f func(m *nats.Msg)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answer = f
}

// start runs an asker; with a name it is a node.
func start(t *testing.T, url, name string) *node {
	t.Helper()
	n := &node{nc: connect(t, url)}
	var self *wire.Hello
	if name != "" {
		self = &wire.Hello{Name: name}
	}
	var err error
	if n.Asker, err = New(n.nc, names, self); err != nil {
		t.Fatal(err)
	}
	n.answer = func(m *nats.Msg) { n.reply(m, wire.Answer{ID: n.ID(), Name: name}) }
	if name != "" {
		if _, err := n.nc.Subscribe(names.NodeVerb("echo"), func(m *nats.Msg) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.answer(m)
		}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { n.Run(ctx) })
	n.stop = func() { cancel(); wg.Wait(); n.nc.Close() }
	t.Cleanup(n.stop)
	return n
}

func know(t *testing.T, want int, all ...*node) {
	t.Helper()
	for _, n := range all {
		embedded.Eventually(t, fmt.Sprintf("%d nodes are known", want), wait, func() bool {
			got, known := n.Nodes()
			return got == want && known
		})
	}
}

// echo asks, and wants answers of these and silence of those.
func echo(t *testing.T, n *node, complete bool, from, missing []string) {
	t.Helper()
	a, err := n.Ask(t.Context(), "echo", map[string]int{"x": 1})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range a.List {
		got = append(got, x.Name)
	}
	slices.Sort(got)
	slices.Sort(a.Missing)
	if !slices.Equal(got, from) || !slices.Equal(a.Missing, missing) || a.Complete != complete {
		t.Errorf("answers of %v, missing %v, complete %v; want %v, %v, %v", got, a.Missing, a.Complete, from, missing, complete)
	}
}

// All nodes answer, whoever asks; one that does not is known by its name; one that
// leaves is not waited for.
func TestAsk(t *testing.T) {
	t.Parallel()
	url := embedded.TestNATS(t).URL()
	a, b := start(t, url, "a"), start(t, url, "b")
	publisher := start(t, url, "") // asks, and is none of them
	know(t, 2, a, b, publisher)
	for _, n := range []*node{a, b, publisher} {
		echo(t, n, true, []string{"a", "b"}, nil)
	}
	c := start(t, url, "c")
	know(t, 3, a, b, c, publisher)
	echo(t, publisher, true, []string{"a", "b", "c"}, nil)

	c.with(func(*nats.Msg) {})
	echo(t, a, false, []string{"a", "b"}, []string{"c"})
	c.with(func(m *nats.Msg) {
		c.reply(m, wire.Answer{ID: c.ID(), Name: "c", Refused: wire.RefusedBusy})
	})
	echo(t, a, false, []string{"a", "b"}, []string{"c"})
	if a.Incomplete.Load() != 2 {
		t.Errorf("%d questions were incomplete, want 2", a.Incomplete.Load())
	}
	// Whatever else comes is none: another version, nonsense, the same again.
	c.with(func(m *nats.Msg) {
		_ = m.Respond([]byte("nonsense"))
		_ = m.Respond([]byte(`{"v":99,"id":"z","node":"z"}`))
		_ = m.Respond([]byte(`{"v":1,"node":"z"}`))
		c.reply(m, wire.Answer{ID: c.ID(), Name: "c"})
		c.reply(m, wire.Answer{ID: c.ID(), Name: "c"})
	})
	echo(t, a, true, []string{"a", "b", "c"}, nil)
	embedded.Eventually(t, "four are counted as none", wait, func() bool { return a.Stray.Load() == 4 })

	c.with(func(*nats.Msg) {}) // its subscription is still there, and its answer may come first
	c.stop()
	know(t, 2, a, b, publisher)
	echo(t, publisher, true, []string{"a", "b"}, nil)
}

// Who leaves while it is asked is not missing.
func TestAskLeaving(t *testing.T) {
	t.Parallel()
	url := embedded.TestNATS(t).URL()
	a, b := start(t, url, "a"), start(t, url, "b")
	know(t, 2, a, b)
	b.with(func(*nats.Msg) { go b.stop() })
	echo(t, a, true, []string{"a"}, nil)
}

// Without NATS nobody is asked; when it is back all know each other again.
func TestAskAway(t *testing.T) {
	t.Parallel()
	server := embedded.TestNATS(t)
	a, b := start(t, server.URL(), "a"), start(t, server.URL(), "b")
	know(t, 2, a, b)
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	embedded.Eventually(t, "it is away", wait, func() bool { return !a.nc.IsConnected() })
	if _, err := a.Ask(t.Context(), "echo", nil); !errors.Is(err, ErrAway) {
		t.Errorf("got %v", err)
	}
	away := time.Now()
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	embedded.Eventually(t, "it is back", wait, func() bool { return a.nc.IsConnected() && b.nc.IsConnected() })
	// It has listened anew before it trusts what it knew.
	embedded.Eventually(t, "it has listened anew", wait, func() bool {
		a.peers.mu.Lock()
		defer a.peers.mu.Unlock()
		return a.peers.since.After(away)
	})
	know(t, 2, a, b)
	echo(t, a, true, []string{"a", "b"}, nil)
}

// A node that comes back after it has forgotten the others does not take itself for the
// only one, though they know it still, and so would not greet it.
func TestForgotten(t *testing.T) {
	t.Parallel()
	server := embedded.TestNATS(t)
	hop := embedded.TestProxy(t, server.Addr())
	a, b := start(t, "nats://"+hop.Addr(), "a"), start(t, server.URL(), "b")
	know(t, 2, a, b)
	cut := time.Now()
	hop.Cut()
	a.peers.forget(cut.Add(2 * lostAfter))
	var n int
	embedded.Eventually(t, "it trusts what it knows", wait, func() (known bool) {
		a.peers.mu.Lock()
		again := a.peers.since.After(cut)
		a.peers.mu.Unlock()
		n, known = a.Nodes()
		return again && known
	})
	if n != 2 {
		t.Errorf("it knows %d nodes", n)
	}
}

// Where no node is, nobody waits for answers.
func TestAskNobody(t *testing.T) {
	t.Parallel()
	a := start(t, embedded.TestNATS(t).URL(), "")
	embedded.Eventually(t, "it knows that nobody is there", wait, a.peers.nobody)
	if got, err := a.Ask(t.Context(), "echo", nil); err != nil || got.Complete || a.Asked.Load() != 0 {
		t.Errorf("%+v %v", got, err)
	}
}

// Questions are bounded, in size and in number, and none is left over.
func TestAskBounded(t *testing.T) {
	t.Parallel()
	a := start(t, embedded.TestNATS(t).URL(), "a")
	know(t, 1, a)
	if _, err := a.Ask(t.Context(), "echo", make([]byte, wire.MaxControl)); err == nil {
		t.Error("one that is too large was asked")
	}
	a.with(func(*nats.Msg) {})
	over, cancel := context.WithCancel(t.Context())
	cancel()
	before := a.Asked.Load()
	if _, err := a.Ask(over, "echo", nil); !errors.Is(err, context.Canceled) || a.Asked.Load() != before {
		t.Errorf("asked for nobody: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	for range mostAtOnce - 1 {
		a.wait(&question{})
	}
	if _, err := a.Ask(ctx, "echo", nil); err != nil {
		t.Errorf("the last one that fits: %v", err)
	}
	a.wait(&question{})
	if _, err := a.Ask(t.Context(), "echo", nil); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	if len(a.waiting) != mostAtOnce {
		t.Errorf("%d wait", len(a.waiting))
	}
}

// A node of another kind counts as one that has not answered.
func TestBodies(t *testing.T) {
	a := &Answers{Complete: true, List: []wire.Answer{{Body: []byte(`{"count":2}`)}, {Body: []byte(`[]`)}, {Body: []byte(`{"count":3}`)}}}
	if list := Bodies[wire.Present](a); len(list) != 2 || list[0].Count != 2 || list[1].Count != 3 || a.Complete {
		t.Errorf("%+v, complete: %v", list, a.Complete)
	}
}
