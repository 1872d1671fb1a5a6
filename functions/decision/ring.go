package decision

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Entry is one decision with all its inputs, and later its outcome.
type Entry struct {
	ID   uint64 `json:"id"`
	Time int64  `json:"time"` // ns since the Unix epoch

	EventID string `json:"eventId"`
	Chunk   int    `json:"chunk"`
	Of      int    `json:"of"`
	Class   string `json:"class"`
	Device  string `json:"device"`

	CorrelationID string `json:"correlationId,omitempty"` // of the envelope of the event

	Priority int `json:"priority"` // of the class
	Arm      Arm `json:"arm"`      // of a canary's comparison

	Size       int           `json:"size"` // bytes
	Complexity float64       `json:"complexity"`
	Deadline   time.Duration `json:"deadline"` // ns from reception, 0 for no deadline
	Waited     time.Duration `json:"waited"`   // ns from reception to the decision, at the resolution of the state's clock

	Decision Decision       `json:"decision"`
	Policy   string         `json:"policy"`
	Version  string         `json:"version"`
	Estimate score.Estimate `json:"estimate"`
	State    host.State     `json:"state"`
	Outcome  Outcome        `json:"outcome"`

	// Overdue is set once the canary's judge has counted the decision as late, before its outcome arrived.
	Overdue bool `json:"-"`
}

// Outcome is the outcome of a decision.
type Outcome struct {
	Known  bool    `json:"known"`  // false until a result or a failure is known
	Failed bool    `json:"failed"` // no result will come
	Time   float64 `json:"time"`   // s from the decision to the result, or to the receipt where there is no result
	Bytes  int64   `json:"bytes"`  // on the wire
	Energy float64 `json:"energy"` // J, estimated
	Met    bool    `json:"met"`    // the deadline; true without one
}

// NewEntry builds the entry of a decision from its inputs. Its time is the newer of the state's and the task's.
func NewEntry(t *task.Task, e *score.Estimate, s *host.State, d Decision, policy, version string) Entry {
	entry := Entry{
		Time: max(s.Time, t.Received), EventID: t.EventID, Chunk: t.Chunk, Of: t.Of, Device: t.Device, CorrelationID: t.CorrelationID,
		Size: t.Size(), Complexity: t.Complexity, Deadline: t.Deadline,
		Arm: d.Arm, Decision: d, Policy: policy, Version: version, Estimate: *e, State: *s,
	}
	if t.Received > 0 {
		entry.Waited = time.Duration(entry.Time - t.Received)
	}
	if t.Class != nil {
		entry.Class, entry.Priority = t.Class.Name, t.Class.Priority
	}
	return entry
}

// maxText bounds the bytes that the ring keeps of an event's id and of a device's name, each. EdgeX's ids have 36.
const maxText = 256

// Ring keeps the latest decisions. Add waits only for a reader of the entry that it overwrites, and allocates nothing once the ring is full.
type Ring struct {
	last  atomic.Uint64 // the latest id
	slots []slot
	index index // of decisions for the cloud, whose results arrive by event and chunk

	unsettled atomic.Uint64 // entries overwritten before their outcome arrived
	swept     uint64        // the latest id seen by Sweep, which alone uses it

	// Forgotten, if set before the first Add, is called with each entry of an arm that is overwritten without an outcome, and the time of the new entry.
	// It is restricted like the callback of Edit.
	Forgotten func(e *Entry, now int64)
}

// slot holds one entry. Event id, device and correlation id are copied, because the strings of a task may point into the bytes of its event, and
// would pin them for the life of the entry.
type slot struct {
	mu    sync.Mutex
	entry Entry // without EventID, Device and CorrelationID
	text  []byte
	cut   int // start of the device in text
	end   int // end of the device, and start of the correlation id
}

// NewRing returns a ring of so many decisions. Ids increase by one, starting at the milliseconds of now times a thousand: they are not reused after a
// restart, so a late outcome never matches another decision, and they stay exact in JavaScript.
func NewRing(entries int, now time.Time) *Ring {
	r := &Ring{slots: make([]slot, max(entries, 1)), index: newIndex(entries)}
	r.swept = uint64(max(now.UnixMilli(), 0)) * 1000 // there is nothing before the first id
	r.last.Store(r.swept)
	return r
}

