package local

import (
	"runtime"
	"time"
)

var burnOperator = Operator{
	Name: "burn", forgets: true,
	Doc: "Consumes a given CPU time for each value, as a model of that size would, and publishes the CPU time of the reading " +
		"in seconds as <resource>_burn. It calibrates predictions and evaluates policies before a real model exists; " +
		"`offload-lab live` uses it. On systems without a CPU clock of a thread, it uses elapsed time.",
	NotFor:  "anything but measurements: its result does not depend on the values.",
	Example: "burn each=100us",
	Params: []Param{
		{"each", "100us", "CPU time spent on each value, 0s to 1s"},
		{"clock", "cpu", "cpu measures CPU time, so a run takes longer on a busy machine; elapsed computes for the given time, for comparisons on a busy machine"},
		{"most", "5s", "the longest CPU time spent on one reading, 1ms to 1h"},
	},
	last:  true,
	build: buildBurn,
}

func buildBurn(p *params) func() stage {
	b := burn{clock: clocks[p.oneOf("clock", "cpu", "elapsed")], each: p.duration("each", 0, time.Second), most: p.duration("most", time.Millisecond, time.Hour)}
	return func() stage { return &b }
}

// burn has no state: all resources of a class share it.
type burn struct {
	timeless
	clock      func() time.Duration
	each, most int64 // ns
}

var clocks = map[string]func() time.Duration{"cpu": threadTime, "elapsed": func() time.Duration { return time.Since(started) }}

var started = time.Now()

func (b *burn) feed(in *sample, out *outlet) {
	took := time.Duration(min(b.each*int64(len(in.values)), b.most))
	spin(b.clock, took)
	d := out.draft(in.at)
	d.float("", took.Seconds(), "s")
	d.send()
}

// spin computes until d has passed on the clock, and returns the time that has passed.
func spin(clock func() time.Duration, d time.Duration) time.Duration {
	runtime.LockOSThread() // a preemption could otherwise change the thread, and with it the clock
	defer runtime.UnlockOSThread()
	for began, x := clock(), uint64(1); ; {
		for range 2000 { // some µs
			x *= 6364136223846793005
		}
		if used := clock() - began; used >= d || x == 0 { // x stays odd; the comparison keeps the compiler from removing the loop
			return used
		}
	}
}
