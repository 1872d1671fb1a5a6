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

// Entry is one decision with everything it was made from, and later with what came of it.
type Entry struct {
	ID   uint64 `json:"id"`
	Time int64  `json:"time"` // ns since the Unix epoch

	EventID string `json:"eventId"`
	Chunk   int    `json:"chunk"`
	Of      int    `json:"of"`
	Class   string `json:"class"`
	Device  string `json:"device"`

	CorrelationID string `json:"correlationId,omitempty"` // of the envelope in which the event came

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

	// Overdue says that the canary's judge has counted the decision as late already, before its outcome came.
	Overdue bool `json:"-"`
}

// Outcome is what came of a decision.
type Outcome struct {
	Known  bool    `json:"known"`  // false as long as nothing has come back
	Failed bool    `json:"failed"` // no result will come
	Time   float64 `json:"time"`   // s from the decision to the result, or to the receipt where there is no result
	Bytes  int64   `json:"bytes"`  // on the wire
	Energy float64 `json:"energy"` // J, estimated
	Met    bool    `json:"met"`    // the deadline; true without one
}

// NewEntry gathers what a decision was made from. Its time is the newer of the state's and the task's.
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

// maxText bounds what the ring keeps of an event's id and of a device's name, bytes each. EdgeX's ids have 36.
const maxText = 256

// Ring keeps the latest decisions. Adding one waits only for a reader of the very entry that is overwritten, and
// allocates nothing once the ring has gone round.
type Ring struct {
	last  atomic.Uint64 // the latest id
	slots []slot
	index index // of what went to the cloud, where results come from by event and chunk

	unsettled atomic.Uint64 // entries overwritten before an outcome came
	swept     uint64        // the latest id that Sweep has looked at; Sweep's alone

	// Forgotten, where it is set before the first Add, sees each entry of an arm that is overwritten without an outcome, and the
	// time of the one that takes its place. What Edit says of its callback holds here too.
	Forgotten func(e *Entry, now int64)
}

// slot holds one entry. Event id, device and correlation id are copied, because the strings of a task may point into the bytes of its
// event, which would then stay in memory for as long as the entry.
type slot struct {
	mu    sync.Mutex
	entry Entry // without EventID, Device and CorrelationID
	text  []byte
	cut   int // where in text the device begins
	end   int // and where it ends and the correlation id begins
}

// NewRing keeps so many decisions. Ids go up by one, and begin at the milliseconds of now times a thousand: after a restart
// they do not come again, so a late outcome never meets another decision, and they stay exact in JavaScript.
func NewRing(entries int, now time.Time) *Ring {
	r := &Ring{slots: make([]slot, max(entries, 1)), index: newIndex(entries)}
	r.swept = uint64(max(now.UnixMilli(), 0)) * 1000 // there is nothing before the first id
	r.last.Store(r.swept)
	return r
}

// Add keeps the entry and gives it its id. The entry itself is not changed and not held on to; its strings Class, Policy
// and Version are, so they should be those of the configuration.
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

// Find is the id of the latest decision by which that chunk of an event went to the cloud, 0 if it is not here any more.
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

// Sweep shows each entry that was made before a time, ns since the epoch, and has no outcome yet, once and in the order of
// their ids. What Edit says of its callback holds here too. One caller at a time.
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

// sweep is false when the entry, and with it all later ones, is too young or not written yet. One that was bound late is young again,
// and holds up those behind it until it is old as well.
func (r *Ring) sweep(id uint64, before int64, see func(*Entry)) bool {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entry.ID == id && s.entry.Time < before && !s.entry.Outcome.Known {
		see(&s.entry)
	}
	return s.entry.ID > id || (s.entry.ID == id && s.entry.Time < before)
}

// Unsettled is how many entries have been overwritten without an outcome.
func (r *Ring) Unsettled() uint64 { return r.unsettled.Load() }

// Get is the entry of that id, unless it was never there or has been overwritten.
func (r *Ring) Get(id uint64) (Entry, bool) {
	s := r.slot(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == 0 || s.entry.ID != id {
		return Entry{}, false
	}
	return s.whole(), true
}

// Last gives up to n entries for which keep holds, newest first. A nil keep keeps all. keep must not call the ring.
func (r *Ring) Last(n int, keep func(*Entry) bool) []Entry {
	newest := r.last.Load()
	var found []Entry
	var e Entry // one for all turns: keep makes it escape
	var ok bool
	for i := uint64(0); i < uint64(len(r.slots)) && i < newest && len(found) < n; i++ {
		e, ok = r.Get(newest - i)
		if ok && (keep == nil || keep(&e)) {
			found = append(found, e)
		}
	}
	return found
}

// Edit changes an entry where it stands, which is free of copies, and reports whether the ring still has it. The entry that
// change sees has neither EventID nor Device; change must not keep it, nor call the ring.
func (r *Ring) Edit(id uint64, change func(*Entry)) bool { return r.edit(id, change) }

// Outcome notes what came of a decision and reports whether the ring still has it.
func (r *Ring) Outcome(id uint64, o Outcome) bool {
	o.Known = true
	return r.edit(id, func(e *Entry) { e.Outcome = o })
}

// Amend replaces the decision itself, where the service had to do otherwise: SpoolFull, LocalFailed. It reports whether the ring still
// has the entry. A task that leaves after all does so as one of its own class.
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

// Bind replaces the decision of a task that waited, with everything it is made from and judged by: from here on it is as if the
// decision had been made now. Only the arm stays, while the configuration is the one it was drawn under. It reports whether the
// ring still has the entry.
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

// whole is the slot's entry with strings of its own. The caller holds mu.
func (s *slot) whole() Entry {
	e := s.entry
	e.EventID, e.Device = string(s.text[:s.cut]), string(s.text[s.cut:s.end])
	e.CorrelationID = string(s.text[s.end:])
	return e
}

// index finds a decision by event and chunk, for answers that do not know its id. It holds ids alone, in buckets of one cache
// line each that the oldest leave first, so it neither locks nor grows; an id in it may be that of another event, which
// the caller must check. With the buckets half as many as the ring has entries, about one in a thousand is pushed out
// before the ring forgets it. The bits that an id leaves free hold some of the hash, so that one of another event costs no look at the ring.
type index struct {
	seed    maphash.Seed
	buckets []bucket
}

type bucket [8]atomic.Uint64

// idBits are enough for the ids of NewRing until the year 2255; the rest is of the hash.
const (
	idBits = 53
	idMask = 1<<idBits - 1
)

func newIndex(entries int) index {
	n := 1 << bits.Len(uint(max(entries, 2)/2-1))
	return index{seed: maphash.MakeSeed(), buckets: make([]bucket, n)}
}

// bucket gives the bucket of a chunk, and its bits of the hash.
func (x *index) bucket(eventID string, chunk int) (b *bucket, sign uint64) {
	h := maphash.String(x.seed, eventID[:min(len(eventID), maxText)]) + uint64(chunk)*0x9e3779b97f4a7c15 // any number is as good
	return &x.buckets[(h^h>>32)&uint64(len(x.buckets)-1)], h &^ idMask
}

// put takes the place of the oldest. Two at once may choose the same place, and one of them is then not found.
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

// candidates are the ids that may be of the chunk, and zeros.
func (x *index) candidates(eventID string, chunk int) (ids [8]uint64) {
	b, sign := x.bucket(eventID, chunk)
	for i := range b {
		if id := b[i].Load(); id&^idMask == sign {
			ids[i] = id & idMask
		}
	}
	return ids
}
