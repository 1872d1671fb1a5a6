package export

import (
	"math/rand/v2"
	"slices"
	"time"

	"app-offload/functions/batch"
	"app-offload/functions/spool"
)

// phase is the state of a batch in the window.
type phase uint8

const (
	waiting phase = iota // to be published, first or again
	sent                 // published, not acknowledged by the broker
	acked                // acknowledged, not receipted by the consumer
)

// entry is one batch in flight. It shrinks as parts of it are receipted.
type entry struct {
	class    string
	records  []spool.Record // never empty while in the window
	bytes    int
	message  int // bytes of the message, 0 before the first publish
	phase    phase
	attempt  uint64    // distinguishes this publish from earlier ones in late answers; 0 before the first
	sentAt   time.Time // of the latest publish
	ackedAt  time.Time // of the latest acknowledgement
	resendAt time.Time // when its receipt is overdue
	resends  int       // because of a missing receipt
	unheard  int       // resends while other batches of its class were receipted
	receipts uint64    // of its class, when unheard was last counted
	vain     int       // resends while its class got no receipts
	hangs    int       // connections that hung with it at their head
	suspect  bool      // may be the reason for a closing: travels alone until acknowledged
	refusals int       // connections closed while it travelled alone
	again    bool      // published more than once, or over an earlier connection
	stale    bool      // published before the consumer subscribed: published again once acknowledged
}

// limits are the window's limits.
type limits struct {
	batches, bytes         int // maxima
	confirmReceipt         bool
	receiptTimeout         time.Duration
	ackTimeout             time.Duration
	refusedTries, unheards int
	trialPause             time.Duration // before the second trial of an isolated record; doubles
	dropOversized          bool
}

// window holds the batches in flight, in the order in which they were first published. It is a plain state machine without I/O, clock or locks; its
// owner is one goroutine, which passes the time.
//
// Unacknowledged batches are published again in this order after each loss of the connection, so that a consumer that ignores repetitions sees the
// records of a device and class in order. Messages acknowledged just before the loss may still be on their way through the broker; see handover.
type window struct {
	limits
	span
	entries  []*entry
	classes  map[string]*class
	bytes    int
	attempts uint64
	progress time.Time // last sign of life, or when a message was sent with none in flight
	slack    int       // number of times the patience for acknowledgements is doubled
	calm     int       // acknowledgements since the last hang
	firstAck time.Time // since when acknowledged batches wait for any receipt; zero if none waits
	warned   bool      // about missing receipts, since the last receipt
	former   uint64    // the latest attempt on earlier connections
	handover time.Time // until when batches wait for the receipts of such attempts; zero if none does
	jitter   float64   // of the patience for receipts; equal for all batches, which keeps their order
	resent   int64     // batches published again because of a missing receipt
	repeat   repeat
	suspicion

	given   []uint64        // sequences to return to the spool, collected by the owner
	regiven map[string]bool // classes that returned records since the owner last requested a batch
	asides  []aside         // records to drop, collected by the owner
}

// room reports whether another batch may be taken, given the bytes that have not left yet and the bound on them.
func (w *window) room(leaving, ahead int) bool {
	if len(w.entries) == 0 {
		return true
	}
	return len(w.entries) < w.size(w.batches) && w.bytes < w.limits.bytes && (leaving <= 0 || leaving < ahead)
}

// late reports whether acknowledgements take longer than most.
func (w *window) late(now time.Time, most time.Duration) bool {
	return w.flying() && now.Sub(w.progress) > most
}

func (w *window) unacked() int {
	n := 0
	for _, e := range w.entries {
		if e.phase != acked {
			n += e.bytes
		}
	}
	return n
}

// add adds a batch. Known suspects travel alone.
func (w *window) add(b *batch.Batch) {
	from := 0
	for i := range b.Records {
		if !w.recall(b.Records[i].Seq) {
			continue
		}
		w.append(b.Class, b.Records[from:i])
		w.append(b.Class, b.Records[i:i+1]).suspect = true
		from = i + 1
	}
	w.append(b.Class, b.Records[from:])
}

