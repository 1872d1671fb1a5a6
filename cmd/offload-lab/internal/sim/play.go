package sim

import (
	"container/heap"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// Play lets a policy of the service live through the episode. each, where it is not nil, sees every situation with the
// decision and what came of it. A policy that learns gets each outcome when a gateway would: when the result is there.
func Play(env *Env, e *Episode, p policy.Policy, each func(*Situation, decision.Decision, Info)) {
	if b, ok := p.(policy.Binder); ok {
		playLate(env, e, b, each)
		return
	}
	learner, _ := p.(policy.Learner)
	var pending outcomes
	env.Begin(e)
	for over := false; !over; {
		s := env.Situation()
		for learner != nil && len(pending) > 0 && pending[0].at <= e.Jobs[env.at].At {
			one := heap.Pop(&pending).(outcome)
			learner.Observe(&one.entry)
		}
		d := p.Decide(&s.Task, &s.Estimate, &s.State)
		if learner != nil {
			// Before the step, which makes another situation of this one.
			pending = append(pending, outcome{entry: decision.NewEntry(&s.Task, &s.Estimate, &s.State, d, p.Name(), "")})
		}
		var before Situation
		if each != nil {
			before = *s
		}
		_, _, _, truncated, info := env.Step(int(d.Target))
		over = truncated
		if learner != nil {
			last := &pending[len(pending)-1]
			last.at = info.Done
			last.entry.Outcome = decision.Outcome{Known: true, Time: info.Took, Bytes: int64(info.Bytes), Energy: info.Joules, Met: !info.Missed}
			heap.Fix(&pending, len(pending)-1)
		}
		if each != nil {
			each(&before, d, info)
		}
	}
}

// outcome is one that has not reached the gateway yet.
type outcome struct {
	at    float64
	entry decision.Entry
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
