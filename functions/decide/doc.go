// Package decide selects the target of a task: guards first, then the policy of its class, with shadows and a canary beside it.
//
//	rules.go     Rules: classes, predictions and Decider of one configuration, replaced as a whole; Decide decides every task
//	decider.go   Decider: the policies of one configuration, and the choice of a task's policy
//
// The pipeline, the API's advice and offloadctl's dry-run use the same Rules, so they agree. Rules are immutable except for the learned state of
// policies, predictions and trials, which later Rules inherit. They are safe for concurrent use, do no I/O, and allocate nothing but a copy of the
// state for a task of a model.
package decide
