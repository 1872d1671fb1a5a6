package local

import (
	"math"
	"sync/atomic"
	"time"
)

// head is a worker's task at hand, and how fast such tasks went so far. Its worker writes it, anyone may read it: a reader that meets a
// change of tasks is off by part of one of them.
type head struct {
	cost  atomic.Int64  // kilocycles
	since atomic.Int64  // when it began; 0 for none
	rate  atomic.Uint64 // bits of kilocycles/ns, 0 before the first measurement

	sumCost, sumTook float64 // of the tasks done, fading with the time they took; the worker's
}

const (
	headFades = 10 * time.Second // of work, in which a measurement loses two thirds of its weight
	mostDone  = 0.9              // of a task that is not done: predictions are off both ways
)

func (h *head) begin(cost, now int64) {
	h.cost.Store(cost)
	h.since.Store(now)
}

// end takes how long the task took.
func (h *head) end(took time.Duration) {
	h.since.Store(0)
	kept := math.Exp(-took.Seconds() / headFades.Seconds())
	h.sumCost, h.sumTook = h.sumCost*kept+float64(h.cost.Load()), h.sumTook*kept+float64(took)
	if h.sumTook > 0 {
		h.rate.Store(math.Float64bits(h.sumCost / h.sumTook))
	}
}

// done is what the worker has presumably done of the task by now, kilocycles.
func (h *head) done(now int64) int64 {
	since := h.since.Load()
	if since == 0 {
		return 0
	}
	rate := math.Float64frombits(h.rate.Load())
	return int64(min(float64(max(now-since, 0))*rate, mostDone*float64(h.cost.Load())))
}
