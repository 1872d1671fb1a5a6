package score

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// The work of operators has a part per task and a part per size; the mean error of a prediction made before each measurement, by the smoothed ratio
// and by the regression, on the same noisy measurements.
func TestRegressionPredictsBetterThanARatio(t *testing.T) {
	const n, smoothing, limit = 4000, 0.05, 100
	for _, c := range []struct {
		name        string
		base, slope float64 // Mcycles, and per Mcycle predicted
		sizes       float64 // largest over smallest
		better      float64 // at least so many times
	}{
		{"small and large, much for each task", 0.3, 0.2, 100, 1.5},
		{"small and large, little for each task", 0.03, 2, 100, 1},
		{"all alike", 0.3, 0.2, 1, 0.9}, // nothing to gain, and nothing to lose
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(5, 6))
			var old ratio
			var now regression
			var oldError, nowError, sum float64
			for range n {
				cycles := 0.05 * math.Pow(c.sizes, rng.Float64())
				took := (c.base + c.slope*cycles) * math.Exp(0.2*rng.NormFloat64())
				oldError += math.Abs(old.factor()*cycles - took)
				nowError += math.Abs(now.factor(cycles, limit, 1)*cycles - took)
				sum += took
				old.observe(took/cycles, smoothing, limit)
				now.observe(cycles, took, smoothing, limit)
			}
			t.Logf("mean error: ratio %.3f, regression %.3f of the time", oldError/sum, nowError/sum)
			require.Less(t, nowError*c.better, oldError)
		})
	}
}

func TestRegressionFollowsADrift(t *testing.T) {
	var r regression
	law := func(base, slope float64) {
		for i := range 400 {
			cycles := 0.05 * float64(1+i%20)
			r.observe(cycles, base+slope*cycles, 0.05, 100)
		}
		for _, cycles := range []float64{0.05, 0.5, 1} {
			require.InEpsilon(t, base+slope*cycles, r.factor(cycles, 100, 1)*cycles, 0.05)
		}
	}
	law(0.3, 0.5)
	law(0.1, 3)
}

func TestRegressionStaysSane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r regression
		limit := rapid.Float64Range(1, 1e4).Draw(t, "limit")
		for range rapid.IntRange(1, 50).Draw(t, "n") {
			r.observe(rapid.Float64Range(1e-9, 1e9).Draw(t, "cycles"), rapid.Float64Range(0, 1e12).Draw(t, "measured"), rapid.Float64Range(0.001, 1).Draw(t, "smoothing"), limit)
		}
		cycles := rapid.Float64Range(1e-9, 1e9).Draw(t, "asked")
		f := r.factor(cycles, limit, 1)
		if !(f >= 1/limit && f <= limit*(1+floorCycles/cycles)) {
			t.Fatalf("factor %v with limit %v", f, limit)
		}
	})
}

func TestWhatWasLearnedIsSavedAndRestored(t *testing.T) {
	m, other := model(t), model(t)
	class, s := &task.Class{Name: "a"}, up()
	for i := range 100 {
		m.ObserveLocal(class, KB*(1+i%9), 50, 0.004)
		m.ObserveCloud(class, KB, 50, 0.5)
	}
	raw, err := m.Save()
	require.NoError(t, err)
	require.NoError(t, other.Restore(raw))
	require.NoError(t, other.Restore(raw), "twice is fine")
	tk := work(10*KB, 50)
	tk.Class = class
	require.Equal(t, m.Estimate(tk, s), other.Estimate(tk, s))

	for _, bad := range []string{
		`{`, `{"local":{"value":-1,"count":3}}`, `{"local":{"value":-1,"count":3},"classes":{"a":{"cloud":{"value":1,"count":1}}}}`, `{"cloud":{"value":1e9,"count":3}}`,
		`{"classes":{"a":{"local":{"base":-1,"slope":1,"a":[1,0,1],"b":[0,1],"mean":1,"count":1}}}}`,
		fmt.Sprintf(`{"classes":{"a":{"local":{"slope":%v,"count":1}}}}`, 1e300),
	} {
		require.Error(t, other.Restore([]byte(bad)), bad)
	}
	require.Equal(t, m.Estimate(tk, s), other.Estimate(tk, s), "a rejected state changes nothing")
}

