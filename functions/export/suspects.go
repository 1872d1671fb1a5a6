package export

import (
	"fmt"
	"slices"
	"time"

	"app-offload/functions/spool"
)

// A broker that rejects a message closes the connection without a reason: for its size, its topic, or because it rejects everything. Only the
// messages that pass meanwhile show which it is. So batches in flight at two consecutive closings become suspects: each travels alone, on a
// connection known to take other messages, and is cut until one record is left. That record is then isolated: it leaves the window but not the spool,
// other records of its class continue, and it is tried again at growing intervals. It is dropped only after other records of its class have passed,
// after RefusedTries further refusals. If nothing passes, everything is held.

// suspicion is the window's state about refused messages.
type suspicion struct {
	closings int       // consecutive connections that the other side closed with messages in flight, without an acknowledged batch in between
	closed   time.Time // when the first of these was closed
	warm     bool      // a message was acknowledged on this connection
	probing  bool      // an empty message is in flight to find that out
	lost     int       // probes lost with their connection, without an acknowledged one in between
	passed   int       // largest batch that the broker has acknowledged, in bytes of records
	largest  int       // largest message it has acknowledged, in bytes
	ceiling  int       // largest batch worth trying, 0 for no limit
	learned  time.Time // when the ceiling was found
	fighting bool      // another client takes over the connection, so a closing proves nothing

	isolated   []*isolated          // leased by the window
	remembered map[uint64]*isolated // returned to the spool, to be tried again
	trial      uint64               // the sequence on trial, 0 without one
	trialEnds  time.Time            // when a trial is abandoned that the spool does not hand out
	nextTrial  time.Time            // earliest time of the next trial
}

// isolated is a record that was refused alone. The window keeps its lease but not its payload.
type isolated struct {
	seq     uint64
	class   string
	bytes   int // of the record
	message int // of its message, 0 if it was never sealed
	reason  string
	limit   excess    // for reasonTooLarge, if the limit is known
	fails   int       // refusals
	tries   int       // refusals after other records of its class had passed, on a connection that took other messages
	mark    uint64    // acknowledgements of its class at the first refusal
	at      time.Time // of the next trial
	since   time.Time
}

// excess describes an exceeded limit and its owner.
type excess struct {
	size, limit int64
	whose       string // "" if unknown
}

const (
	maxRefused  = 64   // refused records of one class that are isolated; more of the class then stays in the spool
	maxIsolated = 4096 // isolated records in all

	trialPause  = time.Second // before the second trial; doubles
	trialMost   = 30 * time.Second
	trialSeldom = 10 * time.Minute // for records above a known limit; the spool expires them meanwhile
	trialTime   = time.Minute      // in which the spool must hand out a record on trial
	ceilingTime = time.Hour        // after which larger batches are tried again
)

// The reasons for which the exporter drops or isolates records.
const (
	reasonTooLarge    = "too_large"
	reasonUnreceipted = "unreceipted"
	reasonMalformed   = "malformed"
)

// taken records that the broker took a batch, in a message of that many bytes.
func (w *window) taken(e *entry, message int, now time.Time) {
	c := w.class(e.class)
	c.acks++
	if w.calm++; w.calm >= calmAcks {
		w.slack = 0
	}
	w.closings, w.warm, w.lost = 0, true, 0
	w.passed, w.largest = max(w.passed, e.bytes), max(w.largest, message)
	if e.bytes > w.ceiling || now.Sub(w.learned) > ceilingTime {
		w.ceiling = 0
	}
	e.message = message
	w.tried(e, now)
	if e.suspect {
		e.suspect, e.refusals = false, 0
	}
}

// tried ends the trial if its record is in a batch that the broker took or the consumer stored. Isolated records of its class are then tried
// immediately, since the reason may be over for them as well. The record need not be a suspect any more: a refusal of another class clears that.
func (w *window) tried(e *entry, now time.Time) {
	if w.trial == 0 || !slices.ContainsFunc(e.records, func(r spool.Record) bool { return r.Seq == w.trial }) {
		return
	}
	w.trial, w.nextTrial = 0, now
	for _, s := range w.isolated {
		if s.class == e.class && s.limit.whose == "" {
			s.at = now
		}
	}
}