// recall reports whether a record was isolated before.
func (w *window) recall(seq uint64) bool { return w.remembered[seq] != nil }

func (w *window) append(class string, records []spool.Record) *entry {
	if len(records) == 0 {
		return nil
	}
	e := &entry{class: class, records: slices.Clip(records), bytes: payload(records)}
	w.entries = append(w.entries, e)
	w.bytes += e.bytes
	return e
}

// next returns the batch to publish now, or nil. A suspect travels alone, once the connection is known to take other messages; later batches of its
// class wait, other classes continue. Of a class without receipts only the first batch is published.
func (w *window) next(now time.Time) *entry {
	w.look()
	var first, suspect *entry
	blocked, flying := map[string]bool{}, false
	for _, e := range w.entries {
		switch {
		case e.phase == sent && e.suspect:
			return nil
		case e.phase == sent:
			flying = true
		case e.phase != waiting || blocked[e.class]:
		case e.suspect:
			blocked[e.class] = true
			if suspect == nil {
				suspect = e
			}
		case !w.may(e, now):
			blocked[e.class] = true
		case first == nil:
			first = e
		}
	}
	switch {
	case suspect == nil || first != nil && !w.warm:
		return first
	case flying || w.wantsProbe():
		return nil
	}
	return suspect
}

// publish marks an entry as published and returns the number of this attempt.
func (w *window) publish(e *entry, now time.Time) uint64 {
	if !w.flying() {
		w.progress = now
	}
	if w.span.heard.IsZero() || !slices.ContainsFunc(w.entries, func(e *entry) bool { return e.phase != waiting }) {
		w.resume(now)
	}
	w.attempts++
	e.again = e.again || e.attempt > 0
	e.phase, e.attempt, e.sentAt, e.stale = sent, w.attempts, now, false
	return e.attempt
}

func (w *window) flying() bool {
	return slices.ContainsFunc(w.entries, func(e *entry) bool { return e.phase == sent })
}

func (w *window) find(attempt uint64) *entry {
	for _, e := range w.entries {
		if e.attempt == attempt && e.phase == sent {
			return e
		}
	}
	return nil
}

// puback records the broker's acknowledgement of a message of that many bytes. It returns the records that this confirms.
func (w *window) puback(attempt uint64, message int, now time.Time) []spool.Record {
	e := w.find(attempt)
	if e == nil {
		return nil
	}
	w.alive(now)
	w.taken(e, message, now)
	e.hangs = 0
	if !w.confirmReceipt {
		w.spanned(e, now)
		w.measure(len(w.entries), w.batches, now)
		w.remove(e)
		return e.records
	}
	e.phase, e.ackedAt = acked, now
	e.resendAt = now.Add(w.patience(e.resends))
	if w.class(e.class).silent != (time.Time{}) {
		e.resendAt = now.Add(w.patience(min(e.resends, 1))) // other classes are receipted, so an early repetition costs little
	}
	if e.stale {
		e.phase = waiting
		w.resent++
	}
	if w.firstAck.IsZero() {
		w.firstAck = now
	}
	return nil
}

// alive records a sign of life of the broker. Only acknowledgements and receipts count: a broker that answers pings may still hang.
func (w *window) alive(now time.Time) { w.progress = now }

// ackPatience returns how long the broker may show no sign of life while messages are in flight. It doubles with each hang, up to eight times, so
// that reconnections and repetitions do not keep a slow broker from catching up.
func (w *window) ackPatience() time.Duration { return w.ackTimeout << w.slack }

const (
	maxSlack = 3
	calmAcks = 64 // acknowledgements after which the patience returns to the configured time
)

// patience returns how long to wait for a receipt: it doubles up to twenty times the configured time, plus up to a quarter. That quarter is drawn
// once a connection, so that nodes do not synchronise and batches stay in order.
func (w *window) patience(resends int) time.Duration {
	d := min(w.receiptTimeout<<min(resends, 10), 20*w.receiptTimeout)
	return d + time.Duration(w.jitter*float64(d/4))
}

