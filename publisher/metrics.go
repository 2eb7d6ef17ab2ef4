package publisher

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// stats counts what a server does.
type stats struct {
	requests  [endpoints]atomic.Uint64
	published atomic.Uint64
	refused   [whys]atomic.Uint64
	uncertain atomic.Uint64
	unknown   atomic.Uint64

	publishedBytes atomic.Uint64 // of payloads

	redisTime, requestTime prometheus.Histogram
}

func newStats() *stats {
	histogram := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "sluice_publisher_" + name, Help: help,
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5},
		})
	}
	return &stats{
		redisTime:   histogram("redis_seconds", "Time from publishing a batch to Redis' last answer."),
		requestTime: histogram("request_seconds", "Time from having read a request to publish or to revoke until its answer is ready, the count of recipients included."),
	}
}

func (st *stats) register(reg prometheus.Registerer, s *Server) {
	counter := func(name, help string, labels prometheus.Labels, f func() float64) {
		reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_publisher_" + name, Help: help, ConstLabels: labels,
		}, f))
	}
	gauge := func(name, help string, f func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "sluice_publisher_" + name, Help: help}, f))
	}
	of := func(v *atomic.Uint64) func() float64 { return func() float64 { return float64(v.Load()) } }
	for e := range endpoints {
		counter("requests_total", "Requests to publish or to revoke, by endpoint.", prometheus.Labels{"endpoint": e.String()}, of(&st.requests[e]))
	}
	counter("published_total", "Messages that Redis has confirmed.", nil, of(&st.published))
	counter("published_bytes_total", "Bytes of the payloads that Redis has confirmed.", nil, of(&st.publishedBytes))
	for w := range whys {
		counter("refused_total", "Requests, or single messages of a list, that were refused, by reason.", prometheus.Labels{"reason": w.String()}, of(&st.refused[w]))
	}
	counter("uncertain_total", "Messages of which nobody knows whether Redis has published them.", nil, of(&st.uncertain))
	counter("recipients_unknown_total", "Messages whose recipients could not be counted.", nil, of(&st.unknown))
	counter("connections_refused_total", "Connections above PUBLISHER_CONNECTIONS.", nil, func() float64 { return float64(s.http.GetRejectedConnectionsCount()) })
	gauge("connections", "Connections open now.", func() float64 { return float64(s.http.GetOpenConnectionsCount()) })
	gauge("max_connections", "Connections that may be open: PUBLISHER_CONNECTIONS.", func() float64 { return float64(s.http.Concurrency) })
	gauge("redis_connected", "1 while Redis answers.", func() float64 {
		if s.link.err() == nil {
			return 1
		}
		return 0
	})
	reg.MustRegister(st.redisTime, st.requestTime)
}
