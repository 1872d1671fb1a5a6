package batch

import (
	"time"

	"app-offload/functions/spool"
)

// choice is a queue that is due.
type choice struct {
	queue     *queue
	source    int
	contested bool // both sources had something due
}

// choose finds who goes next: source first, then lane, then class.
func (s *Scheduler) choose(now time.Time) (choice, bool) {
	first, ok1 := s.chooseLane(live, now)
	if s.drain {
		return first, ok1
	}
	second, ok2 := s.chooseLane(backlog, now)
	switch {
	case ok1 && ok2:
		first.contested, second.contested = true, true
		if s.fresh.second(second.queue.size(backlog, s.limit)) {
			return second, true
		}
		return first, true
	case ok2:
		return second, true
	}
	return first, ok1
}

// chooseLane walks down from the highest lane that has something due, as far as the lower lanes have earned a turn.
func (s *Scheduler) chooseLane(source int, now time.Time) (choice, bool) {
	var best choice
	found := false
	for lane := spool.Lanes - 1; lane >= 0; lane-- {
		q := s.chooseClass(source, lane, now)
		switch {
		case q == nil:
		case !found:
			best, found = choice{queue: q, source: source}, true
		case s.priority[source][best.queue.lane].second(q.size(source, s.limit)):
			best.queue = q // the lanes above owe this one its turn
		default:
			return best, true
		}
	}
	return best, found
}

// chooseClass takes the queue of a lane that is due and furthest behind its weighted share of bytes.
func (s *Scheduler) chooseClass(source, lane int, now time.Time) *queue {
	var best *queue
	for _, q := range s.lanes[lane] {
		if s.due(source, q, now) && (best == nil || q.sent[source] < best.sent[source]) {
			best = q
		}
	}
	return best
}

// due reports whether a queue may leave: a backlog always, fresh records when a limit is reached.
func (s *Scheduler) due(source int, q *queue, now time.Time) bool {
	if q.count[source] == 0 {
		return false
	}
	return source == backlog || s.drain || q.count[live] >= s.cfg.MaxCount || q.bytes[live] >= int64(s.limit) ||
		now.Sub(q.since) >= s.age
}

// book charges the class, credits those who waited and debits those who had their turn.
func (s *Scheduler) book(c choice, bytes int) {
	q, i := c.queue, c.source
	s.clocks[i][q.lane] = q.sent[i]
	q.sent[i] += float64(max(bytes, 1)) / q.weight
	if c.contested || i == backlog {
		s.fresh.served(i == backlog, bytes)
	}
	for lane := spool.Lanes - 1; lane > q.lane; lane-- {
		s.priority[i][lane].served(true, bytes)
	}
	if s.lowerWaits(i, q.lane) {
		s.priority[i][q.lane].served(false, bytes)
	}
}

func (s *Scheduler) lowerWaits(source, lane int) bool {
	for lower := range lane {
		for _, q := range s.lanes[lower] {
			if q.count[source] > 0 {
				return true
			}
		}
	}
	return false
}

// wait is the time until the oldest fresh records become due, -1 when none wait.
func (s *Scheduler) wait(now time.Time) time.Duration {
	wait := time.Duration(-1)
	for lane := range s.lanes {
		for _, q := range s.lanes[lane] {
			if q.count[live] == 0 {
				continue
			}
			if left := s.age - now.Sub(q.since); wait < 0 || left < wait { // above 0: nothing is due
				wait = left
			}
		}
	}
	return wait
}
