// Package clairvoyant bounds from both sides what an episode costs the best plan there is: that of a planner who knows all
// of the episode beforehand and who may let a task wait, take tasks out of their order and leave a server idle. (Package
// oracle finds the optimum of a planner who knows as much but binds each task when it arrives.)
//
// # The lower bound
//
// A plan gives each task i a server s and a place w on the axis of that server's work (sim.Rate.Done), at or after the work
// at its arrival. The task occupies the interval (w, w+c] of its own work there, and costs f(w+c), which never falls as w
// rises. At no point of an axis is more than one task. Let a price p(u) ≥ 0 be given for every point u of both axes, and 0
// beyond the end of the grid. Then every plan costs
//
//	Σ f_i ≥ Σ f_i + Σ_s ∫ p_s(u)·(tasks at u − 1) du
//	      = Σ_i (f_i(w_i+c_i) + ∫ p over (w_i, w_i+c_i]) − Σ_s ∫ p_s
//	      ≥ Σ_i min over s and w of (f_i(w+c_i) + ∫ p over (w, w+c_i]) − Σ_s ∫ p_s  =:  L(p)
//
// as the bracket is at most 0 and p is not negative. So L(p) is a lower bound whatever the prices are, and however badly
// they were searched for: this is the Lagrangian dual of the time-indexed formulation (Dyer and Wolsey, "Formulating the
// single machine sequencing problem with release dates as a mixed integer program", Discrete Applied Mathematics 26, 1990;
// the dual by slot prices: Avella, Boccia and D'Auria, "Near-optimal solutions of large-scale single-machine scheduling
// problems", INFORMS J. on Computing 17, 2005).
//
// The inner minimum is exact, nothing is rounded to the grid. Prices are constant within a slot, and slots end where the
// server's rate changes; hence, for one task, price and completion time are linear in w between the points where w or w+c
// is at the edge of a slot, and the cost is linear in time between the deadline, κ deadlines and the ends of the tail. At
// those points the cost may only jump upwards, from a value it takes. So the minimum lies at one of them, at the arrival, or
// where the task is so late that it costs no more; there its price is taken as 0, which is safe. What is subtracted in the
// end, slack, is far more than the rounding of doubles adds up to.
//
// # The upper bound
//
// List scheduling: each server does the tasks of its list one after another, as soon as task and server are there. The lists
// begin as the solution of the dual has them; then tasks are moved one at a time, by simulated annealing. The plan is played
// through the simulator, and what it costs there counts.
package clairvoyant
