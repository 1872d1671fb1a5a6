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
	// Bid is the value of sending the task to a server now, rather than another task or none at all: the highest bid wins,
	// and bids at or below 0 never do. server says which one is free.
	Bid(t *task.Task, e *score.Estimate, s *host.State, server decision.Target) float64
	// Room bounds what may wait, and says when a server counts as free.
	Room() Room
}

// Room bounds the tasks that wait undecided.
type Room struct {
	Tasks   int           // that may wait at once
	Bytes   int64         // of their data
	Longest time.Duration // after which a task goes to the cloud in its turn, whichever others wait, unless a guard keeps it local
	Ahead   float64       // s of predicted work at or below which a server counts as free
}

// Held is a task that waits, and what its owner wants to know of it again.
type Held struct {
	Task *task.Task
	Tag  any
}

// Waiting is the tasks that wait undecided, in the order in which they came. The zero value is empty. It belongs to one goroutine.
type Waiting struct {
	held   []Held
	bytes  int64
	models int // of them, the tasks for a model
}

// Len is how many tasks wait.
func (w *Waiting) Len() int { return len(w.held) }

// Bytes is the size of their data.
func (w *Waiting) Bytes() int64 { return w.bytes }

// Add lets a task wait, and reports false where the room is full.
func (w *Waiting) Add(h Held, room Room) bool {
	size := int64(h.Task.Size())
	if len(w.held) >= room.Tasks || w.bytes+size > room.Bytes {
		return false
	}
	w.held = append(w.held, h)
	w.bytes += size
	if forModel(h.Task) {
		w.models++
	}
	return true
}

// Next takes the task out that a free server is to have now, with the decision and the estimate it was made from. It reports false
// where no server is free, or none of the tasks that wait gains by one. A caller that repeats it after updating the state
// accordingly binds as many tasks as there is room for. It is O(tasks that wait), about 0.15 µs each and server.
func (w *Waiting) Next(b Binder, m *score.Model, s *host.State) (h Held, d decision.Decision, e score.Estimate, ok bool) {
	if len(w.held) == 0 {
		return h, d, e, false
	}
	room := b.Room()
	if t := w.held[0].Task; time.Duration(s.Time-t.Received) >= room.Longest {
		e = m.Estimate(t, s)
		return w.take(0), bound(decision.Cloud, decision.LongestWait), e, true
	}
	seen := *s
	m.Assume(&seen.Link) // or the wait for a link without a measurement would count as endless
	at, d, e := w.best(b, m, &seen, false)
	if w.models > 0 { // they stand in another queue
		seen = m.ForModels(&seen)
		if other, od, oe := w.best(b, m, &seen, true); other.bid > at.bid {
			at, d, e = other, od, oe
		}
	}
	if at.bid <= 0 {
		return h, decision.Decision{}, score.Estimate{}, false
	}
	return w.take(at.i), d, e, true
}

// place is a task that waits and what it bids.
type place struct {
	i   int
	bid float64
}

// best finds the highest bid among the tasks for a model, or among all others; it is 0 where no server is free or none gains by one.
func (w *Waiting) best(b Binder, m *score.Model, s *host.State, models bool) (at place, d decision.Decision, e score.Estimate) {
	var one score.Estimate // goes through an interface, so it is one for all
	for _, server := range free(m, s, b.Room().Ahead) {
		for i := range w.held {
			t := w.held[i].Task
			if forModel(t) != models {
				continue
			}
			one = m.Estimate(t, s)
			if bid := b.Bid(t, &one, s, server); bid > at.bid {
				at, e, d = place{i, bid}, one, bound(server, whyBound[server])
			}
		}
	}
	return at, d, e
}

func forModel(t *task.Task) bool { return t.Class != nil && t.Class.Model != "" }

var whyBound = [...]decision.Reason{decision.Local: decision.BoundLocal, decision.Cloud: decision.BoundCloud}

// free lists the servers before which no more than ahead seconds of work wait.
func free(m *score.Model, s *host.State, ahead float64) []decision.Target {
	nothing := m.EstimateWork(nil, 0, 0, s)
	here, there := waysOf(&nothing, s)
	switch local, cloud := here.wait <= ahead, s.Link.Up && there.wait <= ahead; {
	case local && cloud:
		return []decision.Target{decision.Local, decision.Cloud}
	case local:
		return []decision.Target{decision.Local}
	case cloud:
		return []decision.Target{decision.Cloud}
	}
	return nil
}

// All takes out whatever waits, for a stop.
func (w *Waiting) All() []Held {
	all := w.held
	w.held, w.bytes, w.models = nil, 0, 0
	return all
}

func (w *Waiting) take(i int) Held {
	h := w.held[i]
	copy(w.held[i:], w.held[i+1:])
	w.held[len(w.held)-1] = Held{} // or what it points to would live on
	w.held = w.held[:len(w.held)-1]
	w.bytes -= int64(h.Task.Size())
	if forModel(h.Task) {
		w.models--
	}
	return h
}

func bound(target decision.Target, why decision.Reason) decision.Decision {
	d := decision.Decision{Target: target, Threshold: half, Propensity: 1, Reason: why}
	if target == decision.Cloud {
		d.Score = 1
	}
	return d
}
