package intake

import (
	"cmp"
	"slices"
	"time"
)

// sayEvery is the shortest time between two log lines about refusals: a spool that is full to the brim takes and refuses by turns.
const sayEvery = time.Minute

// refuse books a refusal, and logs the first of a series. The lock is held.
func (s *Subscriber) refuse(d *delivery, err error) {
	if !d.refused {
		d.refused = true
		s.refusing++
	}
	if now := time.Now(); !s.said && now.Sub(s.saidAt) >= sayEvery {
		s.said, s.saidAt = true, now
		s.log.Warnf("event %s of device %s was refused; it and all that follow it are offered again every %s until they are taken: %v",
			d.event.ID, d.event.Device, s.retryAfter, err)
	}
}

// taken books that a delivery needs no further offer, and logs the end of a series. The lock is held.
func (s *Subscriber) taken(d *delivery) {
	if !d.refused {
		return
	}
	d.refused = false
	if s.refusing--; s.refusing == 0 && s.said {
		s.said = false
		s.log.Infof("every event that was refused has been taken; there were %d refusals since the start", s.counts.Refused)
	}
}

// offerAgain submits the refused deliveries whose time has come, in the order in which they arrived, and says when the
// next one is due.
func (s *Subscriber) offerAgain() time.Duration {
	for {
		slice, wait := s.takeDue(time.Now())
		if len(slice) == 0 {
			return wait
		}
		s.submit(slice)
	}
}

func (s *Subscriber) takeDue(now time.Time) ([]*delivery, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := idle
	var due, later []*delivery
	for _, d := range s.retries {
		if left := d.due.Sub(now); left > 0 {
			later = append(later, d)
			wait = min(wait, left)
		} else {
			due = append(due, d)
		}
	}
	slices.SortFunc(due, func(a, b *delivery) int { return cmp.Compare(a.sequence, b.sequence) })
	if len(due) > s.cfg.MaxSlice {
		due, later = due[:s.cfg.MaxSlice], append(later, due[s.cfg.MaxSlice:]...)
	}
	s.retries = later
	return due, wait
}

// finish is the reader's last act: it hands on what had arrived before the stop, because what was published at QoS 0
// has no other chance, and leaves to the broker what was refused.
func (s *Subscriber) finish() {
	for s.leftOver() {
		s.submit(s.collect(<-s.arrived))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.retries {
		s.abandon(d)
	}
	s.retries = nil
}

// leftOver reports whether messages have arrived that are not handed on. A message on its way from the gate is waited
// for; after the stop none follows it.
func (s *Subscriber) leftOver() bool {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	return len(s.arrived) > 0
}
