package policy

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// arrivingAt is a task with a deadline of a usual node that arrives at that time, ns.
func arrivingAt(now int64) *task.Task {
	return &task.Task{Received: now, Deadline: usualDeadlineNS}
}

const usualDeadlineNS = time.Duration(usualDeadline * 1e9)

func TestPaceFollowsTheArrivals(t *testing.T) {
	var p Pace
	now := int64(1e18)
	require.Equal(t, UsualArrivals(), p.now())
	require.Equal(t, UsualArrivals(), p.Note(arrivingAt(now), &host.State{}, 10))
	for range 2000 {
		now += int64(100 * time.Millisecond)
		p.Note(arrivingAt(now), &host.State{}, 10)
	}
	got := p.Note(arrivingAt(now+int64(100*time.Millisecond)), &host.State{}, 10)
	require.Equal(t, got, p.now())
	require.InDelta(t, 10, got.Lately, 0.2)
	require.InDelta(t, 10, got.Long, 0.1)
	require.InDelta(t, 1, got.Usual, 1e-6)
	later := p.Note(arrivingAt(now+int64(time.Minute)), &host.State{}, 10)
	require.Less(t, later.Lately, 0.3, "a minute of silence is long for the short average")
	require.Greater(t, later.Long, later.Lately)
}

// For any order of times, rates are finite, positive, and never above those of as many simultaneous tasks.
func TestPaceOfAnyTimes(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var p Pace
		times := rapid.SliceOfN(rapid.Int64Range(1, 1e15), 1, 50).Draw(r, "times")
		for _, at := range times {
			a := p.Note(arrivingAt(at), &host.State{}, 10)
			require.Positive(r, a.Lately)
			require.Positive(r, a.Long)
			require.LessOrEqual(r, a.Lately, usualArrivals+float64(len(times))/latelySeconds)
			require.LessOrEqual(r, a.Long, usualArrivals+float64(len(times))/longSeconds)
		}
	})
}

// No input of a network depends on the scale of time: longer times with proportionally longer deadlines give the same inputs.
func TestInputsHaveNoScaleOfTime(t *testing.T) {
	inputs := func(scale float64) (x [NumInputs]float64) {
		var p Pace
		r := rand.New(rand.NewPCG(3, 3))
		now := 1e18
		for range 200 {
			now += scale * 1e9 * r.ExpFloat64() / 2
			tk := task.Task{Received: int64(now), Deadline: time.Duration(scale * 1e9 * (0.5 + r.Float64())), Data: make([]byte, 40_000)}
			s := host.State{Time: int64(now), CPU: 40, QueueTasks: 1, QueueCycles: 500, Link: host.Link{Up: true, Goodput: 1e5 / scale, RTT: 0.1 * scale, BacklogBytes: 3000}}
			e := score.Estimate{LocalTime: 1.2 * scale, CloudTime: 0.8 * scale, LocalEnergy: 2, CloudEnergy: 0.3, Cycles: 900, Bytes: 41_000}
			a := p.Note(&tk, &s, 10)
			Inputs(&tk, &e, &s, a, &x)
		}
		return x
	}
	usual := inputs(1)
	for _, scale := range []float64{0.1, 0.2, 5, 10} {
		for i, v := range inputs(scale) {
			// The first tasks arrive before the scale is known.
			require.InDelta(t, usual[i], v, 0.05, "%s at scale %g", InputNames[i], scale)
		}
	}
}
