package score

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/task"
)

var rewrite = flag.Bool("golden", false, "write testdata/estimates.golden anew")

// Predictions, their corrections and the inputs of learning policies match the recording for two hundred drawn tasks and states.
func TestEstimatesAreAsRecorded(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 11))
	classes := []*task.Class{{Name: "a", Priority: 5}, {Name: "b", Priority: 9}, {Name: "m", Model: "model"}}
	m, err := New(DefaultConfig())
	require.NoError(t, err)
	timed := false
	m.SetRuns(func(*task.Class) (float64, bool) { return 0.007, timed })
	var out bytes.Buffer
	for n := range 200 {
		one := &task.Task{
			Data: make([]byte, int(math.Exp(r.Float64()*13))), Complexity: r.Float64() * 100, Class: classes[r.IntN(3)], Deadline: time.Duration(r.IntN(3)) * time.Second,
		}
		s := &host.State{
			CPU: r.Float64() * 100, OwnCPU: r.Float64() * 50, Memory: r.Float64() * 100, Cores: 1 + r.IntN(8), MHz: 1000 + r.Float64()*2000, Watts: r.Float64() * 20,
			OnBattery: r.IntN(2) == 0, Battery: r.Float64() * 100, QueueTasks: r.IntN(20), QueueCycles: r.Float64() * 1000, ModelTasks: r.IntN(5), ModelSeconds: r.Float64(),
			Link: host.Link{
				Up: r.IntN(5) > 0, Goodput: float64(r.IntN(2)) * math.Exp(r.Float64()*15), AtLeast: r.IntN(4) == 0, RTT: float64(r.IntN(2)) * r.Float64(), RTT95: r.Float64() * 2,
				BacklogTasks: int64(r.IntN(1000)), BacklogBytes: int64(r.IntN(1 << 20)), BacklogShare: r.Float64(), InflightBytes: int64(r.IntN(1 << 16)), Growth: float64(r.IntN(2)) * 1.3,
			},
		}
		timed = n%3 > 0
		m.Assume(&s.Link)
		e := m.Estimate(one, s)
		var f Features
		m.Features(one, &e, s, &f)
		local, cloud := m.Correction(one.Class)
		fmt.Fprintf(&out, "%d: %.5g %.5g %.5g\n\t%.5g\n\t%.5g %.5g %.5g %.5g\n", n, e, s.Link.Goodput, s.Link.RTT, f, local, cloud, m.EdgeRate(s), m.ComplexityOf(one.Size(), e.Cycles))
		took := math.Exp(r.Float64()*6 - 4)
		switch r.IntN(3) {
		case 0:
			m.ObserveLocal(one.Class, one.Size(), one.Complexity, took)
		case 1:
			m.ObserveCloud(one.Class, one.Size(), one.Complexity, took)
		case 2:
			m.ObserveTrip(one.Class, one.Size(), one.Complexity, s, took)
		}
	}
	saved, err := m.Save()
	require.NoError(t, err)
	again, err := New(DefaultConfig())
	require.NoError(t, err)
	require.NoError(t, again.Restore(saved))
	twice, err := again.Save()
	require.NoError(t, err)
	require.JSONEq(t, string(saved), string(twice))
	const path = "testdata/estimates.golden"
	if *rewrite {
		require.NoError(t, os.MkdirAll("testdata", 0o750))
		require.NoError(t, os.WriteFile(path, out.Bytes(), 0o600))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	wanted, have := bytes.Split(want, []byte("\n")), bytes.Split(out.Bytes(), []byte("\n"))
	require.Len(t, have, len(wanted))
	for i := range wanted {
		require.Equal(t, string(wanted[i]), string(have[i]), "line %d; if it is right: go test ./functions/score -golden", i+1)
	}
}
