package judge

import "slices"

// PromptT is the completion time that 99 of 100 tasks of an episode are to keep, s.
const PromptT = 12.0

// Load is how one policy did in the episodes of one class of load.
type Load struct {
	Load     string  `json:"load"`
	Episodes int     `json:"episodes"`
	Cost     float64 `json:"cost"`   // J a task, mean over episodes
	Plan     float64 `json:"plan"`   // the same of the best plan that is known
	Bound    float64 `json:"bound"`  // no plan costs less
	InTime   float64 `json:"inTime"` // share of episodes in which 99 of 100 tasks take at most PromptT
}

// loads are the classes by offered work over what node and link can do together. Tasks arrive in phases, and the busy one
// brings 1.5 times the mean: from 2/3 on it brings more than node and link can do.
var loads = []struct {
	name  string
	below float64
}{{"light", 1.0 / 3}, {"mid", 2.0 / 3}, {"heavy", 1e300}}

// byLoad divides the episodes of the k-th contestant. A class that has no episodes is left out.
func byLoad(k int, rounds []round) (all []Load) {
	from := 0.0
	for _, class := range loads {
		l := Load{Load: class.name}
		for i := range rounds {
			r := &rounds[i]
			if r.load < from || r.load >= class.below {
				continue
			}
			t := &r.tallies[k]
			tasks := t.tasks()
			l.Episodes++
			l.Cost += t.cost / tasks
			l.Plan += r.plan / tasks
			l.Bound += r.bound / tasks
			took := slices.Clone(t.took)
			slices.Sort(took)
			if quantile(took, 0.99) <= PromptT*r.scale {
				l.InTime++
			}
		}
		if n := float64(l.Episodes); n > 0 {
			l.Cost, l.Plan, l.Bound, l.InTime = l.Cost/n, l.Plan/n, l.Bound/n, l.InTime/n
			all = append(all, l)
		}
		from = class.below
	}
	return all
}
