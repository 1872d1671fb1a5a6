package intake

import (
	"cmp"
	"slices"
	"time"
)

// refusals is the key of the log lines about a series of refusals.
const refusals = "refusals"

// refuse keeps a delivery to be offered again, and logs the first refusal of a series. The lock is held.
func (s *Subscriber) refuse(d *delivery, err error) {
	s.retries = append(s.retries, d)
	s.due = time.Now().Add(s.retryAfter)
	if !d.refused {
		d.refused = true
		s.refusing++
	}
	if s.once.Known(refusals) {
		return
	}
	if _, due := s.often.Due(refusals); due { // a spool that is full to the brim takes and refuses by turns
		s.once.New(refusals, refusals)
		s.log.Warnf("event refused, holding all events behind it: event=%s device=%q retryAfter=%s error=%q", d.event.ID, d.event.Device, s.retryAfter, err)
	}
}

// taken books that a delivery needs no further offer, and logs the end of a series. The lock is held.
func (s *Subscriber) taken(d *delivery) {
	if !d.refused {
		return
	}
	d.refused = false
	if s.refusing--; s.refusing == 0 && s.once.Known(refusals) {
		s.once.New(refusals, "")
		s.log.Infof("all refused events were accepted: refusalsSinceStart=%d", s.counts.Refused)
	}
}

// offerAgain submits the refused deliveries once they are due, in the order in which they arrived. While there are any it reports
// that the reader must not go on, and when to look again.
//
// Nothing new is submitted meanwhile: it would pass the refused events of its device. It would not help either, since the broker gets its
// acknowledgements in order and stops at its own window.
func (s *Subscriber) offerAgain() (holding bool, wait time.Duration) {
	for {
		slice, holding, wait := s.takeDue(time.Now())
		if len(slice) == 0 {
			return holding, wait
		}
		s.submit(slice)
	}
}

func (s *Subscriber) takeDue(now time.Time) (due []*delivery, holding bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch left := s.due.Sub(now); {
	case len(s.retries) == 0:
		return nil, false, idle
	case s.out > 0: // one of these may be refused as well, and be an earlier one
		return nil, true, idle
	case left > 0:
		return nil, true, left
	}
	slices.SortFunc(s.retries, func(a, b *delivery) int { return cmp.Compare(a.sequence, b.sequence) })
	n := min(len(s.retries), s.cfg.MaxSlice)
	due = slices.Clone(s.retries[:n])
	s.retries = slices.Delete(s.retries, 0, n)
	return due, true, 0
}

// finish is the reader's last act. It hands on what had arrived before the stop, because what was published at QoS 0 has no other
// chance, and leaves to the broker what was refused. What arrived behind a refused event at QoS 1 comes again behind it.
func (s *Subscriber) finish() {
	for s.leftOver() {
		if a := <-s.arrived; a.msg.QoS > 0 && s.holding() {
			t := new(ticket)
			s.acks.Expect(t, a.msg, a.pass)
			s.acks.Abandon(t)
		} else {
			s.submit(s.collect(a))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.retries {
		s.abandon(d)
	}
	s.retries = nil
}

func (s *Subscriber) holding() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.retries) > 0
}

// leftOver reports whether messages have arrived that are not handed on. A message on its way from the gate is waited
// for; after the stop none follows it.
func (s *Subscriber) leftOver() bool {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	return len(s.arrived) > 0
}
