// Package trial compares policies with the acting one: shadows decide alongside and are counted; a canary acts for a share of the devices and is
// rolled back if it is worse.
//
//	shadow.go   Shadows: owns the counts of agreement and cost
//	canary.go   Canary: owns the comparison of both arms and the roll-back, and the sequential test that ends it
//
// Package decide calls both on each decision; feedback passes each outcome to the Canary. Both are judged by policy.Judge, the formula of the
// policies. Everything is safe for concurrent use and does no I/O.
package trial
