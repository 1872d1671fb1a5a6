// Package policy decides where a task is processed. One file a policy, one explicit list of them.
//
// A policy is a pure function of task, estimate and node state, apart from what a learned one remembers. Guards stand above
// every policy, a Judge weighs outcomes and predictions by the costs of the configuration. Which policy is in charge of a task is decided
// one room up. Everything on the path of a decision is safe for concurrent use, does no I/O and allocates nothing.
//
// Which file holds which state:
//
//	list.go, config.go        the policies there are, and their settings; no state
//	bounds.go, weighted.go, deadline.go, cost.go, bandit.go, ppo.go, defer.go
//	                          one file a policy. All are immutable but for: random's draws (atomic), bandit's memory, and the tempo.
//	                          Observe changes the newest regression of bandit under a lock, and publishes copies that Decide reads without
//	tempo.go, pace.go         how fast tasks arrive, each behind a lock of its own; arrivals are noted by Decide and Arrived
//	network.go, inputs.go     the network of ppo and its inputs; immutable once read
//	rule.go, outlook.go, lane.go
//	                          what defer plans over parked tasks. A Waiting belongs to the caller that holds the parked tasks (package wait)
//	guard.go, judge.go, dominance.go, scarce.go
//	                          rules that stand above policies or that they share; immutable
//	formula.go                what a policy decides by, for code outside of the service
//
// A change of the configuration builds all policies anew; Inherit then hands memory and tempo on to the new ones.
package policy

import (
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Policy decides for one task in one node state. Decide is safe for concurrent use, does no I/O, does not block and
// does not allocate in steady state, provided that the caller keeps task, estimate and state in memory of his own: whatever
// goes through an interface by pointer escapes his stack.
type Policy interface {
	// Name is the word by which the configuration selects the policy.
	Name() string
	Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision
	// String shows the formula with its present parameters, for logs, the API and the page.
	String() string
}
