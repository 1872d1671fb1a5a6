package export

import (
	"cmp"
	"math"
	"slices"
	"time"

	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// receipt books what the consumer has stored and returns those records.
func (w *window) receipt(safe []seal.Range, now time.Time) []spool.Record {
	var done []spool.Record
	before := len(w.entries)
	for _, e := range slices.Clone(w.entries) {
		n := stored(safe, e.records)
		if n > 0 {
			w.class(e.class).receipted(e, now)
			if within(safe, w.trial) {
				w.tried(e, now)
			}
		}
		switch n {
		case 0:
		case len(e.records):
			if e.phase == sent { // the acknowledgement comes later, and finds nothing
				w.taken(e, e.message, now)
			}
			if done == nil {
				done = slices.Clip(e.records) // the entry is done with them; another may have what lies behind them
			} else {
				done = append(done, e.records...)
			}
			w.spanned(e, now)
			w.remove(e)
		default:
			kept := make([]spool.Record, 0, len(e.records)-n)
			for _, r := range e.records {
				if within(safe, r.Seq) {
					done = append(done, r)
				} else {
					kept = append(kept, r)
				}
			}
			w.shrink(e, kept)
		}
	}
	if len(done) > 0 {
		w.heard(now)
		w.measure(before, w.batches, now)
	}
	return done
}

func stored(safe []seal.Range, records []spool.Record) (n int) {
	for i := range records {
		if within(safe, records[i].Seq) {
			n++
		}
	}
	return n
}

// shrink reduces an entry to what is not confirmed yet. A message with all of it may be in flight; what comes of that is
// booked for the rest.
func (w *window) shrink(e *entry, records []spool.Record) {
	bytes := payload(records)
	w.bytes -= e.bytes - bytes
	e.records, e.bytes = records, bytes
}

// within reports whether ascending ranges that do not overlap contain a sequence.
func within(ranges []seal.Range, seq uint64) bool {
	i, _ := slices.BinarySearchFunc(ranges, seq, func(r seal.Range, s uint64) int { return cmp.Compare(r.Last, s) })
	return i < len(ranges) && ranges[i].First <= seq
}

// ascending sorts ranges and merges those that overlap. Ranges that end before they begin are left out.
func ascending(ranges []seal.Range) []seal.Range {
	out := slices.DeleteFunc(slices.Clone(ranges), func(r seal.Range) bool { return r.First > r.Last })
	slices.SortFunc(out, func(a, b seal.Range) int { return cmp.Compare(a.First, b.First) })
	merged := out[:0]
	for _, r := range out {
		if n := len(merged); n > 0 && r.First <= merged[n-1].Last {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// heard books that the consumer lives. After a silence the others go again at once and in order: only the oldest batch of each class was
// repeated meanwhile, and what lost that one has lost the rest as well. What is new would arrive before them if they waited. A consumer that
// was merely slow gets them twice and knows them.
func (w *window) heard(now time.Time) {
	if w.silent() {
		for _, e := range w.entries {
			if e.phase == acked {
				e.phase, e.resends = waiting, 0
				w.resent++
			}
		}
	}
	w.firstAck, w.warned = time.Time{}, false
	if slices.ContainsFunc(w.entries, func(e *entry) bool { return e.phase == acked }) {
		w.firstAck = now
	}
}

// silent reports whether the broker acknowledges but no receipt has come for the time allowed.
func (w *window) silent() bool { return w.warned }

// gaps books what the consumer misses although it has seen later records. What the broker acknowledged a while ago is
// published again at once; what is on its way anyway is left alone.
func (w *window) gaps(missing []seal.Range, now time.Time) {
	for _, e := range w.entries {
		if e.phase != acked || now.Sub(e.ackedAt) < gapPatience {
			continue
		}
		if slices.ContainsFunc(e.records, func(r spool.Record) bool { return within(missing, r.Seq) }) {
			w.again(e)
		}
	}
}

// gapPatience lets several workers of a consumer finish in any order before a gap counts.
const gapPatience = 2 * time.Second

func (w *window) again(e *entry) {
	e.phase = waiting
	e.resends++
	w.resent++
}

// verdict is what tick found.
type verdict struct {
	hung   bool // the broker acknowledges nothing: give the connection up
	silent bool // receipts are missing, say so; true once a silence
	anew   bool // a new connection may bring them: the broker may wait for what got lost on this one
}

// tick books the time. While no receipt arrives, only the oldest batch of each class is sent again, so that a consumer that is
// gone for a day costs one batch now and then, not the window over and over. A broker has only so many messages to a client
// under way; if those are receipts that never arrived, no other comes on this connection, however healthy it is otherwise.
func (w *window) tick(now time.Time) verdict {
	var v verdict
	v.hung = w.flying() && now.Sub(w.progress) >= w.ackPatience()
	if !w.firstAck.IsZero() && !w.warned && now.Sub(w.firstAck) >= w.receiptTimeout {
		w.warned, v.silent, v.anew = true, true, true
	}
	if !now.Before(w.handover) {
		w.handover = time.Time{}
	}
	w.follow(now)
	w.look()
	for _, e := range slices.Clone(w.entries) {
		first := cmp.Or(w.class(e.class).first, e)
		switch {
		case e.phase != acked || now.Before(e.resendAt) || !slices.Contains(w.entries, e):
		case w.silent() && e != first:
			e.resendAt = now.Add(w.patience(first.resends))
		default:
			v.anew = v.anew || w.silent()
			w.overdue(e, now)
		}
	}
	w.try(now)
	return v
}

// overdue sends a batch again whose receipt is missing. While others get their receipts the batch itself may be the
// reason (some brokers acknowledge what they throw away): it is cut, and a single record finally set aside. Only receipts of its own class
// count: the consumer may have no right to read a topic.
func (w *window) overdue(e *entry, now time.Time) {
	w.again(e)
	c := w.class(e.class)
	if w.silent() || !c.heardAt.After(e.ackedAt) {
		if !w.silent() {
			w.fallSilent(e, c, now)
		}
		if e.vain++; len(e.records) > 1 && e.vain >= silentTries {
			e.vain = 0
			w.cut(e)
		}
		return
	}
	if c.receipts == e.receipts {
		return
	}
	e.receipts = c.receipts
	e.unheard++
	switch {
	case w.unheards == 0:
	case len(e.records) > 1 && e.unheard >= 3:
		e.unheard = 0
		w.cut(e)
	case len(e.records) == 1 && e.unheard >= w.unheards:
		w.remove(e)
		w.asides = append(w.asides, asideOf(e, reasonUnreceipted))
	}
}

func asideOf(e *entry, reason string) aside {
	return aside{seqs: appendSequences(nil, e.records), class: e.class, bytes: e.bytes, reason: reason, detail: explain[reason]}
}

// fallSilent books that a class gets no receipts although others do: one batch of it stays to try, the window is for the others.
func (w *window) fallSilent(e *entry, c *class, now time.Time) {
	c.trusted = false
	if c.silent.IsZero() {
		c.silent = now
	}
	w.giveBack(func(x *entry) bool { return x != e && x.class == e.class && x.phase != sent })
}

// span sizes the window: by Little's law a link and a consumer that confirm so many batches a second, each after so long, are kept busy
// by the product of both. Twice that is allowed, as Cardwell et al. do ("BBR: congestion-based congestion control", ACM Queue 2016), so that the
// rate can show that it may rise; the delay is the least one of the connection, so that a queue at the consumer does not make the window grow that fills it.
//
// Where confirmations come in bursts, the least delay is that of a batch which came just before one, and the link stands idle between them: a
// consumer may confirm on a timer, or a broker hold small messages back until TCP acknowledges the one before (Nagle's algorithm). A larger
// window is tried then, and kept if it raises the rate.
type span struct {
	rate  float64 // batches/s, the highest measured lately; 0 before the first measurement
	delay float64 // s from publish to confirmation, the shortest of this connection; 0 before the first measurement
	measurement
	least   int           // batches that are allowed at least
	kept    int           // what least returns to when the trial fails
	burst   float64       // the rate of the latest measurement if it was in bursts: a single one of these is a pause
	before  float64       // the rate before the trial; 0 without a trial
	filling bool          // the measurement in which a larger window fills says nothing
	rest    time.Duration // after the latest failed trial
	until   time.Time     // when the next may begin
}

// measurement lasts until a batch is confirmed that was published in it.
type measurement struct {
	began time.Time     // later by the time in which nothing was under way
	count int           // of batches confirmed
	heard time.Time     // when the latest was
	gap   time.Duration // the longest between two confirmations
	full  bool          // as many were under way as one class may have
	whole bool          // a batch that was published in it is confirmed
}

const (
	leastSpan   = 16                     // batches, before anything is measured
	spanMeasure = 100 * time.Millisecond // a measurement of the rate lasts at least so long
	spanFades   = 0.95                   // what a rate keeps with each later measurement
	spanGain    = 1.5                    // a window twice as large is kept if it raises the rate by so much
	leastRest   = 2 * time.Second        // between a failed trial and the next; it doubles
	mostRest    = 10 * time.Minute
)

// resume takes the time in which nothing was under way out of the measurement, when a batch is published.
func (s *span) resume(now time.Time) {
	if s.heard.IsZero() { // the first
		s.began = now
	} else {
		s.began = s.began.Add(now.Sub(s.heard))
	}
	s.heard = now
}

// confirmed books a batch that was published at sentAt, once and not again, and is confirmed now.
func (s *span) confirmed(sentAt, now time.Time) {
	if d := now.Sub(sentAt).Seconds(); d > 0 && (s.delay == 0 || d < s.delay) {
		s.delay = d
	}
	s.count++
	s.whole = s.whole || !sentAt.Before(s.began)
}

// measure ends the measurement if it is whole, once all that came at a time is booked. So many batches were under way before, of at most most.
func (s *span) measure(under, most int, now time.Time) {
	if s.heard.IsZero() { // it was published on an earlier connection
		return
	}
	s.gap, s.heard = max(s.gap, now.Sub(s.heard)), now
	size := s.size(most)
	s.full = s.full || under >= max(1, int(classShare*float64(size)))
	took := now.Sub(s.began)
	if !s.whole || took < spanMeasure {
		return
	}
	rate := float64(s.count) / took.Seconds()
	s.rate = max(s.rate*spanFades, rate)
	bursts := s.full && s.gap.Seconds()*rate >= classShare*float64(size)/2
	s.measurement = measurement{began: now, heard: now}
	burst := s.burst
	if s.burst = 0; bursts {
		s.burst = rate
	}
	switch {
	case s.filling:
		s.filling = false
	case s.before > 0 && rate < spanGain*s.before:
		s.least, s.before = s.kept, 0
		s.rest = min(max(2*s.rest, leastRest), mostRest)
		s.until = now.Add(s.rest)
	case bursts && size < most && (s.before > 0 || burst > 0 && !now.Before(s.until)):
		s.least, s.kept, s.before, s.filling = min(2*size, most), s.least, max(rate, burst), true
	default:
		s.before = 0
	}
}

// size is how many batches may be under way, at most most.
func (s *span) size(most int) int {
	return int(min(max(math.Ceil(2*s.rate*s.delay), leastSpan, float64(s.least)), float64(most)))
}
