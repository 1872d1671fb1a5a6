package trace

import (
	"archive/tar"
	"compress/gzip"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func drawCurve(t *rapid.T) *Curve {
	n := rapid.IntRange(1, 30).Draw(t, "steps")
	var starts, rates []float64
	at := 0.0
	for range n {
		starts = append(starts, at)
		at += rapid.Float64Range(0.01, 10).Draw(t, "length")
		rates = append(rates, rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.1, 100)).Draw(t, "rate"))
	}
	rates[0] = max(rates[0], 1)
	c, err := NewCurve(starts, rates, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCurveAndItsInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCurve(t)
		at := rapid.Float64Range(-3*c.Period(), 5*c.Period()).Draw(t, "at")
		step := rapid.Float64Range(0, 3).Draw(t, "step")
		if c.Integral(at+step) < c.Integral(at)-1e-6 {
			t.Fatal("an integral of rates above zero falls")
		}
		v := c.Integral(at)
		// A value larger by the last bit is reached only after a stretch of rate 0, however long.
		if early := c.Inverse(v - 1e-9*(1+math.Abs(v))); early > at+1e-6 {
			t.Fatalf("reaches %v at %v, but has it at %v", v, early, at)
		}
		first := c.Inverse(v)
		if got := c.Integral(first); math.Abs(got-v) > 1e-6*(1+math.Abs(v)) {
			t.Fatalf("integral at the inverse is %v, not %v", got, v)
		}
		again, once := c.Integral(at+c.Period()), c.Integral(at)+c.Integral(c.Period())
		if math.Abs(again-once) > 1e-6*(1+math.Abs(once)) {
			t.Fatalf("one period later %v, not %v", again, once)
		}
	})
}

func TestCurveByHand(t *testing.T) {
	c, err := NewCurve([]float64{0, 2, 3}, []float64{5, 0, 10}, 4)
	require.NoError(t, err)
	for at, want := range map[float64]float64{0: 0, 1: 5, 2: 10, 2.5: 10, 3.5: 15, 4: 20, 5: 25, -1: -10} {
		require.InDelta(t, want, c.Integral(at), 1e-9, "at %v", at)
	}
	require.InDelta(t, 2, c.Inverse(10), 1e-9, "the first time, not the last")
	require.InDelta(t, 3.1, c.Inverse(11), 1e-9)
	require.InDelta(t, 6, c.Inverse(30), 1e-9)
	falls, err := NewCurve([]float64{0, 2}, []float64{5, 0}, 4)
	require.NoError(t, err)
	for v, want := range map[float64]float64{0: -2, 5: 1, 10: 2, 15: 5, 20: 6} {
		require.InDelta(t, want, falls.Inverse(v), 1e-9, "%v: also where a round ends with nothing", v)
	}
	require.InDelta(t, 0, c.At(2.5), 0)
	for at, want := range map[float64]float64{0: 2, 1.5: 2, 2: 3, 2.5: 3, 3: 4, 3.5: 4, 4: 6, -0.5: 0, -1: 0, -1.5: -1, -4: -2, 9: 10} {
		require.InDelta(t, want, c.Next(at), 0, "next to %v", at)
	}
	for _, bad := range []struct{ start, rate []float64 }{
		{nil, nil},
		{[]float64{1}, []float64{1}},
		{[]float64{0, 5}, []float64{1, 1}},
		{[]float64{0, 4}, []float64{1, 1}},
		{[]float64{0, 2, 2}, []float64{1, 1, 1}},
		{[]float64{0, 2}, []float64{1, math.Inf(1)}},
		{[]float64{0, 2}, []float64{1, -1}},
		{[]float64{0, 2}, []float64{1}},
		{[]float64{0, 2}, []float64{0, 0}},
		{[]float64{0, 2}, []float64{1, math.NaN()}},
	} {
		_, err := NewCurve(bad.start, bad.rate, 4)
		require.Error(t, err)
	}
}

// lay writes a typical folder of recordings: some plain, some in an archive, with other files around.
func lay(t *testing.T) string {
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	put("link/LICENCE", "some words that are no recording")
	put("link/tram.log", "0.0\t1.5\n1.2\t0\n2.1\t2.5\n")
	put("link/broken.log", "0 1\nhello world again\n")
	put("rtt/pairs.csv", "a-b,c-d\n0.03,0.2\n0.04,0.3\n")
	put("nab/other.csv", "timestamp,value\nnonsense\n")
	f, err := os.Create(filepath.Join(dir, "nab", "half.tar.gz"))
	require.NoError(t, err)
	z := gzip.NewWriter(f)
	a := tar.NewWriter(z)
	for name, text := range map[string]string{
		"data/x/ec2_cpu_utilization_1.csv": "timestamp,value\n2014-02-14 14:30:00,10\n2014-02-14 14:35:00,20.5\n2014-02-14 14:35:00,30\n",
		"data/x/ec2_network_in.csv":        "timestamp,value\n2014-02-14 14:30:00,10\n",
	} {
		require.NoError(t, a.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o600, Typeflag: tar.TypeReg}))
		_, err := a.Write([]byte(text))
		require.NoError(t, err)
	}
	require.NoError(t, a.Close())
	require.NoError(t, z.Close())
	require.NoError(t, f.Close())
	return dir
}

func TestReadTakesWhatIsThere(t *testing.T) {
	set, err := Read(lay(t))
	require.NoError(t, err)
	require.Equal(t, []Series{{"tram.log", []float64{0, 1.2, 2.1}, []float64{1.5, 0, 2.5}}}, set.Links)
	require.Equal(t, []Series{{"ec2_cpu_utilization_1.csv", []float64{0, 300, 600}, []float64{10, 20.5, 30}}}, set.CPUs)
	require.Len(t, set.RTTs, 2)
	require.Equal(t, []float64{0.2, 0.3}, set.RTTs[1].Values)
	require.Len(t, set.Skipped, 1)
	require.Contains(t, set.Skipped[0], "broken.log: line 2")
	require.InDelta(t, 3, set.Links[0].Period(), 1e-9)

	_, err = Read(t.TempDir())
	require.ErrorContains(t, err, "link")
}

func TestSyntheticIsItsSeed(t *testing.T) {
	a, b := Synthetic(1, 4, 2, 2), Synthetic(1, 6, 2, 2)
	require.Equal(t, a.Links, b.Links[:4], "more of one kind change nothing of the others")
	require.Equal(t, a.CPUs, b.CPUs)
	require.NotEqual(t, a.Links, Synthetic(2, 4, 2, 2).Links)
	require.NoError(t, a.Validate())
	for _, all := range [][]Series{a.Links, a.CPUs, a.RTTs} {
		for i := range all {
			require.NoError(t, all[i].check())
		}
	}
}

// The end of a step is after any time, also where rounding puts a time at the very end of a period.
func TestTheNextStepIsLater(t *testing.T) {
	for _, period := range []float64{0.1, 0.3, 1.0 / 3, 0.7, 7.1} {
		c, err := NewCurve([]float64{0, period / 3, period / 1.5}, []float64{1, 2, 3}, period)
		require.NoError(t, err)
		for k := range 3000 {
			for _, at := range []float64{float64(k) * period, float64(k)*period + period, math.Nextafter(float64(k)*period, 0)} {
				next := c.Next(at)
				require.Greater(t, next, at, "period %v", period)
				require.Less(t, next, at+period*0.334, "period %v: a step was skipped", period)
			}
		}
	}
}
