package ssenode

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"sluice/shared/channel"
	"sluice/shared/event"
	"sluice/shared/wire"
)

// whyDebug is the body of an answer to GET /debug/why.
type whyDebug struct {
	Message tracedMessage          `json:"message"`
	Clients []wire.InspectedClient `json:"clients"`
	closesDebug
	// Unknown is what nobody here can tell.
	Unknown []string `json:"unknown"`
}

// tracedMessage is what the stream says of a message. Its payload is not told.
type tracedMessage struct {
	Channel  string  `json:"channel"`
	ID       *string `json:"id"`
	StoredAt *string `json:"storedAt"`
	Bytes    int     `json:"bytes"`
	Criteria bool    `json:"criteria"` // it is for some clients only
	wire.InspectWhy
	Marks []tracedMark `json:"marks"` // the last ones
}

// mostMarks bounds those of one answer.
const mostMarks = 20

// tracedMark is a loss before the stream, of this channel or of all.
type tracedMark struct {
	ID     *string `json:"id"`
	Reason string  `json:"reason"`
	At     string  `json:"at"`
}

// What the stream says of a message, in one word.
const (
	msgStored  = "stored"
	msgOther   = "other-channel"
	msgExpired = "expired"
	msgNone    = "none"
	msgNotYet  = "not-in-stream"
	msgGone    = "gone"
	msgEpoch   = "other-epoch"
	msgLive    = "no-history"
	msgNobody  = "for-nobody"
	msgUnknown = "unknown"
)

func (n *Node) debugWhy(ctx context.Context, q *debugQuery) (any, error) {
	if q.Channel == "" || q.ClientID+q.Subject == "" {
		return nil, debugBad("want ?client=ID or ?sub=SUBJECT, and channel=NAME, and the id= of the message, unless it is the channel's last")
	}
	ctx, cancel := context.WithTimeout(ctx, whyLimit)
	defer cancel()
	m, ask, err := n.trace(ctx, q)
	if err != nil {
		return nil, err
	}
	q.Clients, q.Closes, q.Message = true, true, ask
	all, err := n.inspectAll(ctx, &q.Inspect)
	if err != nil {
		return nil, err
	}
	for i := range all.Clients {
		c := &all.Clients[i]
		c.Channels, c.Patterns = onlyOf(c.Channels, q.Channel, true), onlyOf(c.Patterns, q.Channel, false)
		if c.Why != nil && (c.Why.What == whyGiven || c.Why.What == whyUnknown) {
			c.Why = lossOver(c.Why, all.Losses, c.Node, c.ClientID, q, ask.Seq)
		}
	}
	a := whyDebug{m, all.Clients, all.closes(), []string{}}
	if ask == nil {
		a.Unknown = append(a.Unknown, "without the message only what the client has now can be told")
	}
	if len(all.Clients)+len(all.Closes)+len(all.Refusals) == 0 {
		a.Unknown = append(a.Unknown, "no node has, or remembers, a stream of this client: it was never connected, or was refused without a clientId, or polls, or is forgotten (see nodes); what a node that has ended knew is gone")
	}
	if !all.complete {
		a.Unknown = append(a.Unknown, "not all nodes have answered")
	}
	return a, nil
}

// onlyOf leaves of subscriptions those that have the channel.
func onlyOf(list []wire.InspectChannel, subject string, literal bool) []wire.InspectChannel {
	name, _ := channel.FromSubject(subject) // it was checked
	return slices.DeleteFunc(list, func(c wire.InspectChannel) bool {
		if literal {
			return c.Name != printable(name)
		}
		p, err := channel.ParsePattern(c.Name)
		return err == nil && !p.MatchSubject(subject)
	})
}

// lossOver is the verdict of a client that was told to have lost something around the
// message, else why.
func lossOver(why *wire.InspectWhy, losses []wire.InspectedLoss, node, clientID string, q *debugQuery, seq uint64) *wire.InspectWhy {
	for _, l := range losses {
		if l.Node != node || l.ClientID != clientID || l.To == nil || !slices.Contains(l.Channels, printable(q.name)) &&
			!slices.ContainsFunc(l.Patterns, func(text string) bool {
				p, err := channel.ParsePattern(text)
				return err == nil && p.MatchSubject(q.Channel)
			}) {
			continue
		}
		to, err := wire.ParseID(*l.To)
		from := wire.ID{}
		if l.From != nil {
			from, _ = wire.ParseID(*l.From)
		}
		if err == nil && from.Seq < seq && seq <= to.Seq {
			w := because("told-lost", "at %s the client was told by a gap, with the reason %s, that events of this channel up to %s are left out; the message is among them, unless it was the newest of its channel then", l.At, l.Reason, *l.To)
			return &w
		}
	}
	return why
}