// A saved line that no observations can have made is rejected, whichever of its numbers is wrong.
func TestALineThatNoMeasurementsMakeIsRefused(t *testing.T) {
	const good = `{"base":1,"slope":2,"a":[4,1,3],"b":[1,2],"mean":5,"count":6}`
	restore := func(line string) error {
		return model(t).Restore(fmt.Appendf(nil, `{"classes":{"a":{"local":%s,"cloud":{"value":1,"count":1}}}}`, line))
	}
	for _, least := range [][2]string{
		{"", ""},
		{`"base":1`, `"base":0`},
		{`"slope":2`, `"slope":0`},
		{`"mean":5`, `"mean":0`},
		{`"count":6`, `"count":1`},
		{`[4,1,3]`, `[0,0,3]`},
		{`[4,1,3]`, `[4,0,0]`},
		{`[4,1,3]`, `[4,2,1]`},
		{`"base":1`, `"base":1e12`},
	} {
		require.NoError(t, restore(strings.Replace(good, least[0], least[1], 1)), least)
	}
	require.False(t, (&line{Base: math.NaN(), Slope: 1, A: [3]float64{1, 0, 1}, Count: 1}).valid())
	for _, edit := range [][2]string{
		{`"base":1`, `"base":-1`},
		{`"slope":2`, `"slope":-2`},
		{`[4,`, `[-4,`},
		{`,3]`, `,-3]`},
		{`[4,1,3]`, `[-4,1,-3]`},
		{`,1,3]`, `,4,3]`},
		{`,1,3]`, `,-4,3]`},
		{`"mean":5`, `"mean":-5`},
		{`"count":6`, `"count":0`},
		{`"base":1`, `"base":2e12`},
		{`"slope":2`, `"slope":2e12`},
		{`[4,`, `[4e12,`},
		{`,3]`, `,3e12]`},
		{`"b":[1,`, `"b":[-2e12,`},
		{`,2]`, `,2e12]`},
		{`"mean":5`, `"mean":5e12`},
	} {
		bad := strings.Replace(good, edit[0], edit[1], 1)
		require.NotEqual(t, good, bad)
		require.Error(t, restore(bad), bad)
	}
}

func TestOutagesDoNotMakeTheCloudSlow(t *testing.T) {
	m, class, s := model(t), &task.Class{Name: "a"}, up()
	s.Link.Goodput, s.Link.RTT = 1e6, 0.05
	tk := work(10*KB, 50)
	tk.Class = class
	before := m.Estimate(tk, s).CloudTime
	for i := range 1000 {
		took := before
		if i%50 == 49 {
			took = 3600 // it waited out a broken link
		}
		m.ObserveTrip(class, tk.Size(), tk.Complexity, s, took)
	}
	require.Less(t, m.Estimate(tk, s).CloudTime, 2*before)

	s.Link.BacklogBytes = 1e6 // a second of others before it
	m.ObserveTrip(class, tk.Size(), tk.Complexity, s, 1+before)
	_, cloud := m.Correction(class)
	for range 500 {
		m.ObserveTrip(class, tk.Size(), tk.Complexity, s, 1+before)
	}
	_, after := m.Correction(class)
	require.InDelta(t, cloud, after, 1e-12, "of time spent mostly in the queue nothing is learned")
}

func TestMeasuredPowerIsTheEnergy(t *testing.T) {
	m, tk, s := model(t), work(200*KB, 50), up()
	s.CPU, s.OwnCPU = 0, 0
	configured := m.Estimate(tk, s)
	s.Watts, s.Cores, s.CPU, s.OwnCPU = 20, 4, 50, 50
	measured := m.Estimate(tk, s)
	require.InEpsilon(t, 10*measured.LocalTime, measured.LocalEnergy, 1e-9, "two cores draw 20 W")
	s.Watts = math.NaN()
	require.InDelta(t, configured.LocalEnergy, m.Estimate(tk, s).LocalEnergy, 1e-12)
}

// Each of the first measurements is published, and then every eighth; the published line predicts.
func TestEachMeasurementIsPublishedWhileItMatters(t *testing.T) {
	var r regression
	for n := 1; n <= 2*eachMatters; n++ {
		r.observe(1, float64(n), 0.5, 1e6)
		want := uint64(n)
		if n >= eachMatters {
			want = uint64(n / publishEach * publishEach)
		}
		require.EqualValues(t, want, r.latest.Load().Count, "after %d", n)
	}
}

