package ssenode

import (
	"encoding/json"
	"errors"
	"slices"
	"time"

	"sluice/shared/wire"
)

// An id vouches for everything up to its sequence. When a message was stored and has
// not come here, though the connection to NATS was well, ids of other channels have
// vouched for it by the time that this is found out. A client that left with such an
// id, and is back, would never get the message, wherever it is: the other node may
// have begun its channels later and lack nothing. So the node that finds out tells all
// nodes of which ids there is a doubt. Whoever came back with one, or does so later, is
// told of a gap and goes back to before them.

const (
	// The other nodes are told once in tellOften for tellFirst, and then once in tellEvery
	// for as long as marks are kept: one may begin later, have been away from NATS, or not
	// get what it is told, as happened to the message.
	tellOften = time.Second
	tellFirst = 30 * time.Second
	tellEvery = 10 * time.Second
	// maxDoubts bounds the doubts that are told, and those heard that wait.
	maxDoubts = 64
)

// doubts are what a node tells, and hears of others. All but the channels is the
// dispatcher's.
type doubts struct {
	queue chan wire.Doubt // heard
	since uint64          // the last pulse before a hole that is not told of yet, else 0
	// vouching tells that ids are given: a pulse has come since the last check began.
	vouching bool
	own      []*mark   // told until they are old, oldest first
	spread   time.Time // when they were told last
	publish  func(wire.Doubt) error
	telling  chan struct{} // capacity 1: they are being told
}

func newDoubts() doubts {
	return doubts{queue: make(chan wire.Doubt, maxDoubts), telling: make(chan struct{}, 1)}
}

// hole notes that a message is missing, for which ids may have vouched: those given after
// the last pulse that was checked. There are none if nothing was given since, or if ids
// are withheld (vouching). The next pulse tells of it, or a check that comes before that:
// so many holes are one doubt.
func (d *dispatcher) hole() {
	if head := d.head.Load(); d.doubts.since == 0 && d.doubts.vouching && d.newest > head {
		d.doubts.since = head
	}
}

// doubt tells of the holes since the last pulse. No id was given above the newest event.
func (d *dispatcher) doubt(now time.Time) {
	since := d.doubts.since
	if d.doubts.since = 0; since == 0 {
		return
	}
	m := &mark{seq: d.newest + 1, since: since, at: now}
	if !d.addDoubt(m) {
		return
	}
	d.stats.doubts.Add(1)
	if len(d.doubts.own) == maxDoubts { // the oldest was told already
		d.doubts.own = slices.Delete(d.doubts.own, 0, 1)
	}
	d.doubts.own = append(d.doubts.own, m)
	d.tellDoubts(now)
}

// heardDoubt takes what another node tells. What is of another epoch, or above what this
// node knows that there is, it is told again if it is so.
func (d *dispatcher) heardDoubt(x wire.Doubt) {
	if x.Epoch == d.epochNow() && x.Seq <= max(d.head.Load(), d.newest)+1 {
		d.addDoubt(&mark{seq: x.Seq, since: x.Since, at: time.Now()})
	}
}

// addDoubt keeps the mark for who comes back, and tells those who have. It returns false
// if it was known.
func (d *dispatcher) addDoubt(m *mark) bool {
	covers := func(have *mark) bool { return have.since != 0 && have.since <= m.since && m.seq <= have.seq }
	if slices.ContainsFunc(*d.marks.Load(), covers) {
		return false
	}
	d.keepMark(m)
	d.tell(func(l *loop) { l.doubt(m) })
	return true
}

// tellDoubts tells the other nodes. It does not wait: a connection that has stalled
// would hold up everything.
func (d *dispatcher) tellDoubts(now time.Time) {
	x := &d.doubts
	x.own = slices.DeleteFunc(x.own, func(m *mark) bool { return now.Sub(m.at) > 2*d.hub.routes.MaxAge() })
	if len(x.own) == 0 {
		return
	}
	select {
	case x.telling <- struct{}{}:
	default:
		return // and again later
	}
	x.spread = now
	list, epoch := slices.Clone(x.own), d.epochNow()
	d.helpers.Go(func() {
		defer func() { <-x.telling }()
		for _, m := range list {
			if err := x.publish(wire.Doubt{Epoch: epoch, Since: m.since, Seq: m.seq}); err != nil {
				d.log.Warn("other nodes are not told of ids that vouch for too much", "error", err)
				return
			}
		}
	})
}

// tellAgain tells the other nodes again when it is time.
func (d *dispatcher) tellAgain(now time.Time) {
	every := tellEvery
	if own := d.doubts.own; len(own) > 0 && now.Sub(own[len(own)-1].at) < tellFirst {
		every = tellOften
	}
	if now.Sub(d.doubts.spread) >= every {
		d.tellDoubts(now)
	}
}

// doubt sends sessions back that came with an id of the mark's.
func (l *loop) doubt(m *mark) {
	for _, list := range l.sessions.lists {
		for _, s := range list {
			if !s.closed && s.resumed && m.doubts(s.first) {
				s.goBack()
			}
		}
	}
}

// goBack lets a session begin once more with the id that it came with, see resume. What
// it was given since comes again after the gap that tells of it. So does, of a channel
// that was added to it, what was published shortly before that.
func (s *session) goBack() {
	if !s.behind {
		s.fallBehind()
		s.cursor = s.loop.n
	}
	from := wire.ID{Epoch: s.loop.epoch, Seq: s.first}
	s.start = &start{id: from.String(), from: from}
	s.replaying, s.waiting, s.told, s.ahead = false, false, nil, ahead{}
	if c := s.poll(); c != nil {
		c.answer.Events, c.size = c.answer.Events[:0], 0
	}
	if len(s.rest) == 0 {
		s.catchUp()
	}
}

var errNoDoubt = errors.New("not a doubt")

// askedToDoubt hands what another node tells to the dispatcher. Nobody is answered.
func (n *Node) askedToDoubt(body json.RawMessage, answer func(any)) error {
	var x wire.Doubt
	if err := wire.DecodeControl(body, &x); err != nil {
		return err
	}
	if x.Epoch == "" || x.Since == 0 || x.Since >= x.Seq {
		return errNoDoubt
	}
	select {
	case n.dispatch.doubts.queue <- x:
	default:
		return errCannot // it is told again
	}
	answer(struct{}{})
	return nil
}

// tellDoubt publishes one for all nodes.
func (n *Node) tellDoubt(x wire.Doubt) error {
	body, err := wire.EncodeControl(x)
	if err != nil {
		return err
	}
	data, err := wire.EncodeControl(wire.Request{Version: wire.ControlVersion, Body: body})
	if err != nil {
		return err
	}
	return n.nc.Publish(n.cfg.Stream.NodeVerb(wire.VerbDoubt), data)
}
