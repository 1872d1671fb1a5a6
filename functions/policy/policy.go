// Package policy decides where a task is processed. One file a policy, one explicit list of them.
//
// A policy is a pure function of task, estimate and node state, apart from what a learned one remembers. Guards stand above
// every policy, a Judge weighs outcomes and predictions by the costs of the configuration. Which policy is in charge of a task is decided
// one room up. Everything on the path of a decision is safe for concurrent use, does no I/O and allocates nothing.
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
