// Package clairvoyant computes lower and upper bounds of the cost of the best possible plan for an episode: by a planner that knows the whole episode
// in advance and may delay tasks, reorder them and leave a server idle. (Package oracle finds the optimum of a planner with the same knowledge that
// binds each task on arrival.)
//
// # The lower bound
//
// A plan gives each task i a server s and a position w on the axis of that server's work (sim.Rate.Done), at or after the work at its arrival. There
// the task occupies the interval (w, w+c] of its own work, and costs f(w+c), which is nondecreasing in w. No point of an axis has more than one task.
// Let p(u) ≥ 0 be a price for every point u of both axes, and 0 beyond the end of the grid. Then every plan costs
//
//	Σ f_i ≥ Σ f_i + Σ_s ∫ p_s(u)·(tasks at u − 1) du
//	      = Σ_i (f_i(w_i+c_i) + ∫ p over (w_i, w_i+c_i]) − Σ_s ∫ p_s
//	      ≥ Σ_i min over s and w of (f_i(w+c_i) + ∫ p over (w, w+c_i]) − Σ_s ∫ p_s  =:  L(p)
//
// since the bracket is at most 0 and p is not negative. So L(p) is a lower bound for any prices, however they were found: this is the Lagrangian dual
// of the time-indexed formulation (Dyer and Wolsey, "Formulating the single machine sequencing problem with release dates as a mixed integer
// program", Discrete Applied Mathematics 26, 1990; the dual by slot prices: Avella, Boccia and D'Auria, "Near-optimal solutions of large-scale
// single-machine scheduling problems", INFORMS J. on Computing 17, 2005).
//
// The inner minimum is exact; nothing is rounded to the grid. Prices are constant within a slot, and slots end where the server's rate changes; so
// for one task, price and completion time are linear in w between the points where w or w+c is at the edge of a slot, and the cost is linear in time
// between the deadline, κ deadlines and the ends of the tail. At those points the cost can only jump upwards, from a value that it attains. So the
// minimum is at one of them, at the arrival, or where the task is so late that it costs no more; its price there is taken as 0, which is safe. The
// final subtraction, slack, far exceeds the accumulated rounding of doubles.
//
// # The upper bound
//
// List scheduling: each server does the tasks of its list in order, as soon as task and server are available. The lists start from the solution of
// the dual; then simulated annealing moves single tasks. The plan is run through the simulator, whose cost counts.
package clairvoyant
