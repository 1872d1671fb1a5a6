// Package decision records the decisions on tasks and their outcomes. It does not decide: policies, guards and package decide do.
//
//	decision.go   Target, Arm, Reason, Decision: the result for one task
//	ring.go       Entry, Outcome and the Ring of the latest decisions, which owns the entries: callers edit them by id, under its lock,
//	              and find them by event and chunk
//	record.go     one line of the decision log, written and read
//	explain.go    an entry in a sentence
//	words.go      the words of targets, arms and reasons in JSON, metrics and the API
//	draw.go       numbers drawn by a seed and a counter
//
// A policy fills a Decision. The pipeline adds the Entry to the Ring and keeps its id; feedback edits the entry when its outcome arrives. The package
// imports the packages of tasks, states and estimates, and none that decides.
package decision
