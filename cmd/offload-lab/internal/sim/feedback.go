package sim

import (
	"container/heap"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// feedback delivers outcomes at the time when a gateway learns them: to the model's corrections, which work as in the service, and to a policy that
// learns.
type feedback struct {
	pending outcomes
	model   *score.Model   // nil if not corrected
	learner policy.Learner // nil if the policy does not learn
}

// outcome is an outcome that has not reached the gateway yet.
type outcome struct {
	at    float64
	entry decision.Entry
	class *task.Class
	own   float64 // s of local work without waiting
}

// until delivers the outcomes up to now.
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

// outcomes is a heap, earliest arrival first.
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
