package bridge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/embedded"
)

// What the bridge costs a message, from its queue to the acknowledgement,
// against nats.go's own pipelined publisher on the same stream. Both wait for
// all acknowledgements, so ns/op is the reciprocal of messages a second.
func BenchmarkStore(b *testing.B) {
	payload := strings.Repeat("x", 200)
	b.Run("bridge", func(b *testing.B) {
		r := newRig(b, embedded.NATSOptions{})
		drainLive(r)
		br, _ := r.lead(nil)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			m := message{subject: fmt.Sprintf("c.%d", i%500), payload: payload}
			for !br.queue.push(m) {
				until(b, "room in the queue", func() bool { _, n := br.queue.load(); return n < br.queue.max/2 })
			}
		}
		until(b, "all are stored", func() bool { return br.stats.stored.Load() == uint64(b.N) })
	})
	b.Run("nats.go", func(b *testing.B) {
		r := newRig(b, embedded.NATSOptions{})
		drainLive(r)
		_, stop := r.lead(nil) // makes the stream
		stop()
		js, err := jetstream.New(r.nc, jetstream.WithPublishAsyncMaxPending(maxWindow))
		if err != nil {
			b.Fatal(err)
		}
		data := []byte(payload)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := js.PublishAsync(fmt.Sprintf("%sc.%d", r.names.Log(), i%500), data); err != nil {
				b.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	})
}

// drainLive throws away what nodes would get, as fast as it comes.
func drainLive(r *rig) {
	done := make(chan struct{})
	r.t.Cleanup(func() { close(done) })
	go func() {
		for {
			select {
			case <-r.live:
			case <-done:
				return
			}
		}
	}()
}
