package policy

import (
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Binder is a policy that need not decide a task when it arrives: while the way that the task would take is busy, it may wait
// undecided, and is bound to node or link when one of them is free. What is decided late is decided knowing more, and what
// gains little by a server does not stand before what gains much. The term is late binding, after Ousterhout et al., "Sparrow:
// distributed, low latency scheduling", SOSP 2013.
//
// Decide, as of any policy, gives the way that a task would take now, for tasks that cannot wait.
type Binder interface {
	Policy
	// Waits reports whether a task had better wait, given the way that Decide has chosen and the state it has seen.
	Waits(t *task.Task, e *score.Estimate, s *host.State, d *decision.Decision) bool
	// Room bounds what may wait, and says when a server counts as free.
	Room() Room
	// choose picks the parked task of a queue that one of the free servers is to have now, by its berth; nowhere is that none gains by one.
	choose(w *Waiting, queue int, m *score.Model, s *host.State, free [2]bool) (at int, server decision.Target)
}

// Room bounds the tasks that wait undecided.
type Room struct {
	Tasks   int           // that may wait at once
	Bytes   int64         // of their data
	Longest time.Duration // after which a task goes to the cloud in its turn, whichever others wait, unless a guard keeps it local
	Ahead   float64       // s of predicted work at or below which a server counts as free
	Ordered bool          // tasks of a device and class leave in the order in which they came; see Held.InOrder

	patience float64 // s that count as the deadline of a task without one
}

// Held is a task that waits, and what its owner wants to know of it again.
type Held struct {
	Task    *task.Task
	Tag     any
	InOrder bool // its local work needs the order of its device and class, too
}

// Waiting is the tasks that wait undecided. The zero value is empty. It belongs to one goroutine.
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
	estimate score.Estimate // these two go through an interface, so there is one of each for all
	seen     [numQueues]host.State
}

// Len is how many tasks wait.
func (w *Waiting) Len() int { return w.count }

// Bytes is the size of their data.
func (w *Waiting) Bytes() int64 { return w.bytes }

// Add lets a task wait, and reports false where the room is full.
func (w *Waiting) Add(h Held, room Room) bool {
	size := int64(h.Task.Size())
	if w.count >= room.Tasks || w.bytes+size > room.Bytes {
		return false
	}
	w.enter(h, room)
	w.bytes += size
	return true
}

// Next takes the task out that a free server is to have now, with the decision and the estimate it was made from. It reports false
// where no server is free, or none of the tasks that wait gains by one. A caller that repeats it after updating the state
// accordingly binds as many tasks as there is room for. What it costs does not grow with the tasks that wait.
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

// best chooses from each queue. Of two that want the link, the one to which a second of it does more has it.
func (w *Waiting) best(b Binder, m *score.Model, s *host.State) (at int, server decision.Target, queue int) {
	at = nowhere
	for q := range w.waiting {
		if w.waiting[q] == 0 {
			continue
		}
		w.seen[q] = *s
		m.Assume(&w.seen[q].Link) // or the wait for a link without a measurement would count as endless
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
			break // it is in no other queue's way
		}
	}
	return at, server, queue
}

var whyBound = [...]decision.Reason{decision.Local: decision.BoundLocal, decision.Cloud: decision.BoundCloud}

// free says before which servers no more than ahead seconds of work wait.
func free(m *score.Model, s *host.State, ahead float64) (open [2]bool) {
	nothing := m.EstimateWork(nil, 0, 0, s)
	here, there := waysOf(&nothing, s)
	return [2]bool{decision.Local: here.wait <= ahead, decision.Cloud: s.Link.Up && there.wait <= ahead}
}

// Without takes out the tasks for which out holds. It looks at each task that waits.
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

// All takes out whatever waits, in the order in which it came, for a stop.
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
