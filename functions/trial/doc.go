// Package trial watches policies beside the one that acts: shadows decide along and are counted, a canary acts for a share of the
// devices and is rolled back where it is worse.
//
//	shadow.go   Shadows: owns the counts of agreement and cost
//	canary.go   Canary: owns the comparison of both arms and the roll-back, and the sequential test by which it ends
//
// The room that decides asks both on each decision; feedback shows the Canary each outcome. By which costs both are weighed is the
// policies' own formula, policy.Judge, so it stays in that room. Everything is safe for concurrent use and does no I/O.
package trial
