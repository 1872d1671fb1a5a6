// Package wait is late binding: a task whose target is busy, and whose policy is a policy.Binder, is parked. It is durable in the spool,
// where it is held so that the exporter does not send it, and its event is concluded. Once node or link is free the task is bound: released
// to be sent, or processed locally and then removed from the spool. After a crash a parked task is backlog like any other record, and is sent.
//
//	pool.go   Pool: owns the places of parked tasks, and those that have come and were not seen yet, under its lock
//	bind.go   the goroutine that owns the parked tasks: it scans them when node or link may be free, and binds them; Turn, which parks
//
// The room sees spool, local workers and feedback as interfaces, asks the rules in force, and knows no stage of the pipeline. The pipeline knows
// it in one file, park.go; without that file, this folder, the policy and the lines that name them, everything is decided on arrival.
package wait
