package export

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"app-offload/functions/batch"
	"app-offload/functions/spool"
)

// phase is where a batch stands on its way.
type phase uint8

const (
	waiting phase = iota // to be published, for the first time or again
	sent                 // published, the broker has not acknowledged it
	acked                // acknowledged, the consumer has not receipted it
)

// entry is one batch under way. It shrinks as parts of it are receipted.
type entry struct {
	class    string
	records  []spool.Record // never empty while in the window
	bytes    int
	phase    phase
	attempt  uint64    // tells the answer to this publish from a late one to an earlier publish
	ackedAt  time.Time // of the latest acknowledgement
	resendAt time.Time // when its receipt is overdue
	resends  int       // for want of a receipt
	unheard  int       // the same, while others were receipted
	refusals int       // connections closed over it, travelling alone
	hangs    int       // connections that hung with it at their head
	suspect  bool      // may be why the broker closes: travels alone until acknowledged
}

// limits are the window's terms.
type limits struct {
	batches, bytes         int
	confirmReceipt         bool
	receiptTimeout         time.Duration
	ackTimeout             time.Duration
	refusedTries, unheards int
}

// aside is what has to be given up, and why.
type aside struct {
	records []spool.Record
	reason  string
}

// window holds the batches under way, in the order in which they were first handed over. It is a plain state machine:
// no I/O, no clock, no locks; its owner is one goroutine and tells it the time.
//
// What is not acknowledged is published again in this order after each loss of the connection, the first one first, so
// that a consumer that ignores repetitions sees the records of a device and class in order.
type window struct {
	limits
	entries  []*entry
	bytes    int
	attempts uint64
	progress time.Time // last sign of life, or when something was sent into an empty line
	slack    int       // how often the patience for acknowledgements is doubled, because it was too short
	calm     int       // acknowledgements since the last hang
	firstAck time.Time // since when acknowledgements wait for any receipt; zero when none waits
	warned   bool      // about missing receipts, since the last receipt
	closings int       // connections closed by the broker with something in flight, without an acknowledgement between
	passed   int       // largest batch the broker has acknowledged, in bytes of records
	ceiling  int       // largest batch worth trying, 0 is no limit
	asides   []aside   // to be collected by the owner
	resent   int64     // batches published again for want of a receipt
}

// room tells whether another batch may be taken, with at most ahead bytes on the link itself.
func (w *window) room(ahead int) bool {
	if len(w.entries) == 0 {
		return true
	}
	unacked := w.unacked()
	return len(w.entries) < w.batches && w.bytes < w.limits.bytes && (unacked == 0 || unacked < ahead)
}

// late tells whether acknowledgements are awaited for longer than they should take.
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

func (w *window) add(b *batch.Batch) {
	w.entries = append(w.entries, &entry{class: b.Class, records: b.Records, bytes: b.Bytes})
	w.bytes += b.Bytes
}

// next is the batch to publish now, nil if there is none. A suspect travels alone.
func (w *window) next() *entry {
	flying, suspects := 0, 0
	for _, e := range w.entries {
		if e.phase == sent {
			flying++
			if e.suspect {
				suspects++
			}
		}
	}
	if suspects > 0 {
		return nil
	}
	for _, e := range w.entries {
		if e.phase == waiting {
			if e.suspect && flying > 0 {
				return nil
			}
			return e
		}
	}
	return nil
}

