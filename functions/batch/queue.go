package batch

import (
	"time"

	"app-offload/functions/spool"
)

// The sources by index: fresh records are looked at first.
const (
	live = iota
	backlog
	sourceCount
)

var sources = [sourceCount]spool.Source{spool.Live, spool.Backlog}

// key names a queue of the spool.
type key struct {
	lane  int
	class string
}

// queue is what the scheduler remembers of one class in one lane.
type queue struct {
	key
	weight float64
	newest bool // the backlog leaves newest first

	count [sourceCount]int // what the spool offers now
	bytes [sourceCount]int64
	look  uint64               // the latest look that found it offered
	since time.Time            // when fresh records were first seen waiting; zero when none wait
	sent  [sourceCount]float64 // virtual time: bytes sent divided by weight
}

// offer takes over what the spool has now. Age counts from the moment at which something was first seen here, on the
// monotonic clock, so that a clock that jumps moves no batch.
func (q *queue) offer(o *spool.Queue, clocks *[sourceCount][spool.Lanes]float64, now time.Time) {
	for source, n := range [sourceCount]int{o.Live, o.Backlog} {
		if q.count[source] == 0 {
			// A class that was idle starts at the present virtual time, which only grows: idling earns nothing.
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

// none forgets the offer.
func (q *queue) none() {
	q.count, q.bytes, q.since = [sourceCount]int{}, [sourceCount]int64{}, time.Time{}
}

// size is what the next batch from a source would hold at most.
func (q *queue) size(source, limit int) int { return int(min(q.bytes[source], int64(limit))) }
