// Package infer processes the tasks of classes with a model: first the operators of the class, in the order of the device, then the model, on a
// separate pool, by deadline. A Room has the methods of local.Processor, so callers need not know which of the two works on a task. A task of a class
// without a model costs one lookup of its class.
//
// A model's answer is published as an event (local.Answered). If the class's rule judges the answer hard, the task may leave the node and the link is
// up, the answer is published as provisional and the task ends with a HardError: the caller sends the task to the cloud, whose answer supersedes the
// provisional one.
//
// Guarantees, in addition to those of local:
//
//   - The pool's queue is bounded. While it is full, tasks that may leave end immediately with local.ErrBusy, and the other tasks wait for a place.
//   - Shut refuses the queued work and lets each run finish. Refused tasks that may leave end with local.ErrShut, the others with local.ErrClosed.
//   - A model that is missing, fails or panics affects only its own tasks, and Stats names it.
//   - With one worker, the answers of a device keep its order. With several workers, answers may finish out of order.
//
// Which file holds which state:
//
//	room.go                   the Room: the table of works, replaced as a whole when classes change, and the goroutine that scans for new versions
//	work.go                   a class with its model: rule, counts, latency; and the measurements of a model, shared by its classes
//	trial.go                  the comparison of a canary with the version in force, by model; the only caller of the store's Settle
//	budgets.go                the spending of hard examples, kept across restarts
//	delivery.go               models that arrive over MQTT: one goroutine owns the receiver, Take only queues
//	stats.go                  the statistics shown to callers
package infer
