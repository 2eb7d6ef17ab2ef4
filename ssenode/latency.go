package ssenode

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/shared/wire"
)

// timings is how late a node is. It is measured by pulses, a few in a second, so
// that an event costs nothing for it. The clocks of bridge and node are compared:
// what they differ by is in it.
type timings struct {
	lag, endToEnd prometheus.Histogram
	known         atomic.Int64 // Unix nanoseconds, see knows
}

func newTimings() timings {
	return timings{
		lag:      newHistogram("verified_lag_seconds", "Time from the writing of a pulse by the bridge until this node knew that nothing before it is missing."),
		endToEnd: newHistogram("end_to_end_seconds", "Time from PUBLISH in Redis until everything published before was written to all clients that keep up; one sample a second and loop."),
	}
}

// newHistogram makes one of times from a millisecond to half a minute.
func newHistogram(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "sluice_ssenode_" + name, Help: help,
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	})
}

func (t *timings) register(reg prometheus.Registerer) {
	t.known.CompareAndSwap(0, time.Now().UnixNano())
	reg.MustRegister(t.lag, t.endToEnd, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "sluice_ssenode_verified_age_seconds",
		Help: "Time since the node last knew that nothing is missing, or since it began.",
	}, func() float64 { return time.Since(time.Unix(0, t.known.Load())).Seconds() }))
}

// knows notes that everything up to a pulse is here.
func (t *timings) knows() { t.known.Store(time.Now().UnixNano()) }

// timed measures the way of a pulse: to here, and until the loops have written what
// came before it. The bridge says how long an event needed to get to where the
// pulse began.
func (d *dispatcher) timed(p *wire.Pulse) {
	sent, waited := p.Time, p.Waited
	d.stats.lag.Observe(max(0, time.Since(sent).Seconds()))
	if waited <= 0 {
		return
	}
	d.tell(func(l *loop) { l.stats.endToEnd.Observe((waited + max(0, time.Since(sent))).Seconds()) })
}
