package twin

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine/onnx"
	"app-offload/functions/host"
	"app-offload/functions/models"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// Ballast takes time and changes no answer. Both written variants are usable.
func TestBallastChangesNoAnswer(t *testing.T) {
	m, file, err := cloudVariant("../../../../res/models", loadModel)
	require.NoError(t, err)
	heavy, err := ballast(file, m.Inputs[0].Shape, 2)
	require.NoError(t, err)
	var outputs [2][]float32
	var macs [2]int64
	for i, f := range [][]byte{file, heavy} {
		p, err := onnx.Load(f, onnx.Limits{})
		require.NoError(t, err)
		s, err := p.NewSession()
		require.NoError(t, err)
		rng := rand.New(rand.NewPCG(1, 2))
		for k := range s.Inputs()[0].F32 {
			s.Inputs()[0].F32[k] = float32(rng.NormFloat64())
		}
		require.NoError(t, s.Run())
		outputs[i], macs[i] = append(outputs[i], s.Outputs()[0].F32...), p.Info().MACs
	}
	require.Equal(t, outputs[0], outputs[1])
	pixels := int64(m.Inputs[0].Shape[2] * m.Inputs[0].Shape[3])
	require.Equal(t, macs[0]+pixels*9*(16+16*16), macs[1])

	edge, cloud := t.TempDir(), t.TempDir()
	require.NoError(t, slowGateway("../../../../res/models", loadModel, time.Millisecond, edge, cloud))
	for variant, dir := range map[string]string{models.Edge: edge, models.Cloud: cloud} {
		cfg := models.DefaultConfig()
		cfg.Dir, cfg.Variant, cfg.MemoryMiB = dir, variant, 2048
		s, err := models.Open(t.Context(), cfg, nil)
		require.NoError(t, err)
		lease, err := s.Acquire(t.Context(), loadModel)
		require.NoError(t, err)
		lease.Close()
		require.NoError(t, s.Close(t.Context()))
	}
	require.ErrorContains(t, slowGateway(t.TempDir(), loadModel, time.Millisecond, edge, cloud), "no cloud variant of model parts")
	_, err = ballast(file, []int{1, 512}, 1)
	require.ErrorContains(t, err, "grey picture")
	_, err = ballast([]byte{0x3a, 0x7f}, m.Inputs[0].Shape, 1)
	require.Error(t, err, "cut off")
}

// A gateway that equals the simulator's model is simulated correctly, with the cost of the shipped weights.
func TestALoadedSystemLikeTheSimulatorIsSimulatedRight(t *testing.T) {
	c := DefaultLoadConfig()
	s := &Setting{Rate: c.Rate, RTT: c.RTT, PerKB: 10 * time.Millisecond, Gap: 200 * time.Millisecond}
	all := fifo(s, false)
	g, err := (&Config{Rate: c.Rate}).measure(pick(all, func(t *lived) bool { return t.probe }))
	require.NoError(t, err)
	p := &playedLoad{all: all, answered: 50, right: 40, not: 10}
	one, err := c.stand(&g, "edge", 1.5, 50, p)
	require.NoError(t, err)
	require.Equal(t, 60, one.Tasks)
	require.InDelta(t, 0.8, one.Accuracy, 1e-9)
	require.Equal(t, 10, one.Unanswered)
	require.InEpsilon(t, one.Cost, one.SimulatedCost, 0.05)
	require.InDelta(t, p.late(c.Deadline), one.Late, 1e-9)
	require.InDelta(t, (0.5+3+1)/2, c.cost([]outcome{{took: 0.5}, {took: 9, late: true}}), 1e-9, "half a deadline, and a miss that costs no more than three")
}

// The sizes of pictures differ; otherwise single tasks could not show the time per byte.
func TestPicturesDifferInSize(t *testing.T) {
	list := pictures(1)
	sizes, labels := map[int]bool{}, map[string]bool{}
	for _, p := range list {
		sizes[len(p.jpeg)], labels[p.label] = true, true
	}
	require.Greater(t, len(sizes), 50)
	require.Len(t, labels, 3)
}

func TestLoadsRefuseWhatTheyCannotPlay(t *testing.T) {
	c := LoadConfig{Loads: []float64{0}, Duration: 1, Probes: 1}
	err := c.Validate()
	for _, part := range []string{"-loads 0", "-duration 1ns", "-work 0s", "-deadline 0s", "-probes 1", "at least one policy"} {
		require.ErrorContains(t, err, part)
	}
	ok := DefaultLoadConfig()
	require.NoError(t, ok.Validate())
}

// A gateway's capacity is counted between answers, and only if all are its own.
func TestTheRateIsThatBetweenAnswers(t *testing.T) {
	at := time.Now()
	r := &runner{tasks: map[string]*answered{}}
	for i, id := range []string{"a", "b", "c"} {
		r.tasks[id] = &answered{done: at.Add(time.Duration(2-i) * 100 * time.Millisecond)}
	}
	rate, err := r.rate([]string{"a", "b", "c"})
	require.NoError(t, err)
	require.InDelta(t, 10, rate, 1e-9)
	r.tasks["d"] = &answered{done: at, cloud: true}
	_, err = r.rate([]string{"a", "d"})
	require.ErrorContains(t, err, "itself")
	r.tasks["d"] = &answered{}
	_, err = r.rate([]string{"a", "d"})
	require.Error(t, err)
}

