// Package oracle finds the best that anybody could have done in an episode, who knew all of it beforehand.
//
// Deciding task after task leads to a state of two numbers, when node and link become free, at some cost so far. A state
// that is free no sooner on either and has cost no less than another can be forgotten, since whatever is done from it costs
// no less than the same done from the other. What is left after each task, the Pareto labels, is searched in full: the
// result is exact, not a heuristic's.
//
// In episodes with far more work than both ways carry there can be millions of labels. Above Limit, labels that lie close
// together become one that is as good as each of them in every respect. The result is then a lower bound, and says so.
package oracle

import (
	"math"
	"slices"

	"app-offload/cmd/offload-lab/internal/sim"
)

// Plan is what to do with each task.
type Plan struct {
	Cloud []bool
	Cost  float64 // J of the plan, the sum over all tasks
	Bound float64 // no plan costs less; equal to Cost where the search was exact
	Most  int     // labels after one task, at most
}

// Exact reports whether no other plan costs less.
func (p *Plan) Exact() bool { return p.Bound >= p.Cost }

// Search bounds the work of Solve.
type Search struct {
	// Limit is how many labels are kept after a task.
	Limit int
	// Beam is how many are kept in the search for a good plan that comes first. Its cost rules out labels early.
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
	// The bound is a hair above the cost, so that rounding cannot rule the plan itself out.
	full := search(e, rest, hopeless, first.cost*(1+1e-12)+1e-12, s.Limit, relax)
	p := full.plan()
	if !full.exact {
		p.Bound = full.cost
		p.Cloud, p.Cost = first.plan().Cloud, first.cost
	}
	return p
}

// least is for each task the least that it and all after it cost, as if both ways were idle for each.
func least(e *sim.Episode) []float64 {
	rest := make([]float64, len(e.Jobs)+1)
	for i := len(e.Jobs) - 1; i >= 0; i-- {
		_, here := e.Local(i, math.Inf(-1))
		_, there := e.Cloud(i, math.Inf(-1))
		rest[i] = rest[i+1] + min(e.Cost(i, false, here), e.Cost(i, true, there))
	}
	return rest
}

// late is for each task the state from which it and all after it are so late on either way that they cost no more in any
// later one. States beyond it are alike.
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

// label is a state that some sequence of decisions leads to.
type label struct {
	edge, link float64 // as in sim.Servers
	cost       float64 // so far
	from       int32   // the label before, and in the lowest bit the decision
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

// search goes through all tasks. Labels that cannot end below bound are dropped; above limit, fewer makes fewer of them.
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

// advance does either with task i from every label, and keeps what nothing else is better than.
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

// merge puts both kinds of successors in one list by edge, link and cost. Each kind has its order already, but for ties.
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

// prune keeps a label unless one before it has a link that is free no later, at no higher cost.
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

// fenwick answers in logarithmic time what the least value at positions up to some point is.
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

// cell is a patch of states.
type cell struct{ edge, link int64 }

// thin keeps the cheapest label of each patch: what is left can be reached, but the best may be gone.
func thin(labels []label, limit int) []label {
	return patch(labels, limit, func(kept, other label) label {
		if other.cost < kept.cost {
			return other
		}
		return kept
	})
}

// relax makes one label of each patch that is as good as all of them: nothing better is gone, but what is left may be
// better than what can be reached.
func relax(labels []label, limit int) []label {
	return patch(labels, limit, func(kept, other label) label {
		from := kept.from
		if other.cost < kept.cost {
			from = other.from
		}
		return label{min(kept.edge, other.edge), min(kept.link, other.link), min(kept.cost, other.cost), from}
	})
}

// patch joins the labels of a patch, with patches that grow until there are few enough. Half of the limit leaves room
// for the tasks that follow.
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
