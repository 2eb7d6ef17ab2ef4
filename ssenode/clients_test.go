package ssenode

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever comes and goes, a client's streams are found, and no other's.
func TestClients(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClients()
		here := map[*session]bool{}
		var list []*session
		names := rapid.IntRange(1, 300).Draw(t, "names")
		for range rapid.IntRange(0, 1500).Draw(t, "steps") {
			if len(list) > 0 && rapid.IntRange(0, 9).Draw(t, "leave") < 4 {
				i := rapid.IntRange(0, len(list)-1).Draw(t, "which")
				c.remove(list[i])
				c.remove(list[i]) // nothing happens
				delete(here, list[i])
				list = slices.Delete(list, i, i+1)
				continue
			}
			s := &session{clientID: fmt.Sprint("c", rapid.IntRange(1, names).Draw(t, "name"))}
			c.add(s)
			here[s] = true
			list = append(list, s)
		}
		found := 0
		for i := range names + 1 {
			id := fmt.Sprint("c", i)
			for _, s := range c.of(id) {
				if s.clientID != id || !here[s] {
					t.Fatalf("%s: found %+v", id, s)
				}
				found++
			}
		}
		if found != len(here) || c.live != len(here) {
			t.Fatalf("found %d, live %d of %d", found, c.live, len(here))
		}
		if len(c.slots) > leastSlots && len(c.slots) > 16*max(1, len(here)) {
			t.Fatalf("%d places for %d", len(c.slots), len(here))
		}
	})
}

// Any number of connections may share a clientId, or each have its own, and the table
// stays small.
func TestManyClients(t *testing.T) {
	for _, same := range []bool{true, false} {
		n := map[bool]int{true: 4000, false: 20_000}[same]
		c := newClients()
		var list []*session
		for i := range n {
			s := &session{clientID: "same"}
			if !same {
				s.clientID = fmt.Sprint("c", i)
			}
			c.add(s)
			list = append(list, s)
		}
		if same && len(c.of("same")) != n {
			t.Errorf("found %d of %d", len(c.of("same")), n)
		}
		if each := float64(8*len(c.slots)) / float64(n); each > 22 {
			t.Errorf("%.1f bytes each", each)
		}
		for i, s := range list {
			c.remove(s)
			if i%1000 == 0 && len(c.of(s.clientID)) != map[bool]int{true: n - i - 1, false: 0}[same] {
				t.Fatalf("after %d have left %d are found", i+1, len(c.of(s.clientID)))
			}
		}
		if c.live != 0 || len(c.slots) > leastSlots {
			t.Errorf("%d are left, and %d places", c.live, len(c.slots))
		}
	}
}
