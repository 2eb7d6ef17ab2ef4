// Package control asks all nodes of an installation over NATS and collects what they
// answer:
//
//	asker ── sluice.ctl.node.<verb> ──> every node
//	asker <── sluice.ctl.reply.<asker>.<n> ── every node, at once
//	every node ── sluice.ctl.hello, every few seconds ──> every asker
//
// By the hellos an asker knows who is there: it is done as soon as all of them have
// answered, and can tell when one has not. Nothing is stored anywhere that could go
// stale. An asker that nobody uses costs a message every few seconds.
package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/shared/wire"
)

const (
	// Limit is how long the answers of all nodes are waited for.
	Limit = 500 * time.Millisecond
	// mostAtOnce bounds the questions that wait for answers.
	mostAtOnce = 1024
	// mostWaiting and mostBytes bound the answers that nobody has looked at yet.
	mostWaiting = 1 << 14
	mostBytes   = 32 << 20
)

// Errors of Ask, when nobody was asked.
var (
	ErrAway = errors.New("not connected to NATS")
	ErrBusy = errors.New("too many questions to the nodes wait for their answers")
)

// Asker asks. Its methods are for all goroutines.
type Asker struct {
	// Questions asked, those that not all nodes have answered, and answers that came
	// too late or were none.
	Asked, Incomplete, Stray atomic.Uint64

	nc    *nats.Conn
	names wire.Stream
	id    string // in the subject of answers
	peers *peers

	mu      sync.Mutex // guards the following fields
	next    uint64
	waiting map[string]*question // by the last token of their subject
}

// question waits for answers; the asker's lock guards it.
type question struct {
	missing map[string]string // names by id of the nodes that have yet to answer
	answers map[string]wire.Answer
	done    chan struct{} // closed when all have
}

// Answers are what nodes have said to one question.
type Answers struct {
	List    []wire.Answer // of those that did what they were asked, each node once
	Missing []string      // names of nodes that did not answer in time, or refused
	// Complete tells that all nodes are in List. An asker that has been connected for
	// less than a moment does not know.
	Complete bool
}

// Bodies decodes what the nodes have said. One whose answer is not what the verb wants
// counts as missing: a is not complete then.
func Bodies[T any](a *Answers) []T {
	list := make([]T, 0, len(a.List))
	for i := range a.List {
		var body T
		if err := wire.DecodeControl(a.List[i].Body, &body); err != nil {
			a.Complete = false
			continue
		}
		list = append(list, body)
	}
	return list
}

// New makes an asker on a connection, which need not be there yet. self is what a
// node says of itself; nil for who is none. All of it ends with Run or the
// connection.
func New(nc *nats.Conn, names wire.Stream, self *wire.Hello) (*Asker, error) {
	a := &Asker{nc: nc, names: names, id: strings.ToLower(rand.Text()), waiting: map[string]*question{}}
	if self != nil {
		self.Version, self.ID = wire.ControlVersion, a.id
	}
	a.peers = newPeers(nc, names, self)
	if err := a.subscribe(names.Replies(a.id)+"*", a.take); err != nil {
		return nil, err
	}
	if err := a.subscribe(names.Hellos(), a.peers.hear); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *Asker) subscribe(subject string, f nats.MsgHandler) error {
	sub, err := a.nc.Subscribe(subject, f)
	if err == nil {
		err = sub.SetPendingLimits(mostWaiting, mostBytes)
	}
	if err != nil {
		return fmt.Errorf("subscribe %s: %w", subject, err)
	}
	return nil
}

// ID is that of the node's hellos and answers.
func (a *Asker) ID() string { return a.id }

// Run says hello, and forgets nodes that do not, until the context ends. A node says
// then that it leaves.
func (a *Asker) Run(ctx context.Context) { a.peers.run(ctx) }

// Nodes is how many nodes are there, and whether the asker has listened for long
// enough to know.
func (a *Asker) Nodes() (n int, known bool) {
	list, known := a.peers.now()
	return len(list), known
}

// Ask asks all nodes, and returns when all have answered, or with what there is when
// the context has ended; after Limit at the latest. An error means that nobody was
// asked.
func (a *Asker) Ask(ctx context.Context, verb string, body any) (Answers, error) {
	raw, err := wire.EncodeControl(body)
	if err != nil {
		return Answers{}, err
	}
	data, err := wire.EncodeControl(wire.Request{Version: wire.ControlVersion, Body: raw})
	if err != nil {
		return Answers{}, err
	}
	if !a.nc.IsConnected() {
		return Answers{}, ErrAway
	}
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	if a.peers.nobody() {
		a.Incomplete.Add(1)
		return Answers{}, nil // none of which would be worth waiting for
	}
	missing, known := a.peers.now()
	q := &question{missing: missing, answers: map[string]wire.Answer{}, done: make(chan struct{})}
	token, ok := a.wait(q)
	if !ok {
		return Answers{}, ErrBusy
	}
	defer a.forget(token)
	if err := ctx.Err(); err != nil {
		return Answers{}, err // nobody would wait for the answers
	}
	a.Asked.Add(1)
	if err := a.nc.PublishRequest(a.names.NodeVerb(verb), a.names.Replies(a.id)+token, data); err != nil {
		return Answers{}, fmt.Errorf("%w: %w", ErrAway, err)
	}
	done := q.done
	if !known {
		done = nil // somebody may answer of whom nothing was heard yet
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
	return a.result(q, known), nil
}

func (a *Asker) wait(q *question) (token string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.waiting) >= mostAtOnce {
		return "", false
	}
	a.next++
	token = strconv.FormatUint(a.next, 36)
	a.waiting[token] = q
	return token, true
}

func (a *Asker) forget(token string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, token)
}

func (a *Asker) result(q *question, known bool) (r Answers) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, answer := range q.answers {
		if answer.Refused == "" {
			r.List = append(r.List, answer)
		} else {
			r.Missing = append(r.Missing, answer.Name)
		}
	}
	for id, name := range q.missing {
		if !a.peers.left(id) { // else it has closed its streams
			r.Missing = append(r.Missing, name)
		}
	}
	r.Complete = known && len(r.Missing) == 0
	if !r.Complete {
		a.Incomplete.Add(1)
	}
	return r
}

// take takes an answer.
func (a *Asker) take(m *nats.Msg) {
	var answer wire.Answer
	if err := wire.DecodeControl(m.Data, &answer); err != nil || answer.ID == "" || answer.Version != wire.ControlVersion {
		a.Stray.Add(1)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	q := a.waiting[m.Subject[len(a.names.Replies(a.id)):]]
	if q == nil || len(q.answers) >= mostPeers {
		a.Stray.Add(1)
		return
	}
	if _, twice := q.answers[answer.ID]; twice {
		a.Stray.Add(1)
		return
	}
	q.answers[answer.ID] = answer
	if _, awaited := q.missing[answer.ID]; awaited {
		if delete(q.missing, answer.ID); len(q.missing) == 0 {
			close(q.done)
		}
	}
}
