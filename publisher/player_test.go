package publisher

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 13, 0, 0, 120_000_000, time.FixedZone("", 3600))

// playing makes a player whose clock stands still.
func playing(t *testing.T, name string, o SimulateOptions) *player {
	t.Helper()
	list, err := find([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	o, err = o.filled()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlayer(list[0], o)
	p.now = func() time.Time { return noon }
	return p
}

func take(p *player, n int) []message {
	list := make([]message, n)
	for i := range list {
		list[i] = p.next()
	}
	return list
}

func same(a, b []message) bool {
	for i := range a {
		if a[i].channel != b[i].channel || string(a[i].payload) != string(b[i].payload) {
			return false
		}
	}
	return true
}

func TestSameSeedSameMessages(t *testing.T) {
	for _, name := range scenarioNames() {
		one := take(playing(t, name, SimulateOptions{Seed: 1}), 500)
		if !same(one, take(playing(t, name, SimulateOptions{Seed: 1}), 500)) {
			t.Errorf("%s: the same seed gave other messages", name)
		}
		if same(one, take(playing(t, name, SimulateOptions{Seed: 2}), 500)) {
			t.Errorf("%s: another seed gave the same messages", name)
		}
	}
}

func TestPayloadsArePadded(t *testing.T) {
	for _, name := range scenarioNames() {
		for _, m := range take(playing(t, name, SimulateOptions{Bytes: 2000}), 50) {
			if len(m.payload) != 2000 || !json.Valid(m.payload) {
				t.Errorf("%s: %d bytes, valid %v: %s", name, len(m.payload), json.Valid(m.payload), m.payload)
			}
		}
		// What is longer anyway stays as it is.
		if !same(take(playing(t, name, SimulateOptions{}), 50), take(playing(t, name, SimulateOptions{Bytes: 20}), 50)) {
			t.Errorf("%s: padding changed payloads that are long enough", name)
		}
	}
}

func TestEurosAreNumbersWithTwoDecimals(t *testing.T) {
	f := func(in euros, want string) {
		t.Helper()
		if got, err := json.Marshal(in); err != nil || string(got) != want {
			t.Errorf("%d cents: %s, %v, want %s", int64(in), got, err, want)
		}
	}
	f(0, "0.00")
	f(5, "0.05")
	f(-5, "-0.05")
	f(12345, "123.45")
	f(-12345, "-123.45")
}

func BenchmarkPlayer(b *testing.B) {
	for _, s := range Scenarios() {
		b.Run(s.Name, func(b *testing.B) {
			p := newPlayer(s, SimulateOptions{Size: 1000, Seed: rand.Uint64()})
			b.ReportAllocs()
			for b.Loop() {
				p.next()
			}
		})
	}
}
