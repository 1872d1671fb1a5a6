package export

import (
	"cmp"
	"math"
	"slices"
	"time"

	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// receipt records what the consumer has stored, and returns those records.
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
			if e.phase == sent { // the acknowledgement arrives later and finds no entry
				w.taken(e, e.message, now)
			}
			if done == nil {
				done = slices.Clip(e.records) // clipped, since another entry may own the records behind it in the array
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

// shrink reduces an entry to its unconfirmed records. A message with all of them may be in flight; its outcome then applies to the rest.
func (w *window) shrink(e *entry, records []spool.Record) {
	bytes := payload(records)
	w.bytes -= e.bytes - bytes
	e.records, e.bytes = records, bytes
}

// within reports whether ascending, disjoint ranges contain a sequence.
func within(ranges []seal.Range, seq uint64) bool {
	i, _ := slices.BinarySearchFunc(ranges, seq, func(r seal.Range, s uint64) int { return cmp.Compare(r.Last, s) })
	return i < len(ranges) && ranges[i].First <= seq
}

// ascending sorts ranges and merges overlapping ones. It omits ranges that end before they begin.
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

// heard records a sign of life of the consumer. After a silence all acknowledged batches are published again immediately and in order: only the
// oldest batch of each class was repeated meanwhile, and a consumer that lost that one has lost the others as well. New batches would arrive before
// them if they waited. A consumer that was merely slow receives them twice and ignores the repetitions.
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

// silent reports whether the broker acknowledges but no receipt has arrived within the timeout.
func (w *window) silent() bool { return w.warned }

// gaps handles sequences that the consumer misses although it has seen later ones. Batches that the broker acknowledged a while ago are published
// again immediately; batches in flight are left alone.
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

// gapPatience is the age at which a gap counts: several workers of a consumer may finish in any order.
const gapPatience = 2 * time.Second

func (w *window) again(e *entry) {
	e.phase = waiting
	e.resends++
	w.resent++
}

// verdict is the result of tick.
type verdict struct {
	hung   bool // the broker acknowledges nothing: close the connection
	silent bool // receipts are missing, to be logged; true once in a silence
	anew   bool // try a new connection: the broker may wait for receipts lost on this one
}

// tick processes the passing of time. While no receipt arrives, only the oldest batch of each class is published again, so that a consumer that is
// down for a day costs one batch now and then, not the whole window repeatedly. A broker limits the messages in flight to a client: if those are
// receipts that never arrived, it sends no others on this connection, even if the connection is otherwise healthy.
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
			v.anew = w.silent()
			w.overdue(e, now)
		}
	}
	w.try(now)
	return v
}

// overdue publishes a batch again whose receipt is missing. While other batches of its class get receipts, the batch itself may be the reason (some
// brokers acknowledge messages they discard): it is cut, and a single record is finally dropped. Other classes do not count: the consumer may not be
// allowed to read a topic.
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

// fallSilent handles a class that gets no receipts although others do: one batch of it stays to be tried, and the others are returned to the spool.
func (w *window) fallSilent(e *entry, c *class, now time.Time) {
	c.trusted = false
	if c.silent.IsZero() {
		c.silent = now
	}
	w.giveBack(func(x *entry) bool { return x != e && x.class == e.class && x.phase != sent })
}

// span sizes the window. By Little's law, a link and a consumer that confirm batches at some rate and delay are kept busy by the product of both. The
// window allows twice that, as in Cardwell et al., "BBR: congestion-based congestion control", ACM Queue 2016, so that a higher rate can show. The
// delay is the shortest of the connection, so that a queue at the consumer does not enlarge the window that fills it.
//
// If confirmations arrive in bursts, the shortest delay is that of a batch just before a burst, and the link is idle between bursts: a consumer may
// confirm on a timer, or a broker delay small messages until TCP acknowledges the previous one (Nagle's algorithm). A larger window is then tried,
// and kept if it raises the rate.
type span struct {
	rate  float64 // batches/s, the highest recently measured; 0 before the first measurement
	delay float64 // s from publish to confirmation, the shortest on this connection; 0 before the first measurement
	measurement
	least   int           // minimum size in batches
	kept    int           // value of least to restore if the trial fails
	burst   float64       // rate of the latest measurement if it was in bursts: a single burst is a pause
	before  float64       // rate before the trial; 0 without one
	filling bool          // the current measurement is discarded, since a larger window fills in it
	rest    time.Duration // pause after the latest failed trial
	until   time.Time     // when the next trial may begin
}

// measurement lasts until a batch published during it is confirmed.
type measurement struct {
	began time.Time     // moved forward by the time in which no batch was in flight
	count int           // confirmed batches
	heard time.Time     // time of the latest confirmation
	gap   time.Duration // longest time between two confirmations
	full  bool          // the window was as full as one class may fill it
	whole bool          // a batch published during the measurement is confirmed
}

const (
	leastSpan   = 16                     // batches, before the first measurement
	spanMeasure = 100 * time.Millisecond // minimum duration of a measurement
	spanFades   = 0.95                   // factor by which the rate decays with each measurement
	spanGain    = 1.5                    // a window of twice the size is kept if it raises the rate by this factor
	leastRest   = 2 * time.Second        // between a failed trial and the next; doubles
	mostRest    = 10 * time.Minute
)

// resume excludes the time in which no batch was in flight from the measurement. It is called when a batch is published.
func (s *span) resume(now time.Time) {
	if s.heard.IsZero() { // first batch
		s.began = now
	} else {
		s.began = s.began.Add(now.Sub(s.heard))
	}
	s.heard = now
}

// confirmed records the confirmation of a batch that was published exactly once, at sentAt.
func (s *span) confirmed(sentAt, now time.Time) {
	if d := now.Sub(sentAt).Seconds(); d > 0 && (s.delay == 0 || d < s.delay) {
		s.delay = d
	}
	s.count++
	s.whole = s.whole || !sentAt.Before(s.began)
}

// measure completes the measurement, if it is whole, after all simultaneous confirmations are recorded. under is the number of batches in flight
// before them, most the largest window.
func (s *span) measure(under, most int, now time.Time) {
	if s.heard.IsZero() { // the batch was published on an earlier connection
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
	case rate < spanGain*s.before: // before is 0 outside of a trial
		s.least, s.before = s.kept, 0
		s.rest = min(max(2*s.rest, leastRest), mostRest)
		s.until = now.Add(s.rest)
	case bursts && size < most && (s.before > 0 || burst > 0 && !now.Before(s.until)):
		s.least, s.kept, s.before, s.filling = min(2*size, most), s.least, max(rate, burst), true
	default:
		s.before = 0
	}
}

// size returns the window's size in batches, at most most.
func (s *span) size(most int) int {
	return int(min(max(math.Ceil(2*s.rate*s.delay), leastSpan, float64(s.least)), float64(most)))
}
