// Package ledger keeps the account that proves nothing was lost, and remembers what was dropped until a person has acknowledged it.
//
//	ledger.go   Ledger: owns the counts of tasks in flight, done locally, spooled and dropped; each method is one movement
//	file.go     the part of the account that the spool does not keep, in ledger.json beside it
//	drops.go    Drops: owns when tasks were dropped and which drops are acknowledged, in drops.json beside it
//
// The pipeline books each task once, at its end. The spool's own counts come in as values. Both types are safe for concurrent use.
package ledger
