package policy

import (
	"slices"

	"app-offload/functions/decision"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// nowhere is no berth.
const nowhere = -1

// berth is the place of a parked task.
type berth struct {
	held       Held
	next, prev int // by arrival; berth numbers + 1, 0 for none
	earlier    int // those before and after it in its stream, likewise
	later      int
	stream     stream
	keys       [2]float64 // by Target
	queue      int
	lane       int
}

// stream is what keeps its order: the tasks of a device and class.
type stream struct{ device, class string }

// ends are the berths + 1 of the first and the last parked task of a stream.
type ends struct{ first, last int }

// lane is parked tasks twice in order: by what a second of the node, and of the link, does for each. A task's key is its work there times its
// deadline, the reciprocal of Smith's ratio for a cost of time over deadline (Smith, "Various optimizers for single-stage production",
// Naval Research Logistics Quarterly 3, 1956): the least comes first. Keys are in no unit, as only their order matters.
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
	live  = iota // tasks that may still be worth their time
	stale        // tasks that are late in any case
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

// join puts a berth at the end of its stream, and returns the one before it, 0 for none.
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

// Follows reports whether an earlier task of t's device and class waits that t must not pass.
func (w *Waiting) Follows(t *task.Task) bool {
	_, some := w.streams[streamOf(t)]
	return some
}

// Before takes the earliest task out that t must not pass, and reports false without one.
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

// earliest is the first of the stream of that berth.
func (w *Waiting) earliest(at int) int {
	if e, known := w.streams[w.berths[at].stream]; known {
		return e.first - 1
	}
	return at // no order was kept when it came
}

// depart takes a berth out of its stream, if it is in one.
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

// file puts a berth in order.
func (w *Waiting) file(at, lane int) {
	w.berths[at].lane = lane
	in := &w.lanes[w.berths[at].queue][lane]
	for s := range in.order {
		order := &in.order[s]
		*order = slices.Insert(*order, w.place(*order, s, w.berths[at].keys[s]), at)
	}
}

// place is where the first berth of that key stands or would stand.
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

// unfile takes a berth out of its order.
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

// take takes a task out.
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
	*one = berth{} // or what it points to would live on
	w.unused = append(w.unused, at)
	w.count--
	w.bytes -= int64(h.Task.Size())
	return h
}
