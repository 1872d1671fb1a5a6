package export

import (
	"time"

	"app-offload/functions/link"
)

// Ahead is how much of the link's time is filled in advance, Config.LinkAhead. It determines when batches are taken from the scheduler and their
// size. The lab's simulator uses it, too.
type Ahead time.Duration

// of returns how much of this link's time may be filled in advance. Less than a few round trips would leave the link idle between an acknowledgement
// and the next batch.
func (a Ahead) of(l *link.Link) time.Duration {
	return max(time.Duration(a), min(roundTrips*l.BaseTrip(), mostAhead))
}

const (
	roundTrips = 6               // this many round trips are filled in advance,
	mostAhead  = 2 * time.Second // but at most this much time
)

const (
	unmeasuredAhead = 64 << 10 // bytes for a link without a measurement, which may be slow
	leastBatch      = 4 << 10  // smaller batches do not help any link
)

// Room returns the bytes of unacknowledged records that have not left yet, and the bound below which another batch is taken.
//
// A batch fills half of the time that may be ahead, so the other half must be free. Bytes that have left by now do not count, although their
// acknowledgement takes another round trip: otherwise the link would be idle that long after each message larger than that half.
func (a Ahead) Room(l *link.Link, unacked int, now time.Time) (leaving, most int) {
	return unacked - l.Records(l.Left(now)), l.Carries(a.of(l)/2, unmeasuredAhead)
}

// Limit returns the maximum bytes of records in the next batch.
func (a Ahead) Limit(l *link.Link) int {
	return max(l.Carries(a.of(l)/2, unmeasuredAhead/4), leastBatch)
}

// Until returns how long to wait before checking for room again while the oldest message leaves. It returns 0 if none is leaving, so that only an
// acknowledgement makes room. Messages may contain more or fewer records than usual, so room may come later than predicted.
func (a Ahead) Until(l *link.Link, now time.Time) time.Duration {
	leaves := l.Leaves(now)
	if leaves == 0 {
		return 0
	}
	return max(leaves-a.of(l)/2+time.Millisecond, lookAgain)
}

const lookAgain = 5 * time.Millisecond
