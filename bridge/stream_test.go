package bridge

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/embedded"
)

// A stream that somebody else has made, or an older bridge, gets what this one needs, and
// its messages stay.
func TestStreamOfSomebodyElse(t *testing.T) {
	t.Parallel()
	r := newRig(t, embedded.NATSOptions{})
	if _, err := r.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: r.names.Name, Subjects: []string{r.names.Log() + ">"}, Storage: jetstream.MemoryStorage,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.js.Publish(t.Context(), r.names.Log()+"old", []byte("0")); err != nil {
		t.Fatal(err)
	}
	b, _ := r.lead(nil)
	r.publish("c:0", "1")
	until(t, "it is stored", func() bool { return b.stats.stored.Load() == 1 })
	if c := r.info().Config; !c.AllowAtomicPublish || !c.AllowMsgTTL || !c.AllowDirect || c.RePublish == nil {
		t.Errorf("the stream is %+v", c)
	}
	if m := r.messages()[0]; m.Subject != "old" || string(m.Data) != "0" {
		t.Errorf("the first message is %+v", m)
	}
}