// A run of a model takes as much energy in the simulator as in the service's estimate; otherwise policies would find other targets cheaper.
func TestARunOfAModelTakesTheEnergyThatTheServiceReckons(t *testing.T) {
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	m.SetRuns(func(*task.Class) (float64, bool) { return 0.02, true })
	want := m.Estimate(&task.Task{Data: make([]byte, 4000), Class: &task.Class{Name: "a", Model: loadModel}}, &host.State{Cores: 1})
	g := gateway{here: Line{Fixed: 0.025}, wire: Line{PerByte: 1}, serve: 0.02}
	e, w, err := g.episode(&Setting{Rate: 1e6, RTT: time.Millisecond, Deadline: time.Second}, []lived{{at: 1, bytes: 4000}}, [2]float64{})
	require.NoError(t, err)
	require.InEpsilon(t, want.LocalEnergy, e.Joules(0, false), 1e-9)
	own, err := score.New(w.Config.Score())
	require.NoError(t, err)
	require.InEpsilon(t, want.LocalEnergy, own.EstimateWork(nil, 4000, e.Jobs[0].Mcycles, &host.State{Cores: 1}).LocalEnergy, 1e-9, "as the gateway in it reckons")
	_, took := e.Local(0, e.Idle().Edge)
	require.InEpsilon(t, 0.025, took, 1e-9, "what the node does not compute in is part of the time")
}

// A gateway and a link that share a dense series do so in the simulator too, although a single task is better off on the gateway in every term.
func TestParkedTasksTakeTheLinkThatIsFree(t *testing.T) {
	const n, work, cloud = 600, 0.02, 0.2
	g := gateway{here: Line{Fixed: work}, first: Line{Fixed: cloud / 2}, after: Line{Fixed: cloud / 2}, wire: Line{PerByte: 1}, devices: 30}
	all := make([]lived, n)
	rng := rand.New(rand.NewPCG(1, 2))
	for i, at := 0, 0.0; i < n; i++ {
		at += work / 2 * rng.ExpFloat64()
		all[i] = lived{place: i, at: at, bytes: 5000, took: 1}
	}
	for _, perKB := range []time.Duration{0, time.Second} { // by energy the cloud is better, or is not
		r, err := g.run(&Setting{Rate: 1e6, RTT: 40 * time.Millisecond, Deadline: time.Second, PerKB: perKB}, "defer", 1, all)
		require.NoError(t, err)
		require.Len(t, r.simulated, n)
		t.Logf("mean %.3f s, p99 %.3f s, %.0f %% in the cloud", mean(r.simulated), quantile(r.simulated, 0.99), 100*share(r.simulated, func(o *outcome) bool { return o.cloud }))
		require.Less(t, mean(r.simulated), cloud+0.05, "always cloud takes so long")
	}
}

// Models that cannot be read, loaded or written are errors, not a gateway without them.
func TestASlowGatewayNeedsItsModel(t *testing.T) {
	const from = "../../../../res/models"
	m, file, err := cloudVariant(from, loadModel)
	require.NoError(t, err)
	with := func(manifest, network []byte) string {
		dir := filepath.Join(t.TempDir(), "m")
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, models.ManifestFile), manifest, 0o600))
		if network != nil {
			require.NoError(t, os.WriteFile(filepath.Join(dir, m.File), network, 0o600))
		}
		return filepath.Dir(dir)
	}
	good, err := json.Marshal(m)
	require.NoError(t, err)
	occupied := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(occupied, nil, 0o600))
	for want, c := range map[string]struct{ from, edge, cloud string }{
		models.ManifestFile:      {with([]byte("{"), nil), t.TempDir(), t.TempDir()},
		"no such file":           {with(good, nil), t.TempDir(), t.TempDir()},
		"writing a model: mkdir": {from, t.TempDir(), occupied},
		"writing a model":        {from, occupied, t.TempDir()},
		"":                       {with(good, []byte{0x3a, 0x7f}), t.TempDir(), t.TempDir()},
	} {
		require.ErrorContains(t, slowGateway(c.from, loadModel, time.Millisecond, c.edge, c.cloud), want)
	}
	_, _, err = cloudVariant("[", loadModel)
	require.ErrorContains(t, err, "syntax error in pattern")
	_, err = timed([]byte("no network"))
	require.Error(t, err)
	_, err = timed(file)
	require.NoError(t, err)
	require.ErrorIs(t, eachField(file, func(protowire.Number, []byte, []byte) error { return os.ErrClosed }), os.ErrClosed)
	require.Error(t, eachField([]byte{0x08}, func(protowire.Number, []byte, []byte) error { return nil }), "a field without its value")
	require.Error(t, eachField([]byte{0xff}, func(protowire.Number, []byte, []byte) error { return nil }), "half a tag")
}

// The pace of a busy node is that of tasks that found it busy: neither idle time between them nor single tasks count.
func TestThePaceOfABusyNode(t *testing.T) {
	all := []lived{{probe: true, at: 1, took: 9}, {cloud: true, at: 2, took: 7}}
	for i := range 30 {
		at := float64(i)
		all = append(all, lived{at: 100 + at/2, waited: at / 4, took: 0.01 + at/2 + 1}) // done at 101.01, 102.01 and so on
	}
	all = append(all, lived{at: 500, took: 3})
	busy, free := pace(all)
	require.InDelta(t, 1, busy, 1e-9)
	require.Zero(t, free)
	busy, _ = pace(all[:15])
	require.Zero(t, busy, "too few to say")
	for i := range 30 {
		all = append(all, lived{at: 600 + float64(2*i), waited: 0.5, took: 1.75})
	}
	busy, free = pace(all)
	require.InDelta(t, 1, busy, 1e-9)
	require.InDelta(t, 1.25, free, 0.1, "31 tasks, one of which took 3 s")
}
