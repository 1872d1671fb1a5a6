package nab

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A series of 100 rows, of which the first 15 do not count, with a window in rows 40 to 49.
func small() []Series {
	s := Series{Name: "a/b.csv", Windows: [][2]int{{40, 49}}}
	for i := range 100 {
		s.Times, s.Values = append(s.Times, int64(i)), append(s.Values, float64(i))
	}
	return []Series{s}
}

func alarms(rows ...int) [][]float64 {
	scores := make([]float64, 100)
	for _, i := range rows {
		scores[i] = 1
	}
	return [][]float64{scores}
}

// The values are worked out from the published formulas by hand.
func TestScoreIsThatOfNAB(t *testing.T) {
	sigmoid := func(x float64) float64 { return 2/(1+math.Exp(5*x)) - 1 }
	for name, c := range map[string]struct {
		rows []int
		want float64
	}{
		"nothing":                     {nil, 0},
		"first row of the window":     {[]int{40}, 100},
		"last row of the window":      {[]int{49}, 100 * (1 + sigmoid(-0.1)/sigmoid(-1)) / 2},
		"the earliest counts":         {[]int{49, 43, 45}, 100 * (1 + sigmoid(-0.7)/sigmoid(-1)) / 2},
		"rows of the probation":       {[]int{3, 14, 40}, 100},
		"false before every window":   {[]int{15, 40}, 100 - 50*0.11},
		"false right after a window":  {[]int{40, 50}, 100 + 50*0.11*sigmoid(1.0/9)},
		"false long after the window": {[]int{40, 99}, 100 - 50*0.11},
	} {
		t.Run(name, func(t *testing.T) {
			require.InDelta(t, c.want, Score(small(), alarms(c.rows...), Standard).Score, 1e-9)
		})
	}
}

// One threshold serves the whole corpus: what alarms in one series alarms in the other.
func TestOneThresholdServesAllSeries(t *testing.T) {
	two := append(small(), small()...)
	a, b := alarms()[0], alarms()[0]
	a[40], b[40], b[99] = 0.3, 0.8, 0.5
	r := Score(two, [][]float64{a, b}, Standard)
	require.InDelta(t, 0.3, r.Threshold, 0)
	require.Equal(t, Result{Score: r.Score, Threshold: 0.3, Found: 2, Windows: 2, False: 1}, r)
	require.InDelta(t, 100-25*0.11, r.Score, 1e-9)
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ csv, labels, want string }{
		"no labels":    {"timestamp,value\n", `{}`, "a/b.csv has no entry"},
		"no number":    {"timestamp,value\n2014-01-01 00:00:00,x\n", `{"a/b.csv":[]}`, "parsing \"x\""},
		"no time":      {"timestamp,value\n1,2\n", `{"a/b.csv":[]}`, "parsing time"},
		"other window": {"timestamp,value\n2014-01-01 00:00:00,1\n", `{"a/b.csv":[["2014-01-02 00:00:00.000000","2014-01-02 00:00:00.000000"]]}`, "begins or ends at no row"},
		"no JSON":      {"timestamp,value\n", `[`, "combined_windows.json"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.MkdirAll(filepath.Join(dir, "data", "a"), 0o700))
			require.NoError(t, os.Mkdir(filepath.Join(dir, "labels"), 0o700))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "data", "a", "b.csv"), []byte(c.csv), 0o600))
			require.NoError(t, os.WriteFile(filepath.Join(dir, "labels", "combined_windows.json"), []byte(c.labels), 0o600))
			_, err := Read(dir)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Read(t.TempDir())
	require.ErrorContains(t, err, "combined_windows.json")
}

func TestReport(t *testing.T) {
	var b strings.Builder
	require.NoError(t, Report(&b, append(small(), small()...), 1))
	require.Contains(t, b.String(), "windowedGaussian")
}

// A threshold that was chosen elsewhere gives what Score gives at that threshold, and a series left out has no say in its own.
func TestAThresholdFromElsewhere(t *testing.T) {
	series := small()
	scores := make([][]float64, len(series))
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range series {
		scores[i] = make([]float64, len(series[i].Values))
		for k := range scores[i] {
			scores[i][k] = rng.Float64()
		}
	}
	best := Score(series, scores, Standard)
	require.InDelta(t, best.Score, At(series, scores, Standard, best.Threshold), 1e-9)
	require.Zero(t, At(series, scores, Standard, 2), "it never alarms")
	for _, threshold := range []float64{0.1, 0.5, 0.9, 0.99} {
		require.LessOrEqual(t, At(series, scores, Standard, threshold), best.Score+1e-9)
	}
	require.LessOrEqual(t, leftOut(series, scores), best.Score+1e-9)
	require.Zero(t, At(nil, nil, Standard, 1))
	if len(series) > 1 {
		two := []Series{series[0], series[0]}
		same := [][]float64{scores[0], scores[0]}
		require.InDelta(t, Score(two, same, Standard).Score, leftOut(two, same), 1e-9, "its twin chooses the same threshold")
	}
}
