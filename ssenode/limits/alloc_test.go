//go:build !race

package limits

import (
	"net"
	"testing"
)

// With nothing counted by address or subject, counting costs no allocation.
func TestAllocCounting(t *testing.T) {
	d := openDoor(t, func(*Bounds) {})
	d.dial()
	c := d.next()
	nc := net.Conn(c)
	h := fields{}
	if n := testing.AllocsPerRun(100, func() {
		Of(nc).Arrived()
		if err := c.Enter(h, true); err != nil {
			t.Error(err)
		}
		if err := c.EnterAs("anna"); err != nil {
			t.Error(err)
		}
		c.HandOver()()
		c.Wait()
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// What it costs where all limits are on, for a connection after the other.
func BenchmarkCounting(b *testing.B) {
	for name, bounds := range map[string]Bounds{
		"off": {MaxConnections: 100, MaxPending: 100},
		"on":  {MaxConnections: 100, MaxPending: 100, MaxPerAddress: 100, MaxPerSubject: 100, AttemptsPerAddress: 1 << 30},
	} {
		b.Run(name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			g := New(ln.(*net.TCPListener), bounds, nil)
			defer g.Close()
			client, err := net.Dial("tcp", g.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer client.Close()
			nc, err := g.AcceptTCP()
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			h := fields{}
			for b.Loop() {
				c := &Conn{TCPConn: nc, gate: g}
				if !g.admit(c) {
					b.Fatal("not admitted")
				}
				c.Arrived()
				if c.Enter(h, true) != nil || c.EnterAs("anna") != nil {
					b.Fatal("over a limit")
				}
				c.HandOver()()
			}
		})
	}
}
