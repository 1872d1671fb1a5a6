package policy

import (
	"math"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
)

const (
	planned = 14 // tasks in an outlook
	perLane = 8  // maximum number of them from each order of a lane
)

// outlook is a plan for both servers over the parked tasks that matter most. It is made by list scheduling: each task is put where it costs least,
// including the delay to later tasks of the list, and then each is moved once more. It is made anew for each choice, and only the first task of a
// free server is bound by it.
type outlook struct {
	cost  *cost
	rule  *Rule
	pulse pulse
	free  [2]float64 // s until each server is free, by Target
	idle  [2]bool    // servers that need a task now
	rest  rest
	tasks [planned]prospect
	n     int
	order [2][planned]int // of each server, indices of tasks
	len   [2]int
}

// prospect is a parked task in an outlook, all times in s.
type prospect struct {
	at       int // its berth
	waited   float64
	deadline float64
	own      [2]float64 // time of each server
	after    float64    // beyond the link
	fixed    [2]float64 // energy, money and memory, in the unit of cost
	took     [2]float64 // by each server, as predicted
	saves    [2]bool    // a server costs less than the other in any term but time
	later    float64    // cost of leaving it parked
}

// choose returns the first task that the outlook assigns to a free server.
func (p *deferring) choose(w *Waiting, queue int, m *score.Model, s *host.State, free [2]bool) (at int, server decision.Target) {
	o := &w.outlook
	o.cost, o.rule, o.pulse, o.idle, o.n, o.len = p.cost, &p.rule, p.tempo.now(s.Time), free, 0, [2]int{}
	for lane := range w.lanes[queue] {
		for target := range w.lanes[queue][lane].order {
			p.gather(w, &w.lanes[queue][lane].order[target], lane, m, s)
		}
	}
	price := o.beyond(w.waiting[queue] - o.n)
	if o.plan(); o.leavesIdle() {
		o.rest.price, o.len = price, [2]int{}
		o.plan()
	}
	for server := range free {
		if free[server] && o.len[server] > 0 && (server == int(decision.Local) || p.dueOnLink(o, s)) {
			return o.tasks[o.order[server][0]].at, decision.Target(server) // 0 or 1
		}
	}
	if p.tempo.quiet(s.Time) {
		return o.leftover(free)
	}
	return nowhere, decision.Local
}

// dueOnLink reports whether the first task for the link may be bound already; see early.
func (p *deferring) dueOnLink(o *outlook, s *host.State) bool {
	wait, own := o.free[decision.Cloud], o.tasks[o.order[decision.Cloud][0]].own[decision.Cloud] // both with caution
	return wait <= p.rule.Caution*(p.Room().Ahead+p.early(own/p.rule.Caution, s))
}

// leftover returns a task that the outlook assigns to no server: it is as late as can be, so waiting costs it little, and less than the server's time
// costs future tasks. If none are expected soon, the task goes to the cheaper server.
func (o *outlook) leftover(free [2]bool) (at int, server decision.Target) {
	var placed [planned]bool
	for server := range o.order {
		for _, i := range o.order[server][:o.len[server]] {
			placed[i] = true
		}
	}
	for i := range o.n {
		t, to := &o.tasks[i], decision.Local
		if other := decision.Cloud; !math.IsInf(t.own[other], 1) && t.fixed[other] < t.fixed[to] {
			to = other
		}
		if !placed[i] && free[to] {
			return t.at, to
		}
	}
	return nowhere, decision.Local
}

// gather adds the first tasks of one order. It moves hopeless tasks to the other lane.
func (p *deferring) gather(w *Waiting, order *[]int, lane int, m *score.Model, s *host.State) {
	for n := 0; n < perLane && n < len(*order) && w.outlook.n < planned; {
		at := (*order)[n]
		if lane == live && p.hopeless(&w.berths[at], s) {
			w.unfile(at)
			w.file(at, stale)
			continue
		}
		p.add(w, at, m, s)
		n++
	}
}

