// Package decide answers where one task goes: guards first, then the policy of its class, with shadows and a canary beside it.
//
//	decider.go   Decider: the policies of one configuration, and who is in charge of a task
//
// A Decider is immutable but for what its policies and trials learn, which a later one inherits. It is safe for concurrent use, does no
// I/O and allocates nothing.
package decide
