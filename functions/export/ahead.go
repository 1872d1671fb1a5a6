package export

import (
	"time"

	"app-offload/functions/link"
)

// Ahead is how much of a link's time is filled in advance, Config.LinkAhead: the rule by which batches are taken from the scheduler, and
// how large they are. The simulator of the lab plays by it, too.
type Ahead time.Duration

// of is how much of this link's time may be filled in advance. Less than a few round trips would leave it idle between
// an acknowledgement and the next batch.
func (a Ahead) of(l *link.Link) time.Duration {
	return max(time.Duration(a), min(roundTrips*l.BaseTrip(), mostAhead))
}

const (
	roundTrips = 6               // at least so many of them are filled in advance,
	mostAhead  = 2 * time.Second // but not more than this for their sake
)

const (
	unmeasuredAhead = 64 << 10 // bytes on a link of which nothing is known yet: it may be a slow one
	leastBatch      = 4 << 10  // below this, smaller batches help no link
)

// Room is how many bytes of records of those that are not acknowledged have still to leave, and up to how many another batch is taken.
//
// A batch fills a half of what may be ahead, so the other half must be free. What has left by now is not ahead, although its
// acknowledgement takes a round trip longer: else the link would stand idle for one after each message that is longer than that half.
func (a Ahead) Room(l *link.Link, unacked int, now time.Time) (leaving, most int) {
	return unacked - l.Records(l.Left(now)), l.Carries(a.of(l)/2, unmeasuredAhead)
}

// Limit is the most bytes of records in the next batch.
func (a Ahead) Limit(l *link.Link) int {
	return max(l.Carries(a.of(l)/2, unmeasuredAhead/4), leastBatch)
}

// Until is when to look for room again, while the oldest message leaves; 0 where none does, so that only an acknowledgement brings room.
// The records in a message may be more or fewer than usual, so room may come later than the time that is left says.
func (a Ahead) Until(l *link.Link, now time.Time) time.Duration {
	leaves := l.Leaves(now)
	if leaves == 0 {
		return 0
	}
	return max(leaves-a.of(l)/2+time.Millisecond, lookAgain)
}

const lookAgain = 5 * time.Millisecond