// publish marks an entry as handed to the broker and returns the number of this attempt.
func (w *window) publish(e *entry, now time.Time) uint64 {
	if !w.flying() {
		w.progress = now
	}
	w.attempts++
	e.phase, e.attempt = sent, w.attempts
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

// puback books the broker's acknowledgement. It returns the records that are confirmed by it.
func (w *window) puback(attempt uint64, now time.Time) []spool.Record {
	e := w.find(attempt)
	if e == nil {
		return nil
	}
	w.alive(now)
	w.closings = 0
	if w.calm++; w.calm >= calmAcks {
		w.slack = 0
	}
	w.passed = max(w.passed, e.bytes)
	e.suspect, e.refusals, e.hangs = false, 0, 0
	if !w.confirmReceipt {
		w.remove(e)
		return e.records
	}
	e.phase, e.ackedAt = acked, now
	e.resendAt = now.Add(w.patience(e.resends))
	if w.firstAck.IsZero() {
		w.firstAck = now
	}
	return nil
}

// alive books that the broker shows life. Only acknowledgements and receipts do: a broker that answers pings may hang.
func (w *window) alive(now time.Time) { w.progress = now }

// ackPatience is how long the broker may show no life while something is on its way. It doubles with each hang, up to
// eight times, so that a broker that is merely slow is not kept from ever catching up by reconnections and repetitions.
func (w *window) ackPatience() time.Duration { return w.ackTimeout << w.slack }

const (
	maxSlack = 3
	calmAcks = 64 // acknowledgements after which the patience is the configured one again
)

// patience is how long to wait for a receipt: doubling, up to twenty times the configured time, and a random quarter
// on top so that batches and nodes do not fall into step.
func (w *window) patience(resends int) time.Duration {
	d := min(w.receiptTimeout<<min(resends, 10), 20*w.receiptTimeout)
	return d + rand.N(d/4+1) // #nosec G404 -- spreading load needs no secrecy
}

// unknown books that nobody can say whether a publish arrived: it is to be published again.
func (w *window) unknown(attempt uint64) {
	if e := w.find(attempt); e != nil {
		e.phase = waiting
	}
}

// tooLarge books that a batch cannot become one message: it is cut, and a single record is set aside.
func (w *window) tooLarge(attempt uint64, reason string) {
	if e := w.find(attempt); e != nil {
		e.phase = waiting
		w.cut(e, reason)
	}
}

// lost books the end of a connection. What was in flight goes first on the next one, in order. refused says that the
// other side closed it, which a batch that the broker does not take may be the cause of.
func (w *window) lost(refused bool) {
	var flying []*entry
	for _, e := range w.entries {
		if e.phase == sent {
			e.phase = waiting
			flying = append(flying, e)
		}
	}
	if !refused || len(flying) == 0 {
		return
	}
	w.closings++
	head := flying[0]
	switch {
	case head.suspect:
		w.refuse(head)
	case w.closings >= 2:
		for _, e := range flying {
			e.suspect = true
		}
	}
}

// refuse books that the connection was closed over a batch that travelled alone. Cutting does no harm if the reason was
// another one; a record is only given up after refusedTries, each on a connection that worked until then.
func (w *window) refuse(e *entry) {
	e.refusals++
	if len(e.records) > 1 {
		w.ceiling = max(w.passed, e.bytes/2, 1)
		w.cut(e, reasonTooLarge)
	} else if e.refusals >= w.refusedTries {
		w.cut(e, reasonTooLarge)
	}
}

// The reasons under which the exporter gives records up.
const (
	reasonTooLarge    = "too_large"
	reasonUnreceipted = "unreceipted"
	reasonMalformed   = "malformed"
)

// hung books that the connection stood still. A large batch on a narrow link may be the cause, so its head is cut the
// second time; it is never given up for it.
func (w *window) hung() {
	w.slack, w.calm = min(w.slack+1, maxSlack), 0
	for _, e := range w.entries {
		if e.phase == sent {
			e.hangs++
			if e.hangs >= 2 && len(e.records) > 1 {
				e.hangs = 0
				w.cut(e, "")
			}
			return
		}
	}
}

// cut puts two halves in the place of a batch; a single record is set aside for the reason.
func (w *window) cut(e *entry, reason string) {
	if len(e.records) == 1 {
		w.remove(e)
		w.asides = append(w.asides, aside{e.records, reason})
		return
	}
	half := len(e.records) / 2
	i := slices.Index(w.entries, e)
	second := &entry{class: e.class, records: e.records[half:], suspect: e.suspect, resends: e.resends, phase: e.phase}
	e.records, e.refusals = e.records[:half:half], 0
	e.bytes, second.bytes = payload(e.records), payload(second.records)
	w.entries = slices.Insert(w.entries, i+1, second)
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

// release empties the window and returns the sequences, to be given back to the spool.
func (w *window) release() []uint64 {
	var seqs []uint64
	for _, e := range w.entries {
		seqs = appendSequences(seqs, e.records)
	}
	w.entries, w.bytes, w.firstAck = nil, 0, time.Time{}
	return seqs
}

// settled tells whether waiting longer can confirm nothing more: all is confirmed, or only receipts are missing that
// nobody sends.
func (w *window) settled() bool {
	for _, e := range w.entries {
		if e.phase != acked || !w.silent() {
			return false
		}
	}
	return true
}

func appendSequences(dst []uint64, records []spool.Record) []uint64 {
	for i := range records {
		dst = append(dst, records[i].Seq)
	}
	return dst
}

// batchID names a batch by what is in it: the same records sent again, even after a restart, have the same id.
func batchID(epoch string, records []spool.Record) string {
	h := fnv.New64a()
	var b [8]byte
	for i := range records {
		binary.BigEndian.PutUint64(b[:], records[i].Seq)
		_, _ = h.Write(b[:])
	}
	return fmt.Sprintf("%s-%d-%d-%016x", epoch, records[0].Seq, len(records), h.Sum64())
}