// Add stores a copy of the entry and returns its id. It does not keep the entry itself; it keeps the strings Class, Policy and Version, so these
// should be those of the configuration.
func (r *Ring) Add(e *Entry) uint64 {
	id := r.last.Add(1)
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry.ID > id {
		return id // overtaken by a whole round
	}
	if s.entry.ID != 0 && !s.entry.Outcome.Known {
		r.unsettled.Add(1)
		if s.entry.Arm != NoArm && r.Forgotten != nil {
			r.Forgotten(&s.entry, e.Time)
		}
	}
	s.entry = *e
	s.entry.ID, s.entry.EventID, s.entry.Device, s.entry.CorrelationID = id, "", "", ""
	s.text = append(s.text[:0], e.EventID[:min(len(e.EventID), maxText)]...)
	s.cut = len(s.text)
	s.text = append(s.text, e.Device[:min(len(e.Device), maxText)]...)
	s.end = len(s.text)
	s.text = append(s.text, e.CorrelationID[:min(len(e.CorrelationID), maxText)]...)
	if e.Decision.Target == Cloud {
		r.index.put(e.EventID, e.Chunk, id)
	}
	return id
}

// Find returns the id of the latest decision that sent this chunk of an event to the cloud, or 0 if it is no longer in the ring.
func (r *Ring) Find(eventID string, chunk int) uint64 {
	var found uint64
	for _, id := range r.index.candidates(eventID, chunk) {
		if id > found && r.is(id, eventID, chunk) {
			found = id
		}
	}
	return found
}

func (r *Ring) is(id uint64, eventID string, chunk int) bool {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.entry.ID == id && s.entry.Chunk == chunk && string(s.text[:s.cut]) == eventID[:min(len(eventID), maxText)]
}

// Sweep calls see for each entry made before a time, ns since the epoch, that has no outcome yet, once and in the order of ids. see is restricted
// like the callback of Edit. Sweep is not safe for concurrent use with itself.
func (r *Ring) Sweep(before int64, see func(*Entry)) {
	last := r.last.Load()
	if n := uint64(len(r.slots)); last > n {
		r.swept = max(r.swept, last-n)
	}
	for id := r.swept + 1; id <= last; id++ {
		if !r.sweep(id, before, see) {
			return
		}
		r.swept = id
	}
}

// sweep returns false if the entry, and with it all later ones, is too recent or not written yet. Bind makes an entry recent again, and it then
// delays the entries behind it until it is old as well.
func (r *Ring) sweep(id uint64, before int64, see func(*Entry)) bool {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry.ID == id && s.entry.Time < before && !s.entry.Outcome.Known {
		see(&s.entry)
	}
	return s.entry.ID > id || (s.entry.ID == id && s.entry.Time < before)
}

// Unsettled returns the number of entries overwritten without an outcome.
func (r *Ring) Unsettled() uint64 { return r.unsettled.Load() }

// Get returns the entry of that id, unless it never existed or has been overwritten.
func (r *Ring) Get(id uint64) (Entry, bool) {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 || s.entry.ID != id {
		return Entry{}, false
	}
	return s.whole(), true
}

// Last returns up to n entries for which keep holds, newest first. A nil keep keeps all. keep must not call the ring.
func (r *Ring) Last(n int, keep func(*Entry) bool) []Entry {
	newest := r.last.Load()
	var found []Entry
	var e Entry // shared by all iterations: keep makes it escape
	var ok bool
	for i := uint64(0); i < uint64(len(r.slots)) && i < newest && len(found) < n; i++ {
		e, ok = r.Get(newest - i)
		if ok && (keep == nil || keep(&e)) {
			found = append(found, e)
		}
	}
	return found
}

// Edit changes an entry in place, without a copy, and reports whether the ring still has it. The entry passed to change has neither EventID nor
// Device; change must not keep it, nor call the ring.
func (r *Ring) Edit(id uint64, change func(*Entry)) bool { return r.edit(id, change) }

