package policy

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// lined is a task of a class with so many bytes and seconds of deadline.
func lined(class string, size int, deadline time.Duration) *task.Task {
	return &task.Task{Device: "d", Class: &task.Class{Name: class}, Data: make([]byte, size), Deadline: deadline}
}

// A parked task waits for its own class, and for tasks of other classes that a free server takes before it.
func TestOfTheParkedOnlyThoseBeforeATaskCount(t *testing.T) {
	room := Room{patience: 10}
	l := room.Line()
	l.Add(l.Portion(lined("image", 9000, 4*time.Second), 900))
	l.Add(l.Portion(lined("image", 7000, 4*time.Second), 700))
	l.Add(l.Portion(lined("sums", 1000, time.Second), 10))
	l.Add(l.Portion(lined("dense", 100, time.Second), 5000))
	ofModel := lined("frames", 1000, time.Second)
	ofModel.Class.Model = "defects"
	l.Add(l.Portion(ofModel, 10))
	before := func(class string, size int, cycles float64, parked bool) (here, there float64) {
		p := l.Portion(lined(class, size, time.Second), cycles)
		local, cloud := l.Before(&p, decision.Local, parked), l.Before(&p, decision.Cloud, parked)
		return local.Cycles, cloud.Bytes
	}
	for _, one := range []struct {
		what, class string
		size        int
		cycles      float64
		parked      bool
		here, there float64
	}{
		{"short ones pass all that is long", "telemetry", 1000, 10, true, 10, 2100}, // runs of models are in the way on the link alone
		{"long ones pass none", "bulk", 90_000, 90_000, true, 6610, 18_100},
		{"one of a class with parked tasks waits for them", "image", 10, 1, true, 1600, 16_000},
		{"one that is not parked passes the other classes", "telemetry", 90_000, 90_000, false, 0, 0},
		{"and not its own", "image", 10, 1, false, 1600, 16_000},
	} {
		here, there := before(one.class, one.size, one.cycles, one.parked)
		require.InDelta(t, one.here, here, 1e-9, one.what)
		require.InDelta(t, one.there, there, 1e-9, one.what)
	}
}

// A class has the key of its mean task.
func TestAClassIsInLineAsItsMeanTask(t *testing.T) {
	l := Room{patience: 10}.Line()
	one := l.Portion(lined("image", 6000, 3*time.Second), 70)
	for range 4 {
		l.Add(one)
	}
	for _, server := range []decision.Target{decision.Local, decision.Cloud} {
		require.InDelta(t, one.key(server), l.classes[0].key(server), 1e-9)
	}
	require.InDelta(t, 210, one.key(decision.Local), 1e-9)
	require.InDelta(t, (6000+score.KB/2)*3, one.key(decision.Cloud), 1e-9)
}

// Without a deadline patience applies, as in the lanes.
func TestATaskWithoutADeadlineStandsInLineByPatience(t *testing.T) {
	l := Room{patience: 10}.Line()
	l.Add(l.Portion(lined("late", 1000, 20*time.Second), 100))
	for cycles, want := range map[float64]float64{150: 0, 250: 100} {
		p := l.Portion(lined("free", 1000, 0), cycles)
		require.InDelta(t, want, l.Before(&p, decision.Local, true).Cycles, 1e-9)
	}
}

// Removing a portion subtracts it, and removing the last one also removes rounding errors; a clone is independent.
func TestALineIsEmptyOnceAllHaveLeft(t *testing.T) {
	l := Room{patience: 10}.Line()
	a, b := l.Portion(lined("a", 1, time.Second), 0.1), l.Portion(lined("a", 2, time.Second), 0.2)
	l.Add(a)
	own := l.Clone()
	l.Add(b)
	l.Remove(a)
	require.InDelta(t, 0.2, l.Total().Cycles, 1e-9)
	require.InDelta(t, 0.1, own.Total().Cycles, 1e-9)
	l.Remove(b)
	require.Equal(t, Portion{}, l.Total())
}