// hopeless reports whether a task has waited so long that it is as late as can be.
func (p *deferring) hopeless(b *berth, s *host.State) bool {
	t := b.held.Task
	deadline := t.Deadline.Seconds()
	if deadline <= 0 {
		deadline = p.cost.patience
	}
	return time.Duration(s.Time-t.Received).Seconds() > deadline*p.cost.kappa
}

// add adds a parked task, unless it was added already.
func (p *deferring) add(w *Waiting, at int, m *score.Model, s *host.State) {
	o := &w.outlook
	for i := range o.n {
		if o.tasks[i].at == at {
			return
		}
	}
	t, e := w.berths[at].held.Task, &w.estimate
	*e = m.Estimate(t, s)
	x := p.weigh(t, e, s)
	one := &o.tasks[o.n]
	o.n++
	o.free = [2]float64{x.local.wait, x.cloud.wait}
	*one = prospect{at: at, waited: x.waited, deadline: x.deadline, own: [2]float64{x.local.own, x.cloud.own}, after: x.cloud.after}
	if math.IsInf(x.deadline, 1) {
		one.waited = 0 // patience counts from now
	}
	strain := p.cost.strain(s)
	one.fixed = [2]float64{p.cost.joule(e.LocalEnergy*strain) + p.cost.stall(s), p.cost.joule(e.CloudEnergy*strain) + p.cost.paid(e)}
	terms := p.cost.predicted(e, s)
	one.took = [2]float64{e.LocalTime, e.CloudTime}
	one.saves = [2]bool{terms.saves(decision.Local), terms.saves(decision.Cloud)}
	if math.IsInf(e.CloudTime, 1) {
		one.own[decision.Cloud] = math.Inf(1)
	}
	unit := one.deadline
	if math.IsInf(unit, 1) {
		unit = p.cost.patience
	}
	one.later = max(p.cost.of(one.waited+max(o.free[0], o.free[1])+p.rule.Postpone*unit, one.deadline, 0), p.cost.time*p.cost.kappa+p.cost.miss) +
		min(one.fixed[0], one.fixed[1])
}

// plan puts each task where it costs least, and moves each once more when all are placed.
func (o *outlook) plan() {
	for i := range o.n {
		o.insert(i)
	}
	for i := range o.n {
		o.remove(i)
		o.insert(i)
	}
}

// of returns the cost of task i if the server is done with it at time end.
func (o *outlook) of(i, server int, end float64) float64 {
	t := &o.tasks[i]
	if server == int(decision.Cloud) {
		end += t.after
	}
	return o.cost.of(t.waited+end, t.deadline, 0) + t.fixed[server]
}

// insert puts task i where it costs least, or leaves it parked.
func (o *outlook) insert(i int) {
	t := &o.tasks[i]
	least, to, place := t.later+min(o.delays(i, 0), o.delays(i, 1)), 0, nowhere
	for server := range o.order {
		if math.IsInf(t.own[server], 1) || o.worse(i, server) {
			continue
		}
		if c, k := o.cheapest(i, server, least); c < least {
			least, to, place = c, server, k
		}
	}
	if place == nowhere {
		return
	}
	list := &o.order[to]
	copy(list[place+1:o.len[to]+1], list[place:o.len[to]])
	list[place] = i
	o.len[to]++
}

// worse reports whether a free server is worse for task i in every term: it would be done later than on the other server behind all other tasks, and
// it saves nothing else.
func (o *outlook) worse(i, server int) bool {
	t, other := &o.tasks[i], 1-server
	if !o.idle[server] || t.saves[server] {
		return false
	}
	behind := t.took[other] + o.rest.ahead[other]
	for _, j := range o.order[other][:o.len[other]] {
		behind += o.tasks[j].own[other]
	}
	return t.took[server] > behind
}