// probed records that the broker took an empty message.
func (w *window) probed() { w.warm, w.probing, w.lost, w.closings = true, false, 0, 0 }

// suspected reports whether a suspect, or the probe before one, is in flight.
func (w *window) suspected() bool {
	return w.probing || slices.ContainsFunc(w.entries, func(e *entry) bool { return e.phase == sent && e.suspect })
}

// wantsProbe reports whether the connection must be checked before a suspect is published.
func (w *window) wantsProbe() bool { return !w.warm && w.lost < 2 }

// probe reports whether an empty message must be published now, and marks it as in flight.
func (w *window) probe() bool {
	if w.probing || w.flying() || !w.wantsProbe() || !slices.ContainsFunc(w.entries, func(e *entry) bool { return e.suspect && e.phase == waiting }) {
		return false
	}
	w.probing = true
	return true
}

// lostConnection processes the end of a connection. Batches in flight are published first on the next one, in order. refused means that the other
// side closed it, possibly because of a batch.
func (w *window) lostConnection(refused bool, now time.Time) {
	var flying []*entry
	for _, e := range w.entries {
		if e.phase == sent {
			e.phase = waiting
			flying = append(flying, e)
		}
	}
	probing := w.probing
	w.probing = false
	if !refused || len(flying) == 0 && !probing {
		return
	}
	if w.closings++; w.closings == 1 {
		w.closed = now
	}
	switch {
	case len(flying) == 0:
		w.lost++
	case flying[0].suspect:
		w.refuse(flying[0], now)
	case w.closings >= 2:
		for _, e := range flying {
			e.suspect = true
		}
	}
}

// refuse records that the connection was closed over a batch that travelled alone. A cut does no harm if there was another reason.
func (w *window) refuse(e *entry, now time.Time) {
	e.refusals++
	if len(e.records) > 1 {
		if w.warm {
			w.ceiling, w.learned = max(w.passed, e.bytes/2, 1), now
		}
		w.clear(e)
		w.cut(e)
		return
	}
	if e.refusals >= 2 || e.records[0].Seq == w.trial {
		w.clear(e)
		w.isolate(e, reasonTooLarge, excess{}, now)
	}
}

// clear clears the suspicion of the other batches in flight. Those of its class return to the spool, to be sent again after it.
func (w *window) clear(e *entry) {
	i := slices.Index(w.entries, e)
	behind := w.entries[i+1:]
	w.giveBack(func(x *entry) bool {
		return x.class == e.class && x.phase == waiting && slices.Contains(behind, x) && !x.half(e)
	})
	for _, x := range w.entries {
		if x.class != e.class {
			x.suspect = false
		}
	}
}

// half reports whether x may be the other half of the batch that e was cut from.
func (x *entry) half(e *entry) bool { return x.suspect && e.suspect && x.attempt == e.attempt }

// unsealable handles a batch that cannot be sealed: it is cut, and a single record is isolated.
func (w *window) unsealable(attempt uint64, reason string, limit excess, now time.Time) {
	e := w.find(attempt)
	if e == nil {
		return
	}
	e.phase = waiting
	if len(e.records) > 1 {
		w.cut(e)
		return
	}
	w.isolate(e, reason, limit, now)
}

// isolate removes a single record from the path of the others.
func (w *window) isolate(e *entry, reason string, limit excess, now time.Time) {
	r := &e.records[0]
	s := w.remembered[r.Seq]
	if s == nil {
		s = &isolated{seq: r.Seq, class: e.class, bytes: e.bytes, since: now, mark: w.class(e.class).acks}
	}
	delete(w.remembered, r.Seq)
	c := w.class(e.class)
	if c.acks > s.mark && w.warm && !w.fighting {
		w.blame(s)
	}
	s.fails++
	s.reason, s.limit, s.message = reason, limit, max(e.message, s.message)
	s.at = now.Add(min(w.trialPause<<min(s.fails-1, 10), trialMost))
	if limit.whose != "" {
		s.at = now.Add(trialSeldom)
	}
	c.isolated++
	w.remove(e)
	w.isolated = append(w.isolated, s)
	if w.trial == s.seq {
		w.trial = 0
	}
	w.nextTrial = now.Add(w.trialPause)
}

