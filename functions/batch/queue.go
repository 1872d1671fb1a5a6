package batch

import (
	"time"

	"app-offload/functions/spool"
)

// The sources by index: fresh records come first.
const (
	live = iota
	backlog
	sourceCount
)

var sources = [sourceCount]spool.Source{spool.Live, spool.Backlog}

// key identifies a queue of the spool.
type key struct {
	lane  int
	class string
}

// queue is the scheduler's state of one class in one lane.
type queue struct {
	key
	weight float64
	newest bool // the backlog leaves newest first

	count [sourceCount]int // what the spool offers now
	bytes [sourceCount]int64
	look  uint64               // the latest look that found it in an offer
	since time.Time            // when fresh records were first seen waiting; zero if none wait
	sent  [sourceCount]float64 // virtual time: bytes sent divided by weight
}

// offer updates the queue from the spool. Age counts from the moment at which records were first seen here, on the monotonic clock, so that steps of
// the wall clock have no effect.
func (q *queue) offer(o *spool.Queue, clocks *[sourceCount][spool.Lanes]float64, now time.Time) {
	for source, n := range [sourceCount]int{o.Live, o.Backlog} {
		if q.count[source] == 0 {
			// A class that was idle starts at the current virtual time, so idling earns no credit.
			q.sent[source] = max(q.sent[source], clocks[source][q.lane])
		}
		q.count[source] = n
	}
	q.bytes[live], q.bytes[backlog] = o.LiveBytes, o.BacklogBytes
	if o.Live == 0 {
		q.since = time.Time{}
	} else if q.since.IsZero() {
		q.since = now
	}
}

// none clears the offer.
func (q *queue) none() {
	q.count, q.bytes, q.since = [sourceCount]int{}, [sourceCount]int64{}, time.Time{}
}

// size returns the maximum size of the next batch from a source.
func (q *queue) size(source, limit int) int { return int(min(q.bytes[source], int64(limit))) }
