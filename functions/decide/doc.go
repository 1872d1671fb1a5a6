// Package decide answers where one task goes: guards first, then the policy of its class, with shadows and a canary beside it.
//
//	rules.go     Rules: classes, predictions and Decider of one configuration, replaced as a whole; Decide is how every task is decided
//	decider.go   Decider: the policies of one configuration, and who is in charge of a task
//
// The pipeline, the API's advice and the dry-run of offloadctl ask the same Rules, so they agree. Rules are immutable but for what policies,
// predictions and trials learn, which later ones inherit. They are safe for concurrent use, do no I/O, and allocate
// nothing but a copy of the state for a task of a model.
package decide
