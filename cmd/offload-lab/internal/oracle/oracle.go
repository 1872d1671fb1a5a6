// Package oracle finds the best possible decisions for an episode that is known completely in advance.
//
// The state after each decision is two numbers, the times at which node and link become free, with the cost so far. A state that is free no sooner on
// either and has no lower cost than another state is dominated and can be dropped. The search over the remaining states, the Pareto labels, is
// complete: the result is exact, not heuristic.
//
// In episodes with far more work than both paths can do there can be millions of labels. Above Limit, close labels are merged into one that is at
// least as good as each of them in every respect. The result is then marked as a lower bound.
package oracle

import (
	"math"
	"slices"

	"app-offload/cmd/offload-lab/internal/sim"
)

// Plan is the decision for each task.
type Plan struct {
	Cloud []bool
	Cost  float64 // J of the plan, summed over all tasks
	Bound float64 // lower bound of all plans; equal to Cost if the search was exact
	Most  int     // maximum number of labels after a task
}

// Exact reports whether the plan is optimal.
func (p *Plan) Exact() bool { return p.Bound >= p.Cost }

// Search bounds the work of Solve.
type Search struct {
	// Limit is the maximum number of labels kept after a task.
	Limit int
	// Beam is the number of labels of the preceding search for a good plan. Its cost rules out labels early.
	Beam int
}

// DefaultSearch is exact in all but the most overloaded episodes.
func DefaultSearch() Search { return Search{Limit: 20_000, Beam: 600} }

// Solve finds the optimum of the episode.
func (s Search) Solve(e *sim.Episode) Plan {
	rest, hopeless := least(e), late(e)
	first := search(e, rest, hopeless, math.Inf(1), s.Beam, thin)
	if first.exact {
		return first.plan()
	}
	// The bound is slightly above the cost, so that rounding cannot rule out the plan itself.
	full := search(e, rest, hopeless, first.cost*(1+1e-12)+1e-12, s.Limit, relax)
	p := full.plan()
	if !full.exact {
		p.Bound = full.cost
		p.Cloud, p.Cost = first.plan().Cloud, first.cost
	}
	return p
}

// least returns for each task a lower bound of the cost of it and all later tasks, with both paths idle for each.
func least(e *sim.Episode) []float64 {
	rest := make([]float64, len(e.Jobs)+1)
	for i := len(e.Jobs) - 1; i >= 0; i-- {
		_, here := e.Local(i, math.Inf(-1))
		_, there := e.Cloud(i, math.Inf(-1))
		rest[i] = rest[i+1] + min(e.Cost(i, false, here), e.Cost(i, true, there))
	}
	return rest
}

// late returns for each task the state from which on it and all later tasks are so late on both paths that a later state costs no more. States beyond
// it are equivalent.
func late(e *sim.Episode) []sim.Servers {
	hopeless := make([]sim.Servers, len(e.Jobs)+1)
	hopeless[len(e.Jobs)] = sim.Servers{Edge: math.Inf(-1), Link: math.Inf(-1)}
	for i := len(e.Jobs) - 1; i >= 0; i-- {
		at := e.Jobs[i].At + max(e.Config.Cost.Kappa*e.Jobs[i].Deadline, e.Config.Cost.Tail.To)
		hopeless[i].Edge = max(hopeless[i+1].Edge, e.Edge.Done(at))
		hopeless[i].Link = max(hopeless[i+1].Link, e.Link.Done(at))
	}
	return hopeless
}

// label is a state reached by some sequence of decisions.
type label struct {
	edge, link float64 // as in sim.Servers
	cost       float64 // so far
	from       int32   // the previous label, and the decision in the lowest bit
}

// result is a finished search.
type result struct {
	cost  float64
	exact bool
	most  int
	last  int32
	steps [][]int32 // from, for each label after each task
}

// plan follows the labels back.
func (r *result) plan() Plan {
	p := Plan{Cloud: make([]bool, len(r.steps)), Cost: r.cost, Bound: r.cost, Most: r.most}
	at := r.last
	for i := len(r.steps) - 1; i >= 0; i-- {
		from := r.steps[i][at]
		p.Cloud[i] = from&1 == 1
		at = from >> 1
	}
	return p
}

// search processes all tasks. It drops labels that cannot end below bound; above limit, fewer reduces them.
func search(e *sim.Episode, rest []float64, hopeless []sim.Servers, bound float64, limit int, fewer func([]label, int) []label) result {
	s := e.Idle()
	f := frontier{labels: []label{{edge: s.Edge, link: s.Link}}}
	r := result{exact: true, steps: make([][]int32, len(e.Jobs))}
	for i := range e.Jobs {
		f.advance(e, i, hopeless[i+1], bound-rest[i+1])
		r.most = max(r.most, len(f.labels))
		if len(f.labels) > limit {
			f.labels = fewer(f.labels, limit)
			r.exact = false
		}
		from := make([]int32, len(f.labels))
		for k := range f.labels {
			from[k] = f.labels[k].from
		}
		r.steps[i] = from
	}
	r.cost = math.Inf(1)
	for k, l := range f.labels {
		if l.cost < r.cost {
			r.cost, r.last = l.cost, int32(k) // far fewer than 2³¹
		}
	}
	return r
}

