// Package ledger keeps the conservation account, which proves that no task is lost, and the drops that no operator has acknowledged yet.
//
//	ledger.go   Ledger: owns the counts of tasks in flight, done locally, spooled and dropped; each method is one movement
//	file.go     the part of the account that the spool does not keep, in ledger.json beside it
//	drops.go    Drops: owns the times of drops and their acknowledgement, in drops.json beside it
//
// The pipeline counts each task once, at its end. The spool's own counters are passed in. Both types are safe for concurrent use.
package ledger
