package export

import (
	"fmt"
	"slices"
	"time"

	"app-offload/functions/spool"
)

// A broker that does not take a message closes the connection without a word: for its size, its topic, or because it closes on
// everything. Which it is shows only in what passes meanwhile. So what was in flight at two closings in a row becomes suspect and
// travels alone, on a connection that is known to take other messages, and is cut until one record is left. That record is then
// isolated: it leaves the window but not the spool, others of its class go on, and it is tried again in growing intervals. It is given
// up only once others of its class have passed, after RefusedTries further refusals. Where nothing passes, everything is held.

// suspicion is what the window knows of messages that were refused.
type suspicion struct {
	closings int       // connections that the other side closed with something in flight, without a batch acknowledged between
	closed   time.Time // when the first of these was closed
	warm     bool      // something was acknowledged on this connection
	probing  bool      // an empty message is on its way to find that out
	lost     int       // probes that were lost with their connection, without one acknowledged between
	passed   int       // largest batch the broker has acknowledged, in bytes of records
	largest  int       // largest message it has acknowledged, in bytes
	ceiling  int       // largest batch worth trying, 0 is no limit
	learned  time.Time // when the ceiling was found
	fighting bool      // another client takes the connection over, so a closing proves nothing

	isolated   []*isolated          // that the window keeps from the spool
	remembered map[uint64]*isolated // that the spool has back, to be tried again
	trial      uint64               // the sequence under trial, 0 without one
	trialEnds  time.Time            // when a trial that the spool does not hand out is forgotten
	nextTrial  time.Time            // not before
}

// isolated is a record that was refused alone. Its lease is kept and its bytes are not.
type isolated struct {
	seq     uint64
	class   string
	bytes   int // of the record
	message int // of its message, 0 where it did not become one
	reason  string
	limit   excess    // for reasonTooLarge, where the limit is known
	fails   int       // refusals
	tries   int       // of these, after others of its class had passed, on a connection that took other messages
	mark    uint64    // acknowledgements of its class at the first
	at      time.Time // of the next trial
	since   time.Time
}

// excess says which limit something exceeds, and whose it is.
type excess struct {
	size, limit int64
	whose       string // "" is not known
}

const (
	maxRefused  = 64   // records of one class that are isolated because of a refusal; more of the class stays in the spool then
	maxIsolated = 4096 // records that are isolated at all

	trialPause  = time.Second // before the second trial; it doubles
	trialMost   = 30 * time.Second
	trialSeldom = 10 * time.Minute // for records above a limit that is known: the spool expires them meanwhile
	trialTime   = time.Minute      // in which the spool hands out what is to be tried
	ceilingTime = time.Hour        // after which larger batches are tried again
)

// The reasons under which the exporter gives records up or isolates them.
const (
	reasonTooLarge    = "too_large"
	reasonUnreceipted = "unreceipted"
	reasonMalformed   = "malformed"
)

// taken books that the broker took a batch in a message of so many bytes.
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

// tried ends the trial if its record is in a batch that the broker took or the consumer stored. What is isolated of its class is tried at once:
// what hit them may be over as well. The record need not be a suspect any more: a refusal of another class lifts that.
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

// probed books that the broker took an empty message.
func (w *window) probed() { w.warm, w.probing, w.lost, w.closings = true, false, 0, 0 }

// suspected reports whether a suspect, or the probe before one, is on its way.
func (w *window) suspected() bool {
	return w.probing || slices.ContainsFunc(w.entries, func(e *entry) bool { return e.phase == sent && e.suspect })
}

// wantsProbe reports whether the connection is to be tried before a suspect goes.
func (w *window) wantsProbe() bool { return !w.warm && w.lost < 2 }

// probe reports whether an empty message is to be published now, and books it.
func (w *window) probe() bool {
	if w.probing || w.flying() || !w.wantsProbe() || !slices.ContainsFunc(w.entries, func(e *entry) bool { return e.suspect && e.phase == waiting }) {
		return false
	}
	w.probing = true
	return true
}

// lostConnection books the end of a connection. What was in flight goes first on the next one, in order. refused says that the
// other side closed it, which a batch that the broker does not take may be the cause of.
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

// refuse books that the connection was closed over a batch that travelled alone. Cutting does no harm if the reason was another one.
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

// clear lets the others go that were in flight with the culprit: those of its class go back to the spool, to come again behind it.
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

// half reports whether x may be the other half of what e was cut from.
func (x *entry) half(e *entry) bool { return x.suspect && e.suspect && x.attempt == e.attempt }

// unsealable books that a batch cannot become a message: it is cut, and a single record is isolated.
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

// isolate takes a single record out of the way of the others.
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

// blame counts a refusal that is due to the record. Records of the class that were refused as well and are no smaller were refused
// for the same reason.
func (w *window) blame(s *isolated) {
	s.tries++
	for _, o := range w.isolated {
		if o.class == s.class && o.reason == s.reason && o.limit.whose == "" && o.message >= s.message {
			o.tries++
		}
	}
}

// try gives one isolated record back to the spool, to be published again, and drops those that have had their tries.
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

// verdictOn is why an isolated record is to be dropped now, "" if it is not.
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

// String names size, limit and whose limit it is.
func (l excess) String() string {
	return fmt.Sprintf("it has %d bytes as a message or payload, %s allows %d bytes: raise that limit or use a smaller ChunkSize", l.size, l.whose, l.limit)
}

// remember keeps what is known of a record that the spool has back.
func (w *window) remember(s *isolated) {
	if w.remembered == nil || len(w.remembered) >= maxIsolated {
		w.remembered = map[uint64]*isolated{}
	}
	w.remembered[s.seq] = s
}

// limitsChanged lets everything above a limit that has changed be tried at once.
func (w *window) limitsChanged(now time.Time) {
	for _, s := range w.isolated {
		if s.limit.whose != "" {
			s.at = now
		}
	}
	w.nextTrial = now
}

// releaseIsolated ends the isolation of all, and remembers it.
func (w *window) releaseIsolated() (seqs []uint64) {
	for _, s := range w.isolated {
		w.class(s.class).isolated--
		w.remember(s)
		seqs = append(seqs, s.seq)
	}
	w.isolated, w.trial = nil, 0
	return seqs
}

// wakeTrial is when try has to be called, zero is never.
func (w *window) wakeTrial() (t time.Time) {
	for _, s := range w.isolated {
		if w.verdictOn(s) != "" {
			return s.since // in the past: it waits for no trial
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

// setAside drops what the window found to be beyond hope, and gives back what the spool is to hand out again.
func (x *Exporter) setAside() {
	for _, a := range x.window.asides {
		x.deps.Spool.Drop(a.seqs, a.reason)
		x.stats.do(func(s *Stats) { s.SetAside += uint64(len(a.seqs)) })
		x.sayAside(a)
	}
	x.window.asides = nil
	if given := x.window.given; len(given) > 0 {
		x.window.given = nil
		x.deps.Spool.Release(given)
	}
}
