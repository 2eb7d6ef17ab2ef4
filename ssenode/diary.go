package ssenode

import (
	"strings"
	"sync"
	"time"

	"sluice/shared/channel"
	"sluice/shared/wire"
	"sluice/ssenode/auth"
)

const (
	// mostNoted is how many of each kind a node remembers.
	mostNoted = 1000
	// notedNames bounds the names of channels in a note, in bytes, notedText other
	// texts: all notes take a few MB at the most.
	notedNames = 512
	notedText  = 256
	// countAtClose is how many events are looked at to tell what a stream that is closed
	// did not get: many may be closed at a time.
	countAtClose = 1000
)

// diary is what a node remembers of streams that were closed, of what single clients
// were told to have lost, and of requests that were refused, so that an operator can ask
// later. A loss that all clients of a channel had is not in it: the stream has those, see
// mark.
type diary struct {
	closes   notes[closeNote]
	losses   notes[lossNote]
	refusals notes[refusalNote]
}

// begin notes that nothing was before now.
func (d *diary) begin() {
	now := time.Now()
	d.closes.from, d.losses.from, d.refusals.from = now, now, now
}

// notes are the last ones of a kind, in a list that goes round.
type notes[T any] struct {
	mu   sync.Mutex // guards the following fields
	list []T
	next int
	from time.Time // since then all are here
}

// add puts one in, in the place of the oldest; when tells when that was.
func (n *notes[T]) add(one T, when func(T) time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.list) < mostNoted {
		n.list = append(n.list, one)
		return
	}
	n.from = when(n.list[n.next])
	n.list[n.next] = one
	n.next = (n.next + 1) % mostNoted
}

// newest returns those for which is tells so, the last one first, at most so many. It
// tells whether there are others, and since when there are all.
func (n *notes[T]) newest(is func(*T) bool, most int) (list []T, cut bool, from time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.list {
		one := &n.list[(n.next+len(n.list)-1-i)%len(n.list)]
		if !is(one) {
			continue
		}
		if len(list) == most {
			return list, true, n.from
		}
		list = append(list, *one)
	}
	return list, false, n.from
}

// whose is of whom a note is.
type whose struct {
	clientID string
	subject  *string
	bearer   auth.Bearer
}

func (s *session) whose() whose {
	w := whose{clientID: s.clientID, subject: s.subject()}
	if w.subject != nil && len(*w.subject) > notedText {
		short := strings.Clone((*w.subject)[:notedText])
		w.subject = &short
	}
	if s.pass != nil {
		w.bearer = s.pass.bearer
	}
	return w
}

// names are those of channels, as many as there is room for, as one text: it keeps
// nothing else in memory.
type names struct {
	text string
	more int
}

// betweenNames is in no subject, and in no text that is UTF-8.
const betweenNames = "\xff"

// namesOf takes the first of n names.
func namesOf(n int, name func(i int) string) (x names) {
	var b strings.Builder
	for i := range n {
		one := name(i)
		if b.Len()+len(one) >= notedNames {
			x.more = n - i
			break
		}
		b.WriteString(one)
		b.WriteString(betweenNames)
	}
	x.text = b.String()
	return x
}

func (n names) list() []string {
	if n.text == "" {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(n.text, betweenNames), betweenNames)
}

// closeNote is a stream that was closed.
type closeNote struct {
	whose
	reason   reason
	cause    string
	born     time.Time
	at       time.Time
	epoch    string
	given    uint64
	unsent   int64
	events   int
	more     bool
	full     time.Duration
	status   string
	channels names // their subjects
	patterns names
}

// lossNote is what a client was told to have lost.
type lossNote struct {
	whose
	at       time.Time
	reason   string
	epoch    string
	from, to uint64
	channels names
	patterns names
}

// noteClose is called before the session is taken apart.
func (s *session) noteClose(d *diary, r reason, cause error) {
	now := time.Now()
	n := closeNote{whose: s.whose(), reason: r, born: s.born(), at: now, epoch: s.loop.epoch, given: s.given, status: s.status()}
	if cause != nil {
		n.cause = clip(cause.Error())
	}
	if s.behind {
		n.unsent = int64(s.begunBytes())
		budget := countAtClose
		for i := range s.subs {
			events, bytes, more := s.owedOf(i, &budget)
			n.events, n.unsent, n.more = n.events+events, n.unsent+bytes, n.more || more
		}
		if s.full != 0 {
			n.full = now.Sub(time.Unix(0, s.full))
		}
	}
	k := 0 // channels stand first
	for k < len(s.subs) && s.subs[k].topic.literal {
		k++
	}
	n.channels = namesOf(k, func(i int) string { return s.subs[i].topic.subject() })
	n.patterns = namesOf(len(s.subs)-k, func(i int) string { return s.subs[k+i].topic.name() })
	d.closes.add(n, func(n closeNote) time.Time { return n.at })
}

// noteLoss is called with what one client is told.
func (s *session) noteLoss(d *diary, l *loss) {
	n := lossNote{whose: s.whose(), at: time.Now(), reason: l.reason, epoch: s.loop.epoch, from: s.lostAfter(l), to: l.to}
	n.channels = namesOf(len(l.channels), func(i int) string { return l.channels[i] })
	n.patterns = namesOf(len(l.patterns), func(i int) string { return l.patterns[i] })
	d.losses.add(n, func(n lossNote) time.Time { return n.at })
}

// is tells whether it is of whom is asked for.
func (w *whose) is(q *wire.Inspect, bearer auth.Bearer) bool {
	switch {
	case q.ClientID != "":
		return w.clientID == q.ClientID
	case q.Subject != "":
		return bearer.HasSubject() && w.bearer.SameSubject(bearer)
	}
	return q.Channel == ""
}

func (n *closeNote) told(x *inspection) wire.InspectedClose {
	channels := n.channels.list()
	for i, subject := range channels {
		name, _ := channel.FromSubject(subject) // it was one
		channels[i] = printable(name)
	}
	c := wire.InspectedClose{
		Node: x.node, ClientID: n.clientID, Subject: n.subject, Reason: n.reason.String(), Cause: n.cause,
		ConnectedAt: n.born.UTC().Format(time.RFC3339), ClosedAt: n.at.UTC().Format(timestamps),
		LastID: idText(n.epoch, n.given), UnsentEvents: n.events, UnsentBytes: n.unsent, UnsentMore: n.more, Behind: tenths(n.full), Status: n.status,
		Channels: channels, Patterns: n.patterns.list(), More: n.channels.more + n.patterns.more,
	}
	if x.Message != nil {
		why := n.why(x)
		c.Why = &why
	}
	return c
}

func (n *lossNote) told(x *inspection) wire.InspectedLoss {
	return wire.InspectedLoss{
		Node: x.node, ClientID: n.clientID, Subject: n.subject, At: n.at.UTC().Format(timestamps), Reason: n.reason,
		From: idText(n.epoch, n.from), To: idText(n.epoch, n.to), Channels: n.channels.list(), Patterns: n.patterns.list(), More: n.channels.more + n.patterns.more,
	}
}

// idText is an id, nil where there is none.
func idText(epoch string, seq uint64) *string {
	if epoch == "" || seq == 0 {
		return nil
	}
	id := wire.ID{Epoch: epoch, Seq: seq}.String()
	return &id
}
