// Package wait implements late binding: a task whose target is busy, and whose policy is a policy.Binder, is parked. It is durable in the spool as a
// held record, which the exporter does not send, and its event is concluded. Once node or link is free the task is bound: its record is released to
// be sent, or the task is processed locally and its record removed. After a crash a parked task is backlog like any other record, and is sent.
//
//	pool.go   Pool: owns the places of parked tasks, and the arrivals not yet seen by the owner, under its lock
//	bind.go   the goroutine that owns the parked tasks: it scans and binds them when node or link may be free; Turn, which parks
//
// The package uses spool, local workers and feedback through interfaces, reads the rules in force, and knows no stage of the pipeline. The pipeline
// uses it in one file, park.go; without that file, this folder, the policy and the lines that name them, every task is decided on arrival.
package wait
