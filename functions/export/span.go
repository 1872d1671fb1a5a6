package export

import (
	"math"
	"time"
)

// span sizes the window: by Little's law a link and a consumer that confirm so many batches a second, each after so long, are kept busy
// by the product of both. Twice that is allowed, as Cardwell et al. do ("BBR: congestion-based congestion control", ACM Queue 2016), so that the
// rate can show that it may rise; the delay is the least one of the connection, so that a queue at the consumer does not make the window grow that fills it.
type span struct {
	rate  float64   // batches/s, the highest measured lately; 0 before the first measurement
	delay float64   // s from publish to confirmation, the shortest of this connection; 0 before the first measurement
	began time.Time // of the present measurement
	count int       // of batches confirmed in it
	least int       // batches that are allowed at least; see emptied
}

const (
	leastSpan   = 16                     // batches, before anything is measured
	spanMeasure = 100 * time.Millisecond // a measurement of the rate lasts at least so long,
	spanIdle    = 2 * time.Second        // and counts only up to so much, or to twice the delay, as one window may be confirmed in one burst
	longestSpan = 3600                   // s
	spanFades   = 0.95                   // what a rate keeps with each later measurement
)

// confirmed books a batch that was published at sentAt, once and not again, and is confirmed now.
func (s *span) confirmed(sentAt, now time.Time) {
	if d := now.Sub(sentAt).Seconds(); d > 0 {
		if s.delay == 0 || d < s.delay {
			s.delay = d
		}
	}
	s.count++
	took := now.Sub(s.began)
	switch {
	case took >= max(spanIdle, time.Duration(min(2*s.delay, longestSpan)*float64(time.Second))): // began before a pause
		s.began, s.count = now, 0
	case took >= spanMeasure:
		s.rate = max(s.rate*spanFades, float64(s.count)/took.Seconds())
		s.began, s.count = now, 0
	}
}

// size is how many batches may be under way, at most most.
func (s *span) size(most int) int {
	return int(min(max(math.Ceil(2*s.rate*s.delay), leastSpan, float64(s.least)), float64(most)))
}

// emptied books that one receipt has confirmed all that was under way. If that was as much as may be under way, the link stood idle until
// the receipt came, as with a consumer that confirms on a timer: its shortest delay is that of a batch which came just before the timer. Twice
// as much is allowed from then on, until the connection ends. A consumer with a queue confirms a part at a time.
func (s *span) emptied(batches, most int) {
	if size := s.size(most); batches >= max(1, int(classShare*float64(size))) {
		s.least = min(2*size, most)
	}
}
