package intake

import (
	"cmp"
	"hash/maphash"
	"slices"
	"time"

	"github.com/google/uuid"

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
	first    ticket    // of the first message with this event
	repeats  []*ticket // of the messages that repeat it
	sequence uint64    // of its arrival
	out      bool      // in the sink
	refused  bool      // previously
}

// collect turns a message and those that have arrived since into deliveries, up to MaxSlice.
func (s *Subscriber) collect(first arrival) []*delivery {
	n := min(s.cfg.MaxSlice, 1+len(s.arrived))
	slice, room := make([]*delivery, 0, n), make([]delivery, n)
	for a := first; ; {
		if len(room) == 0 { // more have arrived meanwhile, or some made no delivery: the acknowledgements use their tickets
			room = make([]delivery, 1)
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

// accept turns a message into a delivery, and frees its payload. It returns false if the message is quarantined, skipped, or a repeat.
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
		s.acks.Done(t) // a redelivery would be rejected again
		return false
	}
	ev.Topic = a.msg.Topic
	return s.admit(d, ev)
}

// passOver acknowledges a message unread, and logs the first of its kind in a while.
func (s *Subscriber) passOver(t *ticket, why string, counter *uint64) {
	s.mu.Lock()
	*counter++
	total := *counter
	s.mu.Unlock()
	if _, due := s.seldom.Due(why); due {
		s.log.Warnf("%s: topic=%.256q total=%d (similar messages suppressed for %s)", why, t.Message.Topic, total, s.seldom)
	}
	s.acks.Done(t)
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
	switch {
	case env.ErrorCode != 0:
		return nil, env.ContentType, env.Payload, parse.Reject(parse.ReasonErrorEnvelope, "errorCode %d", env.ErrorCode)
	case env.ContentType == "" && len(env.Payload) == 0:
		return nil, "", m.Payload, parse.Reject(parse.ReasonMissing, "envelope: payload and contentType are required; an event without its envelope is not taken")
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
	if known, _ := s.recent.has(who); known {
		s.counts.Duplicates++
		s.acks.Done(&d.first)
		return false
	}
	s.counts.Submitted++
	s.sequence++
	d.identity, d.event, d.sequence = who, ev, s.sequence
	s.pending[who] = d
	return true
}

// join adds a repeat to its event. Repeats of ended connections are released, or each connection would leave one. The lock is held.
func (s *Subscriber) join(d *delivery, t *ticket) {
	kept := d.repeats[:0] // without the first ticket: its pass is for the memory of the event
	for _, old := range d.repeats {
		if s.acks.Ended(old) {
			s.acks.Done(old)
		} else {
			kept = append(kept, old)
		}
	}
	d.repeats = append(kept, t)
}

// sameID counts an event with the id of another event, and logs the first in a while. The lock is held.
func (s *Subscriber) sameID(ev *task.Event) {
	s.counts.SameID++
	if _, due := s.often.Due("id"); due {
		s.log.Warnf("two events share one id but differ in content, both were processed; was a device service copied or restored? "+
			"event=%s device=%q total=%d", ev.ID, ev.Device, s.counts.SameID)
	}
}

// submit passes a slice to the sink, which may block.
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

// answer handles the sink's answer to one delivery. It never blocks.
func (s *Subscriber) answer(d *delivery, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.out {
		return // a second answer is ignored
	}
	d.out = false
	s.out--
	switch {
	case err == nil:
		s.counts.Done++
		s.taken(d)
		delete(s.pending, d.identity)
		if _, other := s.recent.has(d.identity); other {
			s.sameID(d.event)
		}
		s.recent.add(d.identity)
		s.acks.Done(&d.first)
		s.acks.Done(d.repeats...)
		d.event, d.repeats = nil, nil // its neighbours in the slice may be in progress for long
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
	s.acks.Abandon(&d.first)
	s.acks.Abandon(d.repeats...)
}

// identity identifies repeats: events with the same id and the same content. The id alone is not enough, since copied disks and careless device
// services reuse ids.
type identity struct {
	id     uuid.UUID
	digest uint64
}

var digestSeed = maphash.MakeSeed()

func identityOf(ev *task.Event) identity {
	id, _ := uuid.Parse(ev.ID) // the parser has checked it
	return identity{id, maphash.Bytes(digestSeed, ev.Raw)}
}

// recentEvents remembers the latest events, at least n and at most twice as many: once the newer generation is full, the older one is dropped. A map
// without single deletions needs half the memory. The caller's lock guards it.
type recentEvents struct {
	n            int
	newer, older generation
}

// generation holds the digests of events by id. Further events with the same id are in others.
type generation struct {
	digests map[uuid.UUID]uint64
	others  map[identity]struct{}
}

func newGeneration() generation { return generation{map[uuid.UUID]uint64{}, map[identity]struct{}{}} }

func newRecentEvents(n int) *recentEvents { return &recentEvents{n, newGeneration(), newGeneration()} }

// has reports whether the event is known, or else whether another event has its id.
func (g *generation) has(e identity) (known, other bool) {
	digest, ok := g.digests[e.id]
	if !ok || digest == e.digest {
		return ok, false
	}
	_, known = g.others[e]
	return known, !known
}

func (r *recentEvents) has(e identity) (known, other bool) {
	known, other = r.newer.has(e)
	if known {
		return true, false
	}
	known, earlier := r.older.has(e)
	return known, !known && (other || earlier)
}

func (r *recentEvents) add(e identity) {
	if r.n == 0 {
		return
	}
	if len(r.newer.digests)+len(r.newer.others) >= r.n {
		r.newer, r.older = r.older, r.newer
		clear(r.newer.digests)
		clear(r.newer.others)
	}
	if _, ok := r.newer.digests[e.id]; ok {
		r.newer.others[e] = struct{}{}
	} else {
		r.newer.digests[e.id] = e.digest
	}
}

// refusals is the key of the log lines about a series of refusals.
const refusals = "refusals"

// refuse keeps a delivery to submit it again, and logs the first refusal of a series. The lock is held.
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
	if _, due := s.often.Due(refusals); due { // a spool at its limit accepts and refuses in turns
		s.once.New(refusals, refusals)
		s.log.Warnf("event refused, holding all events behind it: event=%s device=%q retryAfter=%s error=%q", d.event.ID, d.event.Device, s.retryAfter, err)
	}
}

// taken notes that a delivery was accepted, and logs the end of a series of refusals. The lock is held.
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

// offerAgain submits the refused deliveries once they are due, in order of arrival. It reports whether the reader must not submit new events, and
// when to call again.
//
// Nothing new is submitted meanwhile: it would overtake the refused events of its device. It would not help either, since the broker receives its
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

// finish is the end of the reader. It submits the messages that arrived before the stop, because those published at QoS 0 are not redelivered, and
// leaves refused events to the broker. Messages at QoS 1 behind a refused event are redelivered behind it.
func (s *Subscriber) finish() {
	for s.leftOver() {
		switch a, holding, d := <-s.arrived, s.holding(), new(delivery); {
		case !holding:
			s.submit(s.collect(a))
		case a.msg.QoS > 0:
			s.acks.Expect(&d.first, a.msg, a.pass)
			s.acks.Abandon(&d.first)
		case s.accept(d, a):
			s.submit([]*delivery{d}) // alone, as messages at QoS 1 may have arrived behind it
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

// leftOver reports whether arrived messages are not yet submitted. It waits for a message that is moving from the gate; after the stop no further one
// follows.
func (s *Subscriber) leftOver() bool {
	s.receiving.Lock()
	defer s.receiving.Unlock()
	return len(s.arrived) > 0
}
