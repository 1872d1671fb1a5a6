package policy

import (
	"slices"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// nowhere is the absence of a berth.
const nowhere = -1

// berth is the place of a parked task.
type berth struct {
	held       Held
	next, prev int // by arrival; berth numbers + 1, 0 is the end
	earlier    int // the previous and the next task of the stream, likewise
	later      int
	stream     stream
	keys       [2]float64 // by Target
	queue      int
	lane       int
}

// stream identifies the tasks that keep their order: those of a device and class.
type stream struct{ device, class string }

// ends are the berths + 1 of the first and the last parked task of a stream.
type ends struct{ first, last int }

// lane keeps parked tasks in two orders: by the benefit of a second of the node, and of the link. A task's key is its work on that server times its
// deadline, the reciprocal of Smith's ratio for a cost of time over deadline (Smith, "Various optimizers for single-stage production", Naval Research
// Logistics Quarterly 3, 1956): the lowest comes first. Keys have no unit, as only their order matters.
type lane struct{ order [2][]int }

// The queues: tasks for a model are computed apart from all others, and share only the link with them.
const (
	forOperators = iota
	forModels
	numQueues
)

func queueOf(t *task.Task) int {
	if t.Class != nil && t.Class.Model != "" {
		return forModels
	}
	return forOperators
}

// The lanes of a queue.
const (
	live  = iota // tasks that may still meet their deadline, or are not yet as late as can be
	stale        // tasks that are as late as can be
	numLanes
)

// enter gives a task a berth.
func (w *Waiting) enter(h Held, room Room) {
	at := len(w.berths)
	if n := len(w.unused); n > 0 {
		at, w.unused = w.unused[n-1], w.unused[:n-1]
	} else {
		w.berths = append(w.berths, berth{})
	}
	t := h.Task
	deadline := t.Deadline.Seconds()
	if deadline <= 0 {
		deadline = room.patience
	}
	size := float64(t.Size())
	one := berth{held: h, prev: w.last, queue: queueOf(t)}
	w.waiting[one.queue]++
	one.keys[decision.Local] = size * t.Complexity * deadline
	one.keys[decision.Cloud] = (size + score.KB/2) * deadline
	if w.last > 0 {
		w.berths[w.last-1].next = at + 1
	} else {
		w.first = at + 1
	}
	w.last = at + 1
	w.count++
	if room.Ordered {
		one.stream = streamOf(t)
		one.earlier = w.join(one.stream, at)
	}
	w.berths[at] = one
	w.file(at, live)
}

// join appends a berth to its stream, and returns the previous one, or 0.
func (w *Waiting) join(s stream, at int) (earlier int) {
	if w.streams == nil {
		w.streams = map[stream]ends{}
	}
	e := w.streams[s]
	if earlier = e.last; earlier > 0 {
		w.berths[earlier-1].later = at + 1
	} else {
		e.first = at + 1
	}
	e.last = at + 1
	w.streams[s] = e
	return earlier
}

// Follows reports whether an earlier task is parked that t must not overtake.
func (w *Waiting) Follows(t *task.Task) bool {
	_, some := w.streams[streamOf(t)]
	return some
}

// Before removes and returns the earliest task that t must not overtake, and reports whether there is one.
func (w *Waiting) Before(t *task.Task) (Held, bool) {
	e, some := w.streams[streamOf(t)]
	if !some {
		return Held{}, false
	}
	return w.take(e.first - 1), true
}

func streamOf(t *task.Task) stream {
	s := stream{device: t.Device}
	if class := t.OwnClass(); class != nil {
		s.class = class.Name
	}
	return s
}

// earliest returns the first berth of that berth's stream.
func (w *Waiting) earliest(at int) int {
	if e, known := w.streams[w.berths[at].stream]; known {
		return e.first - 1
	}
	return at // it was parked without keeping the order
}

// depart removes a berth from its stream, if it is in one.
func (w *Waiting) depart(at int) {
	one := &w.berths[at]
	e, known := w.streams[one.stream]
	if !known || one.earlier == 0 && e.first != at+1 {
		return
	}
	if one.earlier > 0 {
		w.berths[one.earlier-1].later = one.later
	} else {
		e.first = one.later
	}
	if one.later > 0 {
		w.berths[one.later-1].earlier = one.earlier
	} else {
		e.last = one.earlier
	}
	if e.first == 0 {
		delete(w.streams, one.stream)
		return
	}
	w.streams[one.stream] = e
}

// file inserts a berth into both orders of a lane.
func (w *Waiting) file(at, lane int) {
	w.berths[at].lane = lane
	in := &w.lanes[w.berths[at].queue][lane]
	for s := range in.order {
		order := &in.order[s]
		*order = slices.Insert(*order, w.place(*order, s, w.berths[at].keys[s]), at)
	}
}

// place returns the index of the first berth with that key, or where to insert it.
func (w *Waiting) place(order []int, s int, key float64) int {
	low, high := 0, len(order)
	for low < high {
		if mid := (low + high) / 2; w.berths[order[mid]].keys[s] < key {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// unfile removes a berth from the orders of its lane.
func (w *Waiting) unfile(at int) {
	lane := &w.lanes[w.berths[at].queue][w.berths[at].lane]
	for s, order := range lane.order {
		place := w.place(order, s, w.berths[at].keys[s])
		for order[place] != at {
			place++
		}
		lane.order[s] = slices.Delete(order, place, place+1)
	}
}

// take removes a task and returns it.
func (w *Waiting) take(at int) Held {
	w.unfile(at)
	w.depart(at)
	one := &w.berths[at]
	if one.prev > 0 {
		w.berths[one.prev-1].next = one.next
	} else {
		w.first = one.next
	}
	if one.next > 0 {
		w.berths[one.next-1].prev = one.prev
	} else {
		w.last = one.prev
	}
	h := one.held
	w.waiting[one.queue]--
	*one = berth{} // releases the references
	w.unused = append(w.unused, at)
	w.count--
	w.bytes -= int64(h.Task.Size())
	return h
}

// Binder is a policy that need not decide a task when it arrives. While its target is busy, a task may be parked, and is bound to the node or the
// link when one of them is free. A later decision knows more, and a task that gains little by a server does not delay one that gains much. The term
// is late binding, after Ousterhout et al., "Sparrow: distributed, low latency scheduling", SOSP 2013.
//
// Decide returns the target that a task would take now, for tasks that cannot be parked.
type Binder interface {
	Policy
	// Waits reports whether a task should be parked, given the decision of Decide and the state it has seen.
	Waits(t *task.Task, e *score.Estimate, s *host.State, d *decision.Decision) bool
	// Room returns the limits on parked tasks, and when a server counts as free.
	Room() Room
	// choose picks the parked task of a queue that one of the free servers should take now, by its berth; nowhere if no task gains by a server.
	choose(w *Waiting, queue int, m *score.Model, s *host.State, free [2]bool) (at int, server decision.Target)
}

// Room bounds the parked tasks.
type Room struct {
	Tasks   int           // maximum number
	Bytes   int64         // maximum size of their data
	Longest time.Duration // time after which a task goes to the cloud in its turn, before all other tasks, unless a guard keeps it local
	Ahead   float64       // s of predicted work ahead up to which a server counts as free; the link up to a round trip earlier
	Ordered bool          // tasks of a device and class leave in order of arrival; see Held.InOrder

	patience float64 // deadline assumed for a task without one, s
}

// Held is a parked task with the data of its owner.
type Held struct {
	Task    *task.Task
	Tag     any
	InOrder bool // its local work needs the order of its device and class, too
}

// Waiting is the set of parked tasks. The zero value is empty. It belongs to one goroutine.
type Waiting struct {
	berths      []berth
	unused      []int
	first, last int // berth numbers + 1, by arrival
	count       int
	bytes       int64
	lanes       [numQueues][numLanes]lane
	waiting     [numQueues]int
	streams     map[stream]ends

	outlook  outlook
	estimate score.Estimate // estimate and seen escape through an interface, so they are allocated once
	seen     [numQueues]host.State
}

// Len is the number of parked tasks.
func (w *Waiting) Len() int { return w.count }

// Bytes is the size of their data.
func (w *Waiting) Bytes() int64 { return w.bytes }

// Add parks a task, and reports whether there is room for it.
func (w *Waiting) Add(h Held, room Room) bool {
	size := int64(h.Task.Size())
	if w.count >= room.Tasks || w.bytes+size > room.Bytes {
		return false
	}
	w.enter(h, room)
	w.bytes += size
	return true
}

// Next removes the task that a free server should take now, and returns it with the decision and the estimate behind it. It reports false if no
// server is free, or no parked task gains by a free one. A caller that updates the state and repeats the call binds as many tasks as fit. The time of
// a call does not grow with the number of parked tasks.
func (w *Waiting) Next(b Binder, m *score.Model, s *host.State) (h Held, d decision.Decision, e score.Estimate, ok bool) {
	if w.count == 0 {
		return h, d, e, false
	}
	room := b.Room()
	if t := w.berths[w.first-1].held.Task; time.Duration(s.Time-t.Received) >= room.Longest {
		w.estimate = m.Estimate(t, s)
		return w.take(w.first - 1), bound(decision.Cloud, decision.LongestWait), w.estimate, true
	}
	at, server, queue := w.best(b, m, s)
	if at == nowhere {
		return h, d, e, false
	}
	if server == decision.Cloud || w.berths[at].held.InOrder {
		at = w.earliest(at)
	}
	w.estimate = m.Estimate(w.berths[at].held.Task, &w.seen[queue])
	return w.take(at), bound(server, whyBound[server]), w.estimate, true
}

// best chooses from each queue. If both queues have a task for the link, the one with the lower key gets it.
func (w *Waiting) best(b Binder, m *score.Model, s *host.State) (at int, server decision.Target, queue int) {
	at = nowhere
	for q := range w.waiting {
		if w.waiting[q] == 0 {
			continue
		}
		w.seen[q] = *s
		m.Assume(&w.seen[q].Link) // otherwise the wait for an unmeasured link would count as endless
		if q == forModels {
			w.seen[q] = m.ForModels(&w.seen[q])
		}
		open := free(m, &w.seen[q], b.Room().Ahead)
		if open == [2]bool{} {
			continue
		}
		other, to := b.choose(w, q, m, &w.seen[q], open)
		if other != nowhere && (at == nowhere || to == decision.Local || w.berths[other].keys[to] < w.berths[at].keys[to]) {
			at, server, queue = other, to, q
		}
		if at != nowhere && server == decision.Local {
			break // it competes with no other queue
		}
	}
	return at, server, queue
}

var whyBound = [...]decision.Reason{decision.Local: decision.BoundLocal, decision.Cloud: decision.BoundCloud}

// free reports which servers are free: at most ahead seconds of work wait for the node, and up to a round trip more for the link, since a task may be
// bound early.
func free(m *score.Model, s *host.State, ahead float64) (open [2]bool) {
	nothing := m.EstimateWork(nil, 0, 0, s)
	local, cloud := timings(&nothing, s)
	return [2]bool{decision.Local: local.wait <= ahead, decision.Cloud: s.Link.Up && cloud.wait <= ahead+bounded(s.Link.RTT)}
}

// Without removes and returns the tasks for which out holds. It scans all parked tasks.
func (w *Waiting) Without(out func(*task.Task) bool) (gone []Held) {
	for at := w.first - 1; w.count > 0 && at != nowhere; {
		next := w.berths[at].next - 1
		if out(w.berths[at].held.Task) {
			gone = append(gone, w.take(at))
		}
		at = next
	}
	return gone
}

// All removes and returns all tasks in order of arrival, for a stop.
func (w *Waiting) All() []Held {
	var all []Held
	for w.count > 0 {
		all = append(all, w.take(w.first-1))
	}
	return all
}

func bound(target decision.Target, why decision.Reason) decision.Decision {
	d := decision.Decision{Target: target, Threshold: half, Propensity: 1, Reason: why}
	if target == decision.Cloud {
		d.Score = 1
	}
	return d
}
