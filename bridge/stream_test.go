package bridge

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/shared/embedded"
)

// A stream that somebody has made otherwise gets what the bridge needs, and its messages
// stay.
func TestStreamIsAdjusted(t *testing.T) {
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
	s, err := r.js.Stream(t.Context(), r.names.Name)
	if err != nil {
		t.Fatal(err)
	}
	c := s.CachedInfo().Config
	if !c.AllowAtomicPublish || !c.AllowMsgTTL || !c.AllowDirect || c.RePublish == nil {
		t.Errorf("the stream is %+v", c)
	}
	if m, err := s.GetMsg(t.Context(), 1); err != nil || string(m.Data) != "0" {
		t.Errorf("the first message: %v, %v", m, err)
	}
}
