package sim

import (
	"container/heap"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// feedback brings outcomes when a gateway learns of them, to all that learn from them: the model's corrections, as the service corrects its
// own, and a policy that learns.
type feedback struct {
	pending outcomes
	model   *score.Model   // nil is not corrected
	learner policy.Learner // nil without one
}

// outcome is one that has not reached the gateway yet.
type outcome struct {
	at    float64
	entry decision.Entry
	class *task.Class
	own   float64 // s of local work without the wait for it
}

// until takes in what came up to now.
func (f *feedback) until(now float64) {
	for len(f.pending) > 0 && f.pending[0].at <= now {
		o := heap.Pop(&f.pending).(outcome)
		if f.model != nil {
			class, entry := o.class, &o.entry
			if entry.Decision.Target == decision.Cloud {
				f.model.ObserveTrip(class, entry.Size, entry.Complexity, &entry.State, entry.Outcome.Time)
			} else {
				f.model.ObserveLocal(class, entry.Size, entry.Complexity, o.own)
			}
		}
		if f.learner != nil {
			f.learner.Observe(&o.entry)
		}
	}
}

// outcomes is a heap, the next to arrive first.
type outcomes []outcome

func (o outcomes) Len() int           { return len(o) }
func (o outcomes) Less(i, k int) bool { return o[i].at < o[k].at }
func (o outcomes) Swap(i, k int)      { o[i], o[k] = o[k], o[i] }
func (o *outcomes) Push(x any)        { *o = append(*o, x.(outcome)) }

func (o *outcomes) Pop() any {
	last := (*o)[len(*o)-1]
	*o = (*o)[:len(*o)-1]
	return last
}
