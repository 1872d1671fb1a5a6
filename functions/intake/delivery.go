package intake

import (
	"app-offload/functions/intake/parse"
	"app-offload/functions/mqtt"
	"app-offload/functions/task"
)

// arrival is one message with its room at the gate.
type arrival struct {
	msg  mqtt.Message
	pass Pass
}

// ticket is the place of a message in the order of acknowledgements. It holds the message's room at the gate.
type ticket = mqtt.Ticket[Pass]

// delivery is one event on its way through the sink.
type delivery struct {
	identity
	event    *task.Event
	first    ticket    // of the message that brought it
	repeats  []*ticket // of those that brought it again
	sequence uint64    // of its arrival
	out      bool      // with the sink
	refused  bool      // before
}

// collect makes deliveries of a message and of those that have arrived besides, up to MaxSlice.
func (s *Subscriber) collect(first arrival) []*delivery {
	n := min(s.cfg.MaxSlice, 1+len(s.arrived))
	slice, room := make([]*delivery, 0, n), make([]delivery, n)
	for a := first; ; {
		if len(room) == 0 { // more have arrived meanwhile, or some made no delivery: theirs has their ticket
			room = make([]delivery, min(s.cfg.MaxSlice-len(slice), 1+len(s.arrived)))
		}
		d := &room[0]
		room = room[1:]
		if s.accept(d, a) {
			slice = append(slice, d)
		}
		if len(slice) >= s.cfg.MaxSlice {
			return slice
		}
		select {
		case a = <-s.arrived:
		default:
			return slice
		}
	}
}

// accept turns a message into a delivery, and frees its payload. It is false where the message is quarantined, skipped, or a repeat.
func (s *Subscriber) accept(d *delivery, a arrival) bool {
	defer a.msg.Free() // the event has a copy, unless the message is too large to be freed
	t := &d.first
	s.acks.Expect(t, a.msg, a.pass)
	s.count(func(c *SubscriberCounts) {
		c.Received++
		if a.msg.QoS == 0 {
			c.Unsafe++
		}
	})
	switch {
	case !s.bus.expected(a.msg.Topic):
		s.passOver(t, whyUnmatched, &s.counts.Unmatched)
		return false
	case a.msg.Retained:
		s.passOver(t, whyRetained, &s.counts.Retained)
		return false
	}
	if s.bus.Skip != nil && s.bus.Skip(a.msg.Topic) {
		s.count(func(c *SubscriberCounts) { c.Skipped++ })
		s.acks.Done(t)
		return false
	}
	ev, contentType, payload, err := s.parse(a.msg)
	if err != nil {
		s.quarantine.Add(a.msg.Topic, contentType, payload, err)
		s.count(func(c *SubscriberCounts) { c.Rejected++ })
		s.acks.Done(t) // delivering it again would not make an event of it
		return false
	}
	ev.Topic = a.msg.Topic
	return s.admit(d, ev)
}

func (s *Subscriber) parse(m mqtt.Message) (*task.Event, string, []byte, error) {
	if m.Oversized > 0 {
		err := parse.Reject(parse.ReasonTooLarge, "message of %d bytes, the limit is %d (Intake.MaxPayloadKiB and its envelope)", m.Oversized, s.cfg.maxPacket())
		err.Size = m.Oversized
		return nil, "", nil, err
	}
	env, err := parse.ParseEnvelope(m.Payload)
	if err != nil {
		return nil, "", m.Payload, err
	}
	if env.ErrorCode != 0 {
		return nil, env.ContentType, env.Payload, parse.Reject(parse.ReasonErrorEnvelope, "errorCode %d", env.ErrorCode)
	}
	ev, err := s.limits.Open(&env)
	return ev, env.ContentType, env.Payload, err
}

func (s *Subscriber) admit(d *delivery, ev *task.Event) bool {
	who := identityOf(ev)
	s.mu.Lock()
	defer s.mu.Unlock()
	if earlier := s.pending[who]; earlier != nil { // acknowledged together with the first
		s.counts.Duplicates++
		s.join(earlier, &d.first)
		return false
	}
	if s.recent.has(who) {
		s.counts.Duplicates++
		s.acks.Done(&d.first)
		return false
	}
	if s.recent.hasOther(who.id) {
		s.sameID(ev)
	}
	s.counts.Submitted++
	s.sequence++
	d.identity, d.event, d.sequence = who, ev, s.sequence
	s.pending[who] = d
	s.recent.begin(who.id)
	return true
}

// join adds a repeat to its event. Repeats of previous connections are let go, or each connection would leave one. The lock is held.
func (s *Subscriber) join(d *delivery, t *ticket) {
	kept := d.repeats[:0] // the first one stays: its pass is for the memory of the event
	for _, old := range d.repeats {
		if s.acks.Ended(old) {
			s.acks.Done(old)
		} else {
			kept = append(kept, old)
		}
	}
	d.repeats = append(kept, t)
}

// sameID counts an event that has the id of another one, and logs the first in a while. The lock is held.
func (s *Subscriber) sameID(ev *task.Event) {
	s.counts.SameID++
	if _, due := s.often.Due("id"); due {
		s.log.Warnf("two events share one id but differ in content, processing both; was a device service copied or restored? "+
			"event=%s device=%q total=%d", ev.ID, ev.Device, s.counts.SameID)
	}
}

// submit hands a slice to the sink, which may block.
func (s *Subscriber) submit(slice []*delivery) {
	if len(slice) == 0 {
		return
	}
	events := make([]*task.Event, len(slice))
	s.mu.Lock()
	for i, d := range slice {
		events[i], d.out = d.event, true
	}
	s.out += len(slice)
	s.mu.Unlock()
	s.sink.Submit(events, func(i int, err error) { s.answer(slice[i], err) })
}

// answer is the sink's word on one delivery. It never blocks.
func (s *Subscriber) answer(d *delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.out {
		return // a second word does not count
	}
	d.out = false
	s.out--
	switch {
	case err == nil:
		s.counts.Done++
		s.taken(d)
		delete(s.pending, d.identity)
		s.recent.add(d.identity)
		s.acks.Done(&d.first)
		s.acks.Done(d.repeats...)
		d.event, d.repeats = nil, nil // its neighbours may be under way for long
	case s.stopping:
		s.counts.Refused++
		s.abandon(d)
	default:
		s.counts.Refused++
		s.refuse(d, err)
	}
	if len(s.retries) > 0 {
		select {
		case s.retry <- struct{}{}:
		default:
		}
	}
}

// abandon leaves a delivery unacknowledged. The lock is held.
func (s *Subscriber) abandon(d *delivery) {
	delete(s.pending, d.identity)
	s.recent.end(d.id)
	s.acks.Abandon(&d.first)
	s.acks.Abandon(d.repeats...)
}

// concluded counts a message that has left, and gives its room back.
func (s *Subscriber) concluded(pass Pass, acked bool) {
	s.count(func(c *SubscriberCounts) {
		if acked {
			c.Acked++
		} else {
			c.Abandoned++
		}
	})
	pass.Leave()
}