// frontier is the labels after a task, by edge.
type frontier struct {
	labels       []label
	local, cloud []label
	links        []float64
	least        fenwick
}

// advance applies both decisions for task i to every label, and keeps the nondominated ones.
func (f *frontier) advance(e *sim.Episode, i int, hopeless sim.Servers, bound float64) {
	at := e.Jobs[i].At
	edge, link := e.Edge.Done(at), e.Link.Done(at)
	f.local, f.cloud, f.links = f.local[:0], f.cloud[:0], f.links[:0]
	var known, here, next float64 = math.Inf(-1), 0, 0
	for k, l := range f.labels {
		from := int32(k) << 1 // far fewer than 2³⁰
		l.edge, l.link = max(l.edge, edge), max(l.link, link)
		if l.edge != known { // neighbours often share it
			var took float64
			next, took = e.Local(i, l.edge)
			known, here = l.edge, e.Cost(i, false, took)
		}
		if cost := l.cost + here; cost <= bound {
			link := min(l.link, hopeless.Link)
			f.local = append(f.local, label{min(next, hopeless.Edge), link, cost, from})
			f.links = append(f.links, link)
		}
		sent, took := e.Cloud(i, l.link)
		if cost := l.cost + e.Cost(i, true, took); cost <= bound {
			sent = min(sent, hopeless.Link)
			f.cloud = append(f.cloud, label{min(l.edge, hopeless.Edge), sent, cost, from | 1})
			f.links = append(f.links, sent)
		}
	}
	slices.Sort(f.links)
	f.links = slices.Compact(f.links)
	f.merge()
	f.prune()
}

// merge merges both kinds of successors into one list by edge, link and cost. Each kind is already ordered, except for ties.
func (f *frontier) merge() {
	f.labels = f.labels[:0]
	a, b := f.local, f.cloud
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || (len(a) > 0 && a[0].edge <= b[0].edge) {
			f.labels, a = append(f.labels, a[0]), a[1:]
		} else {
			f.labels, b = append(f.labels, b[0]), b[1:]
		}
	}
	for begin := 0; begin < len(f.labels); {
		end := begin + 1
		for end < len(f.labels) && f.labels[end].edge == f.labels[begin].edge {
			end++
		}
		if end-begin > 1 {
			slices.SortFunc(f.labels[begin:end], byLink)
		}
		begin = end
	}
}

func byLink(a, b label) int {
	switch {
	case a.link < b.link || (a.link == b.link && a.cost < b.cost):
		return -1
	case a.link > b.link || a.cost > b.cost:
		return 1
	}
	return 0
}

// prune drops a label if an earlier one has a link that is free no later, at no higher cost.
func (f *frontier) prune() {
	f.least.reset(len(f.links))
	kept := f.labels[:0]
	for _, l := range f.labels {
		rank, _ := slices.BinarySearch(f.links, l.link)
		if f.least.upTo(rank) > l.cost {
			f.least.lower(rank, l.cost)
			kept = append(kept, l)
		}
	}
	f.labels = kept
}

// fenwick returns in logarithmic time the minimum over the positions up to a given one.
type fenwick []float64

func (t *fenwick) reset(n int) {
	*t = slices.Grow((*t)[:0], n+1)[:n+1]
	for i := range *t {
		(*t)[i] = math.Inf(1)
	}
}

func (t fenwick) lower(i int, v float64) {
	for i++; i < len(t); i += i & -i {
		t[i] = min(t[i], v)
	}
}

func (t fenwick) upTo(i int) float64 {
	least := math.Inf(1)
	for i++; i > 0; i -= i & -i {
		least = min(least, t[i])
	}
	return least
}

// cell is a region of states.
type cell struct{ edge, link int64 }

// thin keeps the cheapest label of each cell: the labels are reachable, but the optimum may be lost.
func thin(labels []label, limit int) []label {
	return patch(labels, limit, func(kept, other label) label {
		if other.cost < kept.cost {
			return other
		}
		return kept
	})
}

// relax replaces the labels of each cell by one that is as good as all of them: the optimum is not lost, but a label may be better than any reachable
// state.
func relax(labels []label, limit int) []label {
	return patch(labels, limit, func(kept, other label) label {
		from := kept.from
		if other.cost < kept.cost {
			from = other.from
		}
		return label{min(kept.edge, other.edge), min(kept.link, other.link), min(kept.cost, other.cost), from}
	})
}

// patch joins the labels of a cell, with cells that grow until there are few enough labels. Half of the limit leaves room for the following tasks.
func patch(labels []label, limit int, join func(kept, other label) label) []label {
	edge, link := 0.5, 16.0 // Mcycles and bytes, each a fraction of a millisecond
	for len(labels) > limit/2 {
		at := make(map[cell]int, limit)
		kept := labels[:0]
		for _, l := range labels {
			c := cell{int64(l.edge / edge), int64(l.link / link)}
			if k, ok := at[c]; ok {
				kept[k] = join(kept[k], l)
				continue
			}
			at[c] = len(kept)
			kept = append(kept, l)
		}
		labels = kept
		edge, link = edge*1.5, link*1.5
	}
	slices.SortFunc(labels, func(a, b label) int {
		switch {
		case a.edge < b.edge:
			return -1
		case a.edge > b.edge:
			return 1
		}
		return 0
	})
	return labels
}
