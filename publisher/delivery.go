package publisher

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/shared/redisconn"
)

// Answers to who asked for what Redis did not take. What exactly it was is in the
// log.
const (
	awayText      = "Redis does not answer: this was not published"
	uncertainText = "Redis did not answer in time, or the connection to it broke: this may have been published; posting it again may show it twice"
)

// again is when to try again while Redis is away.
const again = time.Second

// send publishes in the order of the list and says of each message what became of
// it: nil if Redis has published it. It takes callLimit at most for each batch, and
// sends nothing more after one that failed.
func (s *Server) send(list []message) []*refusal {
	fates := make([]*refusal, len(list))
	gone := s.link.away()
	for from := 0; from < len(list); {
		to := from
		for size := 0; to < len(list) && to-from < batchMessages && (to == from || size+len(list[to].payload) <= batchBytes); to++ {
			size += len(list[to].payload)
		}
		if gone {
			for i := range fates[from:to] {
				fates[from+i] = &refusal{why: redisAway, text: awayText, after: again}
			}
		} else if start := time.Now(); !s.batch(list[from:to], fates[from:to]) {
			gone = true
			s.link.doubt()
		} else {
			s.stats.redisTime.Observe(time.Since(start).Seconds())
		}
		from = to
	}
	for i, fate := range fates {
		if fate == nil {
			s.stats.published.Add(1)
			s.stats.publishedBytes.Add(uint64(len(list[i].payload)))
		}
	}
	return fates
}

// batch is one conversation with Redis; false: it ended too early.
func (s *Server) batch(list []message, fates []*refusal) bool {
	answers, err := s.out.ask(list)
	if err == nil {
		return true
	}
	s.log.Debug("publish", "error", err, "messages", len(list))
	alive := true
	for i, a := range answers {
		fates[i] = s.fate(a)
		alive = alive && (a.err == nil || redisconn.IsAnswer(a.err))
	}
	return alive
}

func (s *Server) fate(a answer) *refusal {
	var said redis.Error
	switch {
	case a.err == nil:
		return nil
	case errors.As(a.err, &said):
		// Only its first word: the rest may name users and servers.
		word, _, _ := strings.Cut(said.Error(), " ")
		return &refusal{why: redisRefused, text: "Redis refuses it with " + word + ": this was not published", after: again}
	case a.sent:
		s.stats.uncertain.Add(1)
		return &refusal{why: redisAway, text: uncertainText, uncertain: true, after: again}
	}
	return &refusal{why: redisAway, text: awayText, after: again}
}

// answer is what is known of one message.
type answer struct {
	err  error // nil: Redis has confirmed it
	sent bool  // with err: Redis may have published it
}

// unread is what no answer to PUBLISH is.
const unread = -1

// ask publishes a batch, like publish, and finds out more about each message when
// something goes wrong. err is not nil if it did.
//
// When a connection breaks, go-redis calls all commands of a pipeline failed, also
// those that were answered. But it reads the answers in order, each into its
// command: the last one that was touched is where it broke, and those before it
// were confirmed. That holds for a single connection only, not in a Cluster.
func (o outbox) ask(batch []message) ([]answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	pipe := o.client.Pipeline()
	cmds := make([]*redis.IntCmd, len(batch))
	for i, m := range batch {
		cmds[i] = pipe.Publish(ctx, m.channel, m.payload)
		cmds[i].SetVal(unread)
	}
	_, err := pipe.Exec(ctx)
	answers := make([]answer, len(batch))
	if err == nil {
		return answers, nil
	}
	broke := -1
	if _, several := o.client.(*redis.ClusterClient); !several {
		for i, c := range cmds {
			if c.Val() != unread && !redisconn.IsAnswer(c.Err()) {
				broke = i
			}
		}
	}
	for i, c := range cmds {
		if e := c.Err(); e != nil && (i >= broke || redisconn.IsAnswer(e)) {
			answers[i] = answer{err: explain(e), sent: !redisconn.IsAnswer(e) && !neverSent(e)}
		}
	}
	return answers, explain(err)
}

// neverSent tells errors of a connection that could not be had in the first place.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) ||
		errors.Is(err, redis.ErrPoolExhausted) || errors.Is(err, redis.ErrClosed)
}