// Outcome stores the outcome of a decision and reports whether the ring still has it.
func (r *Ring) Outcome(id uint64, o Outcome) bool {
	o.Known = true
	return r.edit(id, func(e *Entry) { e.Outcome = o })
}

// Amend replaces the decision where the service could not follow it: SpoolFull, LocalFailed. It reports whether the ring still has the entry. A task
// sent after all is recorded under its own class.
func (r *Ring) Amend(id uint64, d Decision, own *task.Class) bool {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 || s.entry.ID != id {
		return false
	}
	s.entry.Decision = d
	if d.Target == Cloud {
		if own != nil {
			s.entry.Class, s.entry.Priority = own.Name, own.Priority
		}
		r.index.put(string(s.text[:s.cut]), s.entry.Chunk, id)
	}
	return true
}

// Bind replaces the decision of a parked task, with all its inputs, as if the decision had been made now. Only the arm stays if the configuration is
// unchanged. It reports whether the ring still has the entry.
func (r *Ring) Bind(id uint64, e *Entry) bool {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 || s.entry.ID != id {
		return false
	}
	was := &s.entry
	if was.Version != e.Version {
		was.Arm = e.Arm
	}
	was.Time, was.Waited, was.Decision, was.Policy, was.Version = e.Time, e.Waited, e.Decision, e.Policy, e.Version
	was.Estimate, was.State = e.Estimate, e.State
	if e.Decision.Target == Cloud {
		r.index.put(e.EventID, e.Chunk, id)
	}
	return true
}

func (r *Ring) edit(id uint64, change func(*Entry)) bool {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 || s.entry.ID != id {
		return false
	}
	change(&s.entry)
	return true
}

func (r *Ring) slot(id uint64) *slot { return &r.slots[id%uint64(len(r.slots))] }

// whole returns the slot's entry with its own strings. The caller holds mu.
func (s *slot) whole() Entry {
	e := s.entry
	e.EventID, e.Device = string(s.text[:s.cut]), string(s.text[s.cut:s.end])
	e.CorrelationID = string(s.text[s.end:])
	return e
}

// index finds a decision by event and chunk, for results that do not have its id. It holds only ids, in buckets of one cache line each, from which
// the oldest are evicted first, so it neither locks nor grows. An id in it may be of another event, which the caller must check. With half as many
// buckets as the ring has entries, about one id in a thousand is evicted before the ring overwrites its entry. The bits that an id leaves unused hold
// a part of the hash, which rejects most ids of other events without a look at the ring.
type index struct {
	seed    maphash.Seed
	buckets []bucket
}

type bucket [8]atomic.Uint64

// idBits suffice for the ids of NewRing until the year 2255; the remaining bits are of the hash.
const (
	idBits = 53
	idMask = 1<<idBits - 1
)

func newIndex(entries int) index {
	n := 1 << bits.Len(uint(max(entries, 2)/2-1))
	return index{seed: maphash.MakeSeed(), buckets: make([]bucket, n)}
}

// bucket returns the bucket of a chunk, and the chunk's bits of the hash.
func (x *index) bucket(eventID string, chunk int) (b *bucket, sign uint64) {
	h := maphash.String(x.seed, eventID[:min(len(eventID), maxText)]) + uint64(chunk)*0x9e3779b97f4a7c15 // any multiplier will do
	return &x.buckets[(h^h>>32)&uint64(len(x.buckets)-1)], h &^ idMask
}

// put replaces the oldest id. Two concurrent calls may choose the same place, and one of the ids is then not found.
func (x *index) put(eventID string, chunk int, id uint64) {
	b, sign := x.bucket(eventID, chunk)
	oldest := 0
	for i := range b {
		if b[i].Load()&idMask < b[oldest].Load()&idMask {
			oldest = i
		}
	}
	b[oldest].Store(id&idMask | sign)
}

// candidates returns the ids that may be of the chunk, and zeros.
func (x *index) candidates(eventID string, chunk int) (ids [8]uint64) {
	b, sign := x.bucket(eventID, chunk)
	for i := range b {
		if id := b[i].Load(); id&^idMask == sign {
			ids[i] = id & idMask
		}
	}
	return ids
}
