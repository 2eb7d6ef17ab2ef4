package publisher

import "math/rand/v2"

// jobs run one after the other on each queue and tell how far they are.
type jobs struct{ queues []jobQueue }

type jobQueue struct {
	id      string
	run     int
	percent int
	over    bool // the present run
}

type jobEvent struct {
	JobID   string `json:"jobId"`
	Run     int    `json:"run"`
	Status  string `json:"status"`
	Percent int    `json:"percent"`
	stamp
}

func newJobs(size int) scenario {
	return &jobs{each(names(size, "job"), func(id string) jobQueue { return jobQueue{id: id, over: true} })}
}

func (s *jobs) next(r *rand.Rand) act {
	q := pick(r, s.queues)
	status := "running"
	switch {
	case q.over:
		q.run, q.percent, q.over, status = q.run+1, 0, false, "queued"
	case q.percent == 100:
		q.over, status = true, "done"
	case r.IntN(40) == 0:
		q.over, status = true, "failed"
	default:
		q.percent = min(100, q.percent+between(r, 1, 20))
	}
	return act{channel: "jobs:" + q.id, data: &jobEvent{JobID: q.id, Run: q.run, Status: status, Percent: q.percent}}
}
