// Package policy decides where a task is processed.
//
// A policy is a pure function of task, estimate and node state, apart from the memory of a learning policy. Guards take precedence over every policy.
// A Judge prices outcomes and predictions by the costs of the configuration. Package decide selects the policy of a task. Everything on the path of a
// decision is safe for concurrent use, does no I/O and allocates nothing.
//
// The state by file:
//
//	list.go, config.go        the list of policies and their settings; no state
//	bounds.go, weighted.go, deadline.go, cost.go, bandit.go, ppo.go, defer.go
//	                          one file per policy. All are immutable except for random's draws (atomic), bandit's memory, and the tempo.
//	                          Observe changes bandit's newest regression under a lock, and publishes copies that Decide reads without
//	tempo.go, pace.go         the rate of arrivals, each behind its own lock; Decide and Arrived count arrivals
//	network.go, inputs.go     the network of ppo and its inputs; immutable once read
//	rule.go, outlook.go, lane.go
//	                          the plans of defer over parked tasks. A Waiting belongs to the caller that holds the parked tasks (package wait)
//	guard.go, judge.go, dominance.go, scarce.go
//	                          rules above the policies or shared by them; immutable
//	formula.go                the formula and constants of a policy, for code outside of the service
//
// A change of the configuration builds all policies anew; Inherit then passes memory and tempo on to the new ones.
package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Policy decides for one task in one node state. Decide is safe for concurrent use, does no I/O, does not block, and does not allocate in steady
// state, provided that the caller keeps task, estimate and state in memory of its own: a pointer passed through an interface escapes the caller's
// stack.
type Policy interface {
	// Name is the name that the configuration uses for the policy.
	Name() string
	Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision
	// String shows the formula with its current parameters, for logs, the API and the page.
	String() string
}
