package ssenode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"sluice/shared/control"
	"sluice/shared/wire"
	"sluice/shared/worker"
)

const (
	// mostInWork bounds the requests of other nodes that wait for this node's loops;
	// mostQueued and queuedBytes those that nobody has looked at yet. All are of each
	// verb: who asks how many listen is not to hinder who wants to subscribe.
	mostInWork  = 256
	mostQueued  = 4096
	queuedBytes = 32 << 20
)

// service is what a node can be asked over NATS, as a NATS micro service: every node
// shows in `nats micro ls`, and what it is asked in `nats micro stats`. Each verb
// has an endpoint of its own, with one goroutine, that all nodes hear.
type service struct {
	nc     *nats.Conn
	names  wire.Stream
	name   string // of the node
	id     string // as in its hellos
	stats  *stats
	micro  micro.Service
	inWork map[string]*atomic.Int64 // by verb; written at the start only
	done   chan answered            // with room for all that are in work
	tapped <-chan tapReport
}

// answered is an answer to be sent.
type answered struct {
	to     string
	body   any
	inWork *atomic.Int64
}

// newService makes the service; it ends with the connection.
func newService(n *Node) (*service, error) {
	s := &service{nc: n.nc, names: n.cfg.Stream, name: n.cfg.SSENode.Name, id: n.asker.ID(), stats: n.stats, inWork: map[string]*atomic.Int64{}, done: make(chan answered, len(wire.Verbs)*mostInWork), tapped: n.dispatch.taps.out}
	var err error
	s.micro, err = micro.AddService(n.nc, micro.Config{
		Name: serviceName(n.cfg.Stream.Prefix), Version: fmt.Sprintf("%d.0.0", wire.ControlVersion),
		Description:        "delivers events as server-sent events",
		Metadata:           map[string]string{"node": s.name, "id": s.id, "version": worker.Version()},
		QueueGroupDisabled: true, // a request is for all nodes
		StatsHandler:       func(*micro.Endpoint) any { return map[string]uint64{"connections": n.stats.open()} },
	})
	if err != nil {
		return nil, fmt.Errorf("offer the node as a NATS service: %w", err)
	}
	return s, nil
}

// serviceName has only what NATS allows in the name of a service.
func serviceName(prefix string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && nodeName.MatchString(string(r)) && r != '.' && r != '~' {
			return r
		}
		return '_'
	}, prefix) + "-ssenode"
}

// on offers a verb. f must not block: it calls answer once, from any goroutine, with
// the body of the answer, or returns an error for a body that is malformed.
func (s *service) on(verb string, f func(body json.RawMessage, answer func(any)) error) error {
	inWork := new(atomic.Int64)
	s.inWork[verb] = inWork
	err := s.micro.AddEndpoint(verb, micro.HandlerFunc(func(r micro.Request) { s.handle(r, inWork, f) }),
		micro.WithEndpointSubject(s.names.NodeVerb(verb)), micro.WithEndpointPendingLimits(mostQueued, queuedBytes))
	if err != nil {
		return fmt.Errorf("offer %s to other nodes: %w", verb, err)
	}
	return nil
}

func (s *service) handle(r micro.Request, inWork *atomic.Int64, f func(json.RawMessage, func(any)) error) {
	s.stats.asked.Add(1)
	var q wire.Request
	switch err := wire.DecodeControl(r.Data(), &q); {
	case err != nil:
		s.refuse(r, wire.RefusedMalformed)
		return
	case q.Version != wire.ControlVersion:
		s.refuse(r, wire.RefusedVersion)
		return
	}
	if inWork.Add(1) > mostInWork {
		inWork.Add(-1)
		s.refuse(r, wire.RefusedBusy)
		return
	}
	// Not by the request, which is its goroutine's.
	to := r.Reply()
	err := f(q.Body, func(body any) { s.done <- answered{to, body, inWork} })
	if err != nil {
		inWork.Add(-1)
		s.refuse(r, refusalOf(err))
	}
}

// run sends the answers, until the context ends. The loops do not: a connection that
// has stalled would hold up their clients.
func (s *service) run(ctx context.Context) {
	for {
		select {
		case a := <-s.done:
			a.inWork.Add(-1)
			raw, err := wire.EncodeControl(a.body)
			if err != nil || a.to == "" {
				continue // who asks sees that this node is missing
			}
			_ = s.nc.Publish(a.to, s.answer(wire.Answer{Body: raw}))
		case r := <-s.tapped:
			r.body.Node = s.name
			for _, id := range r.ids {
				if raw, err := wire.EncodeControl(r.body); err == nil {
					_ = s.nc.Publish(s.names.Taps(id), raw)
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// errCannot is why a node cannot do what it is asked, though it was asked rightly.
var errCannot = errors.New("not now")

func refusalOf(err error) string {
	if errors.Is(err, errCannot) {
		return wire.RefusedBusy
	}
	return wire.RefusedMalformed
}

// refuse answers a request that is not done, and lets NATS count it.
func (s *service) refuse(r micro.Request, why string) {
	s.stats.refusedAsk(why)
	_ = r.Error("400", why, s.answer(wire.Answer{Refused: why}))
}

func (s *service) answer(a wire.Answer) []byte {
	a.Version, a.ID, a.Name = wire.ControlVersion, s.id, s.name
	data, err := wire.EncodeControl(a)
	if err != nil {
		return nil
	}
	return data
}

// startControl makes what nodes ask each other with.
func (n *Node) startControl() (err error) {
	if n.asker, err = control.New(n.nc, n.cfg.Stream, &wire.Hello{Name: n.cfg.SSENode.Name}); err != nil {
		return err
	}
	s, err := newService(n)
	if err != nil {
		return err
	}
	n.service = s
	for verb, f := range map[string]func(json.RawMessage, func(any)) error{
		wire.VerbRefresh:     n.askedToRefresh,
		wire.VerbSubscribe:   n.askedToSubscribe,
		wire.VerbUnsubscribe: n.askedToUnsubscribe,
		wire.VerbPresence:    n.askedForPresence,
		wire.VerbClients:     n.askedForClients,
		wire.VerbInspect:     n.askedToInspect,
		wire.VerbTap:         n.askedToTap,
		wire.VerbDoubt:       n.askedToDoubt,
	} {
		if err := s.on(verb, f); err != nil {
			return err
		}
	}
	return nil
}
