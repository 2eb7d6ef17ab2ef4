package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// record is all that is published, as any subscriber of Redis hears it.
type record struct {
	mu   sync.Mutex // guards list
	list []redis.Message
}

func newRecord(t testing.TB, client redis.UniversalClient) *record {
	t.Helper()
	ps := client.PSubscribe(context.Background(), "*")
	if _, err := ps.ReceiveTimeout(context.Background(), wait); err != nil {
		t.Fatal(err)
	}
	r := &record{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for m := range ps.Channel(redis.WithChannelSize(1 << 16)) {
			r.mu.Lock()
			r.list = append(r.list, *m)
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() { ps.Close(); wg.Wait() })
	return r
}

// of is what a page is to see of channels, in order. A name that ends in ":*" is each
// that begins so.
func (r *record) of(channels ...string) (list []shown) {
	return r.that(func(m redis.Message) bool {
		return slices.ContainsFunc(channels, func(c string) bool { return named(c, m.Channel) })
	})
}

// each is of for each of the channels by itself: what a page sees of several comes in
// the order of each.
func (r *record) each(channels ...string) (lists [][]shown) {
	var names []string
	r.that(func(m redis.Message) bool {
		if !slices.Contains(names, m.Channel) {
			names = append(names, m.Channel)
		}
		return false
	})
	for _, name := range names {
		if slices.ContainsFunc(channels, func(c string) bool { return named(c, name) }) {
			lists = append(lists, r.of(name))
		}
	}
	return lists
}

// named tells whether a name, or all that begin so if it ends in "*", is the channel's.
func named(name, channel string) bool {
	prefix, wild := strings.CutSuffix(name, "*")
	return channel == name || wild && strings.HasPrefix(channel, prefix)
}

func (r *record) that(ok func(m redis.Message) bool) (list []shown) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.list {
		if ok(m) {
			list = append(list, show(m.Payload))
		}
	}
	return list
}

// shown is an event as a page sees it.
type shown struct{ name, data string }

// show is what a payload of today's publishers is for a page.
func show(payload string) shown {
	var m struct {
		Event         string
		Data, Message json.RawMessage
		Criteria      json.RawMessage
	}
	switch err := json.Unmarshal([]byte(payload), &m); {
	case err == nil && m.Event != "":
		return shown{m.Event, string(m.Data)}
	case err == nil && m.Criteria != nil:
		return shown{"", string(m.Message)}
	}
	return shown{"", payload}
}

// mixed tells what is wrong with a list that is to have everything of these lists, and
// nothing else, what is of one list in its order; "" if nothing is.
func mixed[T comparable](got []T, want ...[]T) string {
	left := map[T]int{}
	for _, one := range slices.Concat(want...) {
		left[one]++
	}
	for i, one := range got {
		if left[one]--; left[one] < 0 {
			return fmt.Sprintf("line %d is %+v, which is not to come, or not again", i, one)
		}
	}
	for _, list := range want {
		rest := got
		for i, one := range list {
			k := slices.Index(rest, one)
			if k < 0 {
				return fmt.Sprintf("line %d of %d, %+v, is not there, or not in its order", i, len(list), one)
			}
			rest = rest[k+1:]
		}
	}
	return ""
}