// connected handles a new connection. A broker that has lost the session has lost the messages it acknowledged in it: then every batch without a
// receipt is published again, in order.
func (w *window) connected(remembered bool) {
	w.jitter, w.span = rand.Float64(), span{}
	w.warm = false
	w.former, w.handover = w.attempts, time.Time{}
	for _, e := range w.entries {
		e.again = e.again || e.attempt > 0
		if !remembered {
			e.phase = waiting
		}
		if until := e.ackedAt.Add(handover); e.phase == acked && w.confirmReceipt && until.After(w.handover) {
			w.handover = until
		}
	}
}

// handover is how long after its acknowledgement a broker may still deliver a message of an earlier connection. Some brokers acknowledge first, and
// serve a new connection meanwhile.
const handover = time.Second

// sized records the size of a batch's message.
func (w *window) sized(attempt uint64, message int) {
	if e := w.find(attempt); e != nil {
		e.message = message
	}
}

// unknown handles a publish with an unknown outcome: the batch is published again.
func (w *window) unknown(attempt uint64) {
	if e := w.find(attempt); e != nil {
		e.phase = waiting
	}
}

// hung handles a connection that stopped acknowledging. A large batch on a narrow link may be the cause, so the first batch is cut at its second
// hang; it is never dropped for it.
func (w *window) hung() {
	w.slack, w.calm = min(w.slack+1, maxSlack), 0
	for _, e := range w.entries {
		if e.phase == sent {
			e.hangs++
			if e.hangs >= 2 && len(e.records) > 1 {
				e.hangs = 0
				w.cut(e)
			}
			return
		}
	}
}

// cut replaces a batch of several records by its two halves.
func (w *window) cut(e *entry) {
	half := len(e.records) / 2
	i := slices.Index(w.entries, e)
	second := &entry{class: e.class, records: e.records[half:], suspect: e.suspect, again: true, resends: e.resends, phase: e.phase, attempt: e.attempt, ackedAt: e.ackedAt, resendAt: e.resendAt}
	if e.phase == sent {
		second.phase = waiting // no acknowledgement will arrive for it
	}
	e.records, e.refusals = e.records[:half:half], 0
	e.bytes, second.bytes = payload(e.records), payload(second.records)
	w.entries = slices.Insert(w.entries, i+1, second)
}

// spanned measures with a batch that is confirmed as a whole. A batch that was published more than once says nothing about the delay: the
// confirmation may be for the first publish.
func (w *window) spanned(e *entry, now time.Time) {
	if e.attempt > 0 && !e.again {
		w.confirmed(e.sentAt, now)
	}
}

func payload(records []spool.Record) int {
	n := 0
	for i := range records {
		n += len(records[i].Payload)
	}
	return n
}

func (w *window) remove(e *entry) {
	w.bytes -= e.bytes
	w.entries = slices.DeleteFunc(w.entries, func(x *entry) bool { return x == e })
}

// release empties the window and returns the sequences to release in the spool.
func (w *window) release() []uint64 {
	seqs := w.given
	for _, e := range w.entries {
		seqs = appendSequences(seqs, e.records)
	}
	seqs = append(seqs, w.releaseIsolated()...)
	w.entries, w.bytes, w.firstAck, w.given = nil, 0, time.Time{}, nil
	return seqs
}

// settled reports whether waiting longer cannot confirm anything more: everything is confirmed, or only receipts are missing and the consumer is
// silent.
func (w *window) settled(now time.Time, paused bool) bool {
	w.look()
	for _, e := range w.entries {
		if e.phase == acked && (w.silent() || w.quiet(e.class, now)) {
			continue
		}
		if e.phase == waiting && (paused || e.suspect || !w.may(e, now)) {
			continue // it waits for another batch, which will not be confirmed
		}
		return false
	}
	return true
}

func appendSequences(dst []uint64, records []spool.Record) []uint64 {
	for i := range records {
		dst = append(dst, records[i].Seq)
	}
	return dst
}
