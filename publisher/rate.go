package publisher

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// rates are the messages that each key has left; without keys all share one.
type rates []*rate.Limiter

// newRates: the burst is what comes in a second, and at least the longest list,
// which could never pass otherwise.
func newRates(perSecond float64, keys, longest int) rates {
	limit, burst := rate.Limit(perSecond), max(longest, int(math.Ceil(perSecond)))
	if perSecond == 0 {
		limit = rate.Inf
	}
	list := make(rates, max(1, keys))
	for i := range list {
		list[i] = rate.NewLimiter(limit, burst)
	}
	return list
}

// take takes n messages from what the key has left, or none and says when to come
// back.
func (l rates) take(key, n int) *refusal {
	r := l[key].ReserveN(time.Now(), n)
	wait := r.Delay()
	if wait == 0 {
		return nil
	}
	r.Cancel()
	return &refusal{why: rateLimit, after: wait,
		text: fmt.Sprintf("more than %g messages a second: come back in %s", float64(l[key].Limit()), wait.Round(time.Millisecond))}
}
