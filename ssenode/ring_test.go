package ssenode

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func frameOf(n uint64, size int) *frame {
	return &frame{n: n, seq: n * 10, plain: make([]byte, size)}
}

// The ring against the plainest model of it: a slice.
func TestRingModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r ring
		var model []*frame
		var n, evicted uint64
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				n += uint64(rapid.IntRange(1, 3).Draw(t, "step"))
				f := frameOf(n, rapid.IntRange(0, 50).Draw(t, "size"))
				r.push(f)
				model = append(model, f)
			},
			"pop": func(t *rapid.T) {
				if len(model) > 0 {
					r.pop()
					evicted, model = model[0].n, model[1:]
				}
			},
			"after": func(t *rapid.T) {
				from := rapid.Uint64Range(0, n+1).Draw(t, "from")
				upTo := rapid.Uint64Range(0, n+1).Draw(t, "upTo")
				limit := rapid.Int64Range(0, 200).Draw(t, "max")
				got, more, ok := r.after(nil, from, upTo, limit)
				if ok != (from >= evicted) {
					t.Fatalf("ok %v from %d with %d evicted", ok, from, evicted)
				}
				if !ok {
					return
				}
				var want []*frame
				wantMore, size := false, int64(0)
				for _, f := range model {
					if f.n <= from || f.n > upTo {
						continue
					}
					if size += f.size(); size > limit && len(want) > 0 {
						wantMore = true
						break
					}
					want = append(want, f)
				}
				if fmt.Sprint(got) != fmt.Sprint(want) || more != wantMore {
					t.Fatalf("got %d frames, more %v; want %d, %v", len(got), more, len(want), wantMore)
				}
			},
			"": func(t *rapid.T) {
				size := int64(0)
				for _, f := range model {
					size += f.size()
				}
				if int(r.len) != len(model) || r.size != size || r.evicted != evicted {
					t.Fatalf("len %d, size %d, evicted %d; want %d, %d, %d", r.len, r.size, r.evicted, len(model), size, evicted)
				}
			},
		})
	})
}

func TestRingLogBounds(t *testing.T) {
	var l ringLog
	a, b := &topic{}, &topic{}
	now := time.Unix(0, 0)
	for i := range uint64(1000) {
		tp := a
		if i%10 == 0 {
			tp = b
		}
		l.add(tp, frameOf(i+1, 100), now.Add(time.Duration(i)*time.Millisecond), 5000, 8000)
		if a.ring.size > 5000 || l.total > 8000 || l.total != a.ring.size+b.ring.size {
			t.Fatalf("after %d: %d in a, %d in b, %d in all", i, a.ring.size, b.ring.size, l.total)
		}
	}
	if a.ring.size != 5000 || b.ring.len == 0 {
		t.Errorf("a holds %d bytes, b %d frames", a.ring.size, b.ring.len)
	}
	l.add(b, frameOf(1001, 9000), now, 5000, 8000)
	if b.ring.len != 1 {
		t.Errorf("a frame above the bounds: %d frames in its ring, want itself", b.ring.len)
	}
	l.expire(now.Add(time.Hour))
	if l.total != 0 || a.ring.buf != nil || b.ring.buf != nil || len(l.entries) != 0 {
		t.Errorf("after expiry: %d bytes, %d entries", l.total, len(l.entries))
	}
}

// What was held back and then given out after something newer is not found by its
// sequence; by its number it is, or missed where that counts.
func TestRingUnordered(t *testing.T) {
	var r ring
	for n, seq := range []uint64{5, 7, 0, 6, 8} {
		r.push(&frame{n: uint64(n + 1), seq: seq})
	}
	f := func(n, upTo, pos uint64, low, wantOK bool, want ...uint64) {
		t.Helper()
		frames, ok := r.unordered(nil, n, upTo, pos, low)
		var got []uint64
		for _, f := range frames {
			got = append(got, f.n)
		}
		if ok != wantOK || !slices.Equal(got, want) {
			t.Errorf("numbers %v, %v after %d; want %v, %v", got, ok, n, want, wantOK)
		}
	}
	f(2, 5, 7, true, true, 3, 4)
	f(2, 3, 7, true, true, 3)
	f(3, 5, 5, true, true)
	for range 4 {
		r.pop()
	}
	f(2, 5, 7, true, false)
	f(3, 5, 7, true, false)
	f(3, 5, 5, false, true)
	f(4, 5, 7, true, true)
}