// rest is the parked tasks beyond an outlook, as a fluid that both servers drain at the same time.
type rest struct {
	ahead [2]float64 // s that each server takes for its share
	price [2]float64 // cost to them of a second of each server, where it counts
}

// leavesIdle reports whether a free server gets no task.
func (o *outlook) leavesIdle() bool {
	return o.idle[0] && o.len[0] == 0 || o.idle[1] && o.len[1] == 0
}

// beyond adds n tasks like those of the outlook, divided so that both servers finish at the same time. It returns what a second of each server costs
// them. That price counts only where a server would otherwise get no task: within a short outlook each task seems better off on the other server,
// behind the few tasks that the outlook contains.
func (o *outlook) beyond(n int) (price [2]float64) {
	o.rest = rest{}
	if n <= 0 {
		return price
	}
	var own [2]float64
	after, wish := 0.0, 0.0
	for i := range o.n {
		t := &o.tasks[i]
		own[0], own[1] = own[0]+t.own[0]/float64(o.n), own[1]+t.own[1]/float64(o.n)
		after += t.after / float64(o.n)
		wish += o.slope(t) / float64(o.n)
	}
	own[0], own[1] = max(own[0], briefest), max(own[1], briefest)
	begin := [2]float64{o.free[0], o.free[1] + after}
	first := 0
	if begin[1] < begin[0] {
		first = 1
	}
	// The server that begins later gets a share only if the other one is not finished by then.
	count := [2]float64{}
	alone := min(float64(n), (begin[1-first]-begin[first])/own[first])
	count[first] = alone
	if left := float64(n) - alone; left > 0 {
		rate := 1/own[0] + 1/own[1]
		for server := range count {
			count[server] += left / own[server] / rate
		}
	}
	for server := range count {
		if count[server] > 0 { // avoids 0·Inf
			o.rest.ahead[server], price[server] = count[server]*own[server], count[server]*wish
		}
	}
	return price
}

// briefest is the least time of a task, s.
const briefest = 1e-9

// slope returns the cost of a further second to a task.
func (o *outlook) slope(t *prospect) float64 {
	unit := t.deadline
	if math.IsInf(unit, 1) {
		unit = o.cost.patience
	}
	if t.waited > unit*o.cost.kappa {
		return o.cost.tail / unit
	}
	return o.cost.time / unit
}

// delays returns the cost of the delay by task i on a server to the tasks beyond the outlook.
func (o *outlook) delays(i, server int) float64 {
	if o.rest.price[server] == 0 {
		return 0 // avoids Inf·0
	}
	return o.tasks[i].own[server] * o.rest.price[server]
}

// cheapest returns the place in a server's list where task i costs least, and the cost: its own, and the delay to later tasks of the list and to
// future tasks.
func (o *outlook) cheapest(i, server int, least float64) (cost float64, place int) {
	list, own := o.order[server][:o.len[server]], o.tasks[i].own[server]
	var ends, costs [planned]float64
	end := o.free[server]
	for k, j := range list {
		end += o.tasks[j].own[server]
		ends[k], costs[k] = end, o.of(j, server, end)
	}
	target := decision.Target(server) // 0 or 1
	price := o.rule.price(target, end+own, o.pulse) - o.rule.price(target, end, o.pulse) + o.delays(i, server)
	begin := o.free[server]
	place = nowhere
	for k := 0; k <= len(list); k++ {
		c := price + o.of(i, server, begin+own)
		for n := k; n < len(list) && c < least; n++ {
			c += o.of(list[n], server, ends[n]+own) - costs[n]
		}
		if c < least {
			least, place = c, k
		}
		begin = ends[k] // also at the last place, where the list has room for one more
	}
	return least, place
}

// remove removes task i from the lists.
func (o *outlook) remove(i int) {
	for server := range o.order {
		list := o.order[server][:o.len[server]]
		for k, j := range list {
			if i == j {
				copy(list[k:], list[k+1:])
				o.len[server]--
				return
			}
		}
	}
}
