package export

import (
	"errors"
	"fmt"
	"time"

	"app-offload/functions/seal"
)

// hearResult opens a result on the client's goroutine.
func (x *Exporter) hearResult(msg []byte) {
	r, err := x.deps.Opener.OpenResult(msg)
	switch {
	case errors.Is(err, seal.ErrForged):
		x.stats.failed("result_forged")
	case err != nil:
		x.stats.failed("result_unreadable")
	case r.Node != x.deps.Node:
		x.stats.failed("result_foreign")
	default:
		x.stats.do(func(s *Stats) { s.Results++ })
		if x.deps.OnResult != nil {
			x.deps.OnResult(*r)
		}
	}
}

const (
	maxConfirming  = 4096 // results that wait to be confirmed
	confirmResults = 512  // in one message
)

// Confirm has the cloud informed that results are dealt with, once and at QoS 1. It does not block: without a connection they wait for the next
// one, with too many waiting they are dropped and counted. For what is dropped, or lost with a connection, the cloud sends the results again. It
// may be called from anywhere.
func (x *Exporter) Confirm(results []seal.ConfirmedResult) {
	select {
	case x.events <- func() {
		if len(x.confirming)+len(results) <= maxConfirming {
			x.confirming = append(x.confirming, results...)
		} else {
			x.stats.failed("confirm_full")
		}
	}:
	default:
		x.stats.failed("confirm_full")
	}
}

// confirm makes the message of some results. There is room for a job.
func (r *round) confirm(now time.Time) {
	x := r.x
	n := min(len(x.confirming), confirmResults)
	msg, err := x.deps.Sealer.SealConfirmation(nil, &seal.Confirmation{
		ID: fmt.Sprintf("confirm-%s-%d", x.deps.Spool.Session(), now.UnixNano()), Node: x.deps.Node, Created: now, Results: x.confirming[:n],
	})
	x.confirming = append(x.confirming[:0], x.confirming[n:]...)
	if err != nil {
		x.complain("confirm", fmt.Errorf("sealing a confirmation of results: %w", err))
		return
	}
	r.jobs <- job{topic: seal.ConfirmTopic(x.deps.Node), message: msg}
	x.stats.do(func(s *Stats) { s.Confirmed += uint64(n) })
}