// The line is that of weighted least squares over relative errors: measurements weigh less the older they are, and the configuration counts as the
// oldest. The mean of the work is that of the latest ones.
func TestRegressionByHand(t *testing.T) {
	const keep, limit = 0.75, 100.0
	cycles, took := []float64{1, 3, 2, 6, 4, 0.5}, []float64{2, 5, 5, 9, 8, 1}
	means := []float64{1, 2, 2, 3, 3.25, 2.5625} // of the first four, and then a quarter of each
	var r regression
	for n := range cycles {
		r.observe(cycles[n], took[n], 1-keep, limit)
		xx, xy, yy, xm, ym := 1.0, 0.0, 1.0, 0.0, 1.0
		for i := range n + 1 {
			x, y := floorCycles/(cycles[i]+floorCycles), cycles[i]/(cycles[i]+floorCycles)
			m := took[i] / (cycles[i] + floorCycles)
			xx, xy, yy, xm, ym = xx*keep+x*x, xy*keep+x*y, yy*keep+y*y, xm*keep+x*m, ym*keep+y*m
		}
		l := r.latest.Load()
		require.InDeltaSlice(t, []float64{xx, xy, yy, xm, ym}, []float64{l.A[0], l.A[1], l.A[2], l.B[0], l.B[1]}, 1e-12)
		require.InDelta(t, means[n], l.Mean, 1e-12)
		require.InDelta(t, means[n], r.mean(), 1e-12)
		require.EqualValues(t, n+1, l.Count)
		// The normal equations, with the ridge on both.
		require.InDelta(t, xm, (xx+lineRidge)*l.Base+xy*l.Slope, 1e-9)
		require.InDelta(t, ym+lineRidge, xy*l.Base+(yy+lineRidge)*l.Slope, 1e-9)
	}
}

// Neither part falls below 0: the other one is then the best without it.
func TestALineHasNoNegativePart(t *testing.T) {
	rising := line{A: [3]float64{1, 1, 2}, B: [2]float64{0.5, 3}} // base -2/1, were it not held
	rising.solve()
	require.Zero(t, rising.Base)
	require.InDelta(t, (3+lineRidge)/(2+lineRidge), rising.Slope, 1e-12)
	falling := line{A: [3]float64{2, 1, 1}, B: [2]float64{3, 0.5}}
	falling.solve()
	require.Zero(t, falling.Slope)
	require.InDelta(t, 3/(2+lineRidge), falling.Base, 1e-12)
}

// A factor stays within the limit, or slightly above it for tasks dominated by the fixed part.
func TestTheFactorOfALine(t *testing.T) {
	var r regression
	require.Equal(t, 7.0, r.factor(1, 10, 7), "nothing was measured")
	require.Equal(t, 1.0, r.mean())
	for name, row := range map[string]struct {
		line   line
		cycles float64
		want   float64
	}{
		"no work":         {line{Slope: 2}, 0, 7},
		"no number":       {line{Slope: 2}, math.NaN(), 7},
		"slope alone":     {line{Slope: 2}, 5, 2},
		"base and slope":  {line{Base: 4, Slope: 2}, 2 * floorCycles, 4},
		"too small":       {line{Slope: 0.01}, 5, 0.1},
		"too large":       {line{Slope: 1000}, 1e9, 10 * (1 + floorCycles/1e9)},
		"large, and tiny": {line{Slope: 1000}, floorCycles, 20},
	} {
		r.restore(row.line)
		require.InDelta(t, row.want, r.factor(row.cycles, 10, 7), 1e-12, name)
		require.Equal(t, 1.0, r.mean(), "%s: of no task", name)
	}
	var held regression
	held.observe(2, 1e9, 0.05, 10)
	var most regression
	most.observe(2, (2+floorCycles)*10, 0.05, 10)
	require.Equal(t, most.latest.Load(), held.latest.Load(), "a measurement is held within the limit")
	var none, least regression
	none.observe(2, 0, 0.05, 10)
	least.observe(2, 0.2, 0.05, 10)
	require.Equal(t, least.latest.Load(), none.latest.Load())
}
