package clairvoyant

import (
	"cmp"
	"slices"

	"app-offload/cmd/offload-lab/internal/sim"
)

// Search bounds the work of Solve. Equal searches of equal episodes give equal results.
type Search struct {
	Slot  float64 // s, at the usual scale of time, that a price holds: shorter ones give a higher bound
	Steps int     // of the prices, at most
	Moves int     // of the local search
	Seed  uint64  // of the local search
}

// DefaultSearch takes about a second for 600 tasks.
func DefaultSearch() Search { return Search{Slot: 0.02, Steps: 1500, Moves: 400_000, Seed: 1} }

// Step binds a task to a server.
type Step struct {
	Job   int
	At    float64 // s from the begin of the episode
	Cloud bool
}

// Plan is what to do, in the order of time, and what is known of it.
type Plan struct {
	Steps []Step
	Cost  float64 // J of the plan, the sum over all tasks
	Bound float64 // no plan costs less
}

// Solve bounds the cost of the best plan from below, and looks for a plan that comes close to it.
func (s Search) Solve(e *sim.Episode) Plan {
	d := newDual(e, s.Slot*e.Config.Scale)
	l := newLists(e, d.giveUp)
	l.empty()
	l.improve(s.Moves/20, s.Seed) // the prices want to know about where they are to get to
	bound, places := d.search(s.Steps, l.cost)
	l.fill(places)
	l.improve(s.Moves, s.Seed)
	return Plan{Steps: l.steps(), Cost: l.cost, Bound: bound}
}

// steps is the plan as it is carried out: a task is bound when its server has done all before it.
func (l *lists) steps() (all []Step) {
	last := 0.0
	for s, r := range [2]sim.Rate{sim.Local: l.episode.Edge, sim.Cloud: l.episode.Link} {
		free := 0.0
		for k, i := range l.order[s] {
			all = append(all, Step{i, max(free, l.episode.Jobs[i].At), s == sim.Cloud})
			free = r.When(l.end[s][k])
		}
		last = max(last, free)
	}
	for i, s := range l.at {
		if s == nowhere {
			late := hopeless(l.episode, i)
			cloud := l.episode.Cost(i, true, late) < l.episode.Cost(i, false, late)
			all = append(all, Step{i, max(last, l.episode.Jobs[i].At+late), cloud})
		}
	}
	slices.SortStableFunc(all, func(a, b Step) int { return cmp.Compare(a.At, b.At) })
	return all
}

// Play carries the plan out in the simulator.
func (p *Plan) Play(env *sim.Env, e *sim.Episode, each func(sim.Info)) {
	env.Begin(e)
	for _, s := range p.Steps {
		each(env.Bind(s.Job, s.At, s.Cloud))
	}
}

// Load is the work of the episode over what both servers can do until its last task arrives, where the work is divided
// between them so that the busier one has least to do.
//
// With any share x_i of task i at the node, the busier one's load is at least λ·node + (1−λ)·link for every λ in [0,1], and
// the best division takes the tasks in the order of their bytes a Mcycle: it is the fractional knapsack of two resources.
func Load(e *sim.Episode) float64 {
	if len(e.Jobs) == 0 {
		return 0
	}
	last := e.Jobs[len(e.Jobs)-1].At
	node, link := e.Edge.Done(last)-e.Edge.Done(0), e.Link.Done(last)-e.Link.Done(0)
	type need struct{ node, link float64 }
	needs, sent, kept := make([]need, len(e.Jobs)), 0.0, 0.0
	for i := range e.Jobs {
		needs[i] = need{e.Jobs[i].Mcycles / node, (e.Jobs[i].Bytes + e.Config.HeaderBytes) / link}
		sent += needs[i].link
	}
	slices.SortFunc(needs, func(a, b need) int { return cmp.Compare(b.link*a.node, a.link*b.node) })
	for _, n := range needs { // from the link to the node, those first that relieve it most
		if kept+n.node > sent-n.link {
			share := (sent - kept) / (n.node + n.link)
			return kept + max(share, 0)*n.node
		}
		kept, sent = kept+n.node, sent-n.link
	}
	return max(kept, sent)
}
