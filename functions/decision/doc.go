// Package decision is the record of what was decided for a task, and of what came of it. It decides nothing itself: policies and guards
// do, and the room that asks them.
//
//	decision.go   Target, Arm, Reason, Decision: the answer for one task
//	ring.go       Entry, Outcome and the Ring of the latest decisions, which owns the entries: others edit them by id, under its lock,
//	              and found by event and chunk
//	record.go     one line of the decision log, written and read
//	explain.go    an entry in a sentence
//	words.go      the words of targets, arms and reasons in JSON, metrics and the API
//	draw.go       numbers drawn by a seed and a counter
//
// A policy fills a Decision. The pipeline adds the Entry to the Ring and keeps its id; feedback edits the entry when its outcome comes.
// The room imports the rooms of tasks, states and estimates, and no room that decides.
package decision