// trace finds out what the stream has of a message, and what nodes are to be asked
// about it: nil if nothing.
func (n *Node) trace(ctx context.Context, q *debugQuery) (m tracedMessage, ask *wire.InspectMessage, err error) {
	m = tracedMessage{Channel: printable(q.name), Marks: []tracedMark{}}
	epoch := n.dispatch.epochNow()
	r := n.hub.routes.MatchSubject(q.Channel)
	for _, mark := range *n.dispatch.marks.Load() {
		if mark.seq != 0 && mark.since == 0 && (len(mark.subjects) == 0 || slices.Contains(mark.subjects, q.Channel)) {
			m.Marks = append(m.Marks, tracedMark{idText(epoch, mark.seq), mark.reason, mark.at.UTC().Format(timestamps)})
		}
	}
	m.Marks = m.Marks[max(0, len(m.Marks)-mostMarks):]
	if r.History.Off {
		m.InspectWhy = because(msgLive, "the channel has history=off: nothing of it is stored, and its events have no ids. A client that is not connected, or behind, when one comes does not get it")
		return m, nil, nil
	}
	var rec record
	if q.id == "" {
		if rec, err = n.history.leaderLast(ctx, q.Channel); err != nil {
			m.InspectWhy = because(msgUnknown, "the stream does not answer: %v", err)
			return m, nil, nil
		}
		if rec.seq == 0 {
			m.InspectWhy = because(msgNone, "the stream has no message of this channel: none arrived, or all have expired")
			return m, nil, nil
		}
	} else {
		id := wire.ID{Epoch: epoch}
		if id.Seq, err = strconv.ParseUint(q.id, 10, 64); err != nil || id.Seq == 0 {
			if id, err = wire.ParseID(q.id); err != nil {
				return m, nil, debugBad("id=%q: want the id of an event, or its sequence in the stream", clip(q.id))
			}
		}
		m.ID = idText(id.Epoch, id.Seq)
		if id.Epoch != epoch {
			m.InspectWhy = because(msgEpoch, "the stream is of epoch %q now: it began anew since, and of before nothing is known", epoch)
			return m, nil, nil
		}
		ask = &wire.InspectMessage{Epoch: epoch, Seq: id.Seq}
		rec, err = n.history.leaderGet(ctx, getRequest{Seq: id.Seq})
		switch {
		case errors.Is(err, errNothing):
			if m.InspectWhy, err = n.absent(ctx, id.Seq); err != nil {
				m.InspectWhy = because(msgUnknown, "the stream does not answer: %v", err)
			}
			return m, ask, nil
		case err != nil:
			m.InspectWhy = because(msgUnknown, "the stream does not answer: %v", err)
			return m, ask, nil
		case rec.subject != q.Channel:
			name, err := channel.FromSubject(rec.subject)
			if err != nil {
				name = rec.subject
			}
			m.InspectWhy = because(msgOther, "this id is of %q", printable(name))
			return m, nil, nil
		}
	}
	at := rec.at.UTC().Format(timestamps)
	m.ID, m.StoredAt, m.Bytes = idText(epoch, rec.seq), &at, len(rec.data)
	m.InspectWhy = because(msgStored, "the message is in the stream")
	ask = &wire.InspectMessage{Epoch: epoch, Seq: rec.seq, At: rec.at}
	ev, err := event.Parse(rec.data, r.Format)
	if err != nil {
		m.InspectWhy = because(msgNobody, "it is in the stream, but %v: with format=envelope nobody gets it", err)
		return m, nil, nil
	}
	if ev.Criteria != nil {
		if _, err := event.ParseCriteria(ev.Criteria); err != nil {
			m.InspectWhy = because(msgNobody, "it is in the stream, but its criteria cannot be read, so nobody gets it: %v", err)
			return m, nil, nil
		}
		m.Criteria, ask.Criteria = true, ev.Criteria
	}
	if r.History.Age > 0 && time.Since(rec.at) > r.History.Age {
		m.Says += "; it is older than what the channel's history gives, so who comes back now is told a gap"
	}
	return m, ask, nil
}

// absent tells why the stream does not have a sequence.
func (n *Node) absent(ctx context.Context, seq uint64) (wire.InspectWhy, error) {
	end, err := n.history.end(ctx)
	if err != nil {
		return wire.InspectWhy{}, err
	}
	begin, err := n.history.first(ctx)
	switch {
	case err != nil:
		return wire.InspectWhy{}, err
	case seq > end.seq:
		return because(msgNotYet, "the stream ends at %d: no message has this sequence yet", end.seq), nil
	case seq < begin:
		return because(msgExpired, "the stream begins at %d: the message has expired", begin), nil
	}
	return because(msgGone, "the stream has messages before and after it: its channel had more messages than are kept since, or it was deleted, or it was no channel's"), nil
}
