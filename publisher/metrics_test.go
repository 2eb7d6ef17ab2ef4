package publisher

import (
	"testing"

	dto "github.com/prometheus/client_model/go"

	"sluice/shared/embedded"
)

// Bytes are those of payloads that Redis has confirmed, and each request is timed.
func TestBytesAndTimes(t *testing.T) {
	a := serve(t, embedded.TestRedis(t).URL(), nil)
	a.want(200, published, "/publish/a", "four")
	a.post("/publish", `[{"channel":"a","data":"abc"},{"data":"of no channel"}]`) // "abc" goes as it is
	if n := a.s.stats.publishedBytes.Load(); n != 7 {
		t.Errorf("%d bytes, want 7", n)
	}
	a.want(200, published, "/publish/a", "")
	var m dto.Metric
	if err := a.s.stats.requestTime.Write(&m); err != nil || m.Histogram.GetSampleCount() != 3 {
		t.Errorf("%d requests timed, %v; want 3", m.Histogram.GetSampleCount(), err)
	}
}