// blame counts a refusal caused by the record itself. Isolated records of the class that are at least as large were refused for the same reason.
func (w *window) blame(s *isolated) {
	s.tries++
	for _, o := range w.isolated {
		if o.class == s.class && o.reason == s.reason && o.limit.whose == "" && o.message >= s.message {
			o.tries++
		}
	}
}

// try returns one isolated record to the spool, to be published again, and drops those that used up their tries.
func (w *window) try(now time.Time) {
	w.isolated = slices.DeleteFunc(w.isolated, func(s *isolated) bool {
		reason := w.verdictOn(s)
		if reason == "" {
			return false
		}
		w.class(s.class).isolated--
		w.asides = append(w.asides, aside{[]uint64{s.seq}, s.class, s.bytes, s.reason, reason})
		return true
	})
	if w.trial != 0 && now.After(w.trialEnds) {
		w.trial = 0
	}
	if w.trial != 0 || now.Before(w.nextTrial) {
		return
	}
	var next *isolated
	for _, s := range w.isolated {
		if !now.Before(s.at) && (next == nil || s.message < next.message) {
			next = s
		}
	}
	if next == nil {
		return
	}
	w.isolated = slices.DeleteFunc(w.isolated, func(s *isolated) bool { return s == next })
	w.class(next.class).isolated--
	w.remember(next)
	w.trial, w.trialEnds = next.seq, now.Add(trialTime)
	w.given = append(w.given, next.seq)
}

// verdictOn returns why an isolated record must be dropped now, or "".
func (w *window) verdictOn(s *isolated) string {
	switch {
	case s.limit.whose != "":
		if w.dropOversized {
			return s.limit.String()
		}
	case s.reason == reasonMalformed:
		if w.class(s.class).acks > s.mark {
			return explain[reasonMalformed]
		}
	case w.refusedTries > 0 && s.tries >= w.refusedTries:
		return fmt.Sprintf("the broker closed the connection on it %d times, while others of its class passed; its message has %d bytes, the largest that passed %d: raise the broker's limit or use a smaller ChunkSize",
			s.fails, s.message, w.largest)
	}
	return ""
}

// String returns the size, the limit and its owner.
func (l excess) String() string {
	return fmt.Sprintf("%d bytes as a message or payload exceed %s of %d bytes: raise that limit or use a smaller ChunkSize", l.size, l.whose, l.limit)
}

// remember keeps the state of a record that returns to the spool.
func (w *window) remember(s *isolated) {
	if w.remembered == nil || len(w.remembered) >= maxIsolated {
		w.remembered = map[uint64]*isolated{}
	}
	w.remembered[s.seq] = s
}

// limitsChanged schedules an immediate trial of every record above a known limit.
func (w *window) limitsChanged(now time.Time) {
	for _, s := range w.isolated {
		if s.limit.whose != "" {
			s.at = now
		}
	}
	w.nextTrial = now
}

// releaseIsolated ends all isolation, and remembers the records.
func (w *window) releaseIsolated() (seqs []uint64) {
	for _, s := range w.isolated {
		w.class(s.class).isolated--
		w.remember(s)
		seqs = append(seqs, s.seq)
	}
	w.isolated, w.trial = nil, 0
	return seqs
}

// wakeTrial returns when try must be called; zero means never.
func (w *window) wakeTrial() (t time.Time) {
	for _, s := range w.isolated {
		if w.verdictOn(s) != "" {
			return s.since // in the past: the drop does not wait for a trial
		}
		if t.IsZero() || s.at.Before(t) {
			t = s.at
		}
	}
	if !t.IsZero() && t.Before(w.nextTrial) {
		t = w.nextTrial
	}
	if w.trial != 0 && !t.IsZero() && t.Before(w.trialEnds) {
		t = w.trialEnds
	}
	return t
}

// setAside drops the records that the window abandoned, and releases those that the spool must hand out again.
func (x *Exporter) setAside() {
	for _, a := range x.window.asides {
		x.deps.Spool.Drop(a.seqs, a.reason)
		x.stats.do(func(s *Stats) { s.SetAside += uint64(len(a.seqs)) })
		x.logDropped(a)
	}
	x.window.asides = nil
	if given := x.window.given; len(given) > 0 {
		x.window.given = nil
		x.deps.Spool.Release(given)
	}
}
