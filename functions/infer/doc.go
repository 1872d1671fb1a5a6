// Package infer processes the tasks of classes that name a model: the operators of the class first, in the order of the device, then the
// model, on a pool of its own, by deadline. It has the methods of local.Processor, so that a caller need not know which of the two works on a task;
// a task of a class without a model costs one look at its class.
//
// A model's answer is published as an event (local.Answered). Where the class's rule finds it hard, the task may leave and the link is up, the
// answer goes out as provisional and the task ends with a HardError: the caller sends it to the cloud, whose answer supersedes it.
//
// What it promises beside what local promises:
//
//   - The pool's queue is bounded. While it is full, tasks that may leave end with local.ErrBusy at once; others wait for a place.
//   - Shut refuses the waiting work and lets each run end: those that may leave end with local.ErrShut, others with local.ErrClosed.
//   - A model that is missing, fails or panics harms its own tasks only, and Stats names it.
//   - An answer is in order with others of its device where one worker computes; several may finish out of order.
//
// Which file holds which state:
//
//	room.go                   the Room: the table of works, replaced as a whole when classes change, and the goroutine that looks for new versions
//	work.go                   what one class does with its model: its rule, its counts, its latency; and what is known of a model, for all its classes
//	trial.go                  the comparison of a canary with the version in force, by model; it calls Settle of the store, and nothing else does
//	budgets.go                what hard examples have taken of each budget, kept over restarts
//	delivery.go               models that arrive over MQTT: one goroutine owns the receiver, Take only queues
//	stats.go                  what callers see
package infer
