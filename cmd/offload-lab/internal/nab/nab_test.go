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

// The values are computed by hand from the published formulas.
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

// One threshold applies to the whole corpus: a score that alarms in one series alarms in the other.
func TestOneThresholdServesAllSeries(t *testing.T) {
	two := append(small(), small()...)
	a, b := alarms()[0], alarms()[0]
	a[40], b[40], b[99] = 0.3, 0.8, 0.5
	r := Score(two, [][]float64{a, b}, Standard)
	require.InDelta(t, 0.3, r.Threshold, 0)
	require.Equal(t, Result{Score: r.Score, Threshold: 0.3, Found: 2, Windows: 2, False: 1}, r)
	require.InDelta(t, 100-25*0.11, r.Score, 1e-9)
}

// corpus writes a corpus in the layout of NAB's repository.
func corpus(t *testing.T, labels string, series map[string]string) string {
	dir := t.TempDir()
	for name, text := range series {
		path := filepath.Join(dir, "data", name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	require.NoError(t, os.Mkdir(filepath.Join(dir, "labels"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "labels", "combined_windows.json"), []byte(labels), 0o600))
	return dir
}

func TestReadSaysWhatIsWrong(t *testing.T) {
	const row, window = "timestamp,value\n2014-01-01 00:00:00,1\n", `"2014-01-01 00:00:00.000000"`
	for name, c := range map[string]struct{ csv, labels, want string }{
		"no labels":      {"timestamp,value\n", `{}`, "a/b.csv has no entry"},
		"no header":      {"", `{"a/b.csv":[]}`, "reading series a/b.csv: EOF"},
		"a column more":  {"timestamp,value,more\n2014-01-01 00:00:00,1,2\n", `{"a/b.csv":[]}`, "wrong number of fields"},
		"no number":      {"timestamp,value\n2014-01-01 00:00:00,x\n", `{"a/b.csv":[]}`, "parsing \"x\""},
		"no time":        {"timestamp,value\n1,2\n", `{"a/b.csv":[]}`, "parsing time"},
		"a strange time": {row, `{"a/b.csv":[["x",` + window + `]]}`, `window "x": parsing time`},
		"other begin":    {row, `{"a/b.csv":[["2014-01-02 00:00:00.000000",` + window + `]]}`, `"2014-01-02 00:00:00.000000" does not begin or end at a row`},
		"other end":      {row, `{"a/b.csv":[[` + window + `,"2014-01-02 00:00:00.000000"]]}`, `"2014-01-02 00:00:00.000000" does not begin or end at a row`},
		"no JSON":        {"timestamp,value\n", `[`, "combined_windows.json"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(corpus(t, c.labels, map[string]string{"a/b.csv": c.csv}))
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Read(t.TempDir())
	require.ErrorContains(t, err, "combined_windows.json")
	_, err = Read(filepath.Join(t.TempDir(), "none"))
	require.ErrorContains(t, err, "opening the corpus")
	dir := corpus(t, `{}`, nil)
	_, err = Read(dir)
	require.EqualError(t, err, "no series in "+dir+": data/GROUP/NAME.csv are expected")
	dir = corpus(t, `{"a/b.csv":[]}`, nil)
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "data", "a", "b.csv"), 0o700))
	_, err = Read(dir)
	require.ErrorContains(t, err, "is a directory")
}

// The series are in the order of their names, and a window begins and ends at the first row of a time.
func TestReadGivesAllThatIsThere(t *testing.T) {
	const second = 1_000_000_000
	series, err := Read(corpus(t, `{"a/b.csv":[["2014-01-01 00:00:01.000000","2014-01-01 00:00:02.000000"]],"a-c/b.csv":[]}`, map[string]string{
		"a/b.csv":   "timestamp,value\n2014-01-01 00:00:00,1\n2014-01-01 00:00:01,2.5\n2014-01-01 00:00:01,-3\n2014-01-01 00:00:02,4\n",
		"a-c/b.csv": "timestamp,value\n1970-01-01 00:00:07,1\n",
	}))
	require.NoError(t, err)
	at := int64(1388534400) * second
	require.Equal(t, []Series{
		{Name: "a-c/b.csv", Times: []int64{7 * second}, Values: []float64{1}},
		{Name: "a/b.csv", Times: []int64{at, at + second, at + second, at + 2*second}, Values: []float64{1, 2.5, -3, 4}, Windows: [][2]int{{1, 3}}},
	}, series)
}

// The baseline is NAB's: each row is compared with the normal distribution of the previous rows, the last 6,400 in steps of 100.
func TestGaussianIsThatOfNAB(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	values := make([]float64, 6750)
	for i := range values {
		values[i] = 20 + random.NormFloat64()*float64(1+i/1000)
	}
	got := gaussian(values)
	require.Zero(t, got[0], "nothing is known of the first row")
	for _, i := range []int{2, 3, 50, 6399, 6400, 6401, 6499, 6500, 6501, 6599, 6600, 6749} {
		before := values[max(0, i-6400)/100*100 : i]
		before = before[:min(len(before), 6400)]
		sum, squares := 0.0, 0.0
		for _, v := range before {
			sum += v
			squares += v * v
		}
		n := float64(len(before))
		deviation := math.Sqrt(squares/n - sum/n*sum/n)
		require.InDelta(t, math.Erf(math.Abs(values[i]-sum/n)/deviation/math.Sqrt2)/2+0.5, got[i], 1e-6, i)
	}
	require.Equal(t, []float64{0, 0.5, 1, 0.5}, roundAll(gaussian([]float64{3, 3, 4, 3.333333333})), "values that are all the same differ from any other")
}

func roundAll(values []float64) []float64 {
	for i, v := range values {
		values[i] = math.Round(v*1e6) / 1e6
	}
	return values
}

// A series without a row in probation, and a series whose window is a single row.
func TestScoreOfShortSeries(t *testing.T) {
	short := []Series{{Values: make([]float64, 6), Windows: [][2]int{{3, 3}}}}
	require.Zero(t, short[0].Probation())
	for row, want := range []float64{-5.5, -5.5, -5.5, 100, -5.5, -5.5} {
		scores := [][]float64{make([]float64, 6)}
		scores[0][row] = 1
		require.InDelta(t, want, At(short, scores, Standard, 1), 1e-9, row)
	}
	require.Equal(t, 750, (&Series{Values: make([]float64, 5001)}).Probation())
}

// A corpus of spikes, one in each series but the last; two detectors find them, one of them earlier.
func TestReport(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	var series []Series
	for k := range 8 {
		s := Series{Windows: [][2]int{{700, 760}}}
		for i := range 1000 {
			v := math.Sin(float64(i)/10)*5 + random.NormFloat64()
			if i >= 705+5*k && i < 710+5*k && k < 7 {
				v += 15
			}
			s.Values = append(s.Values, v)
		}
		series = append(series, s)
	}
	var b strings.Builder
	require.NoError(t, Report(&b, series, 1))
	text, rest, _ := strings.Cut(b.String(), "; anomaly took ")
	require.Equal(t, want, "\n"+text)
	require.Regexp(t, `^\d+\.\d{3} µs a row, one core\n$`, rest)
	require.Error(t, Report(failing{}, series, 1))
}

const want = `
detector          score  windows found  false alarms  threshold  halves of the corpus: p10, p50, p90  each with the others' threshold  halves with the other's threshold: p10, p50, p90
anomaly           84.2   7 of 8         0             0.602      71.0, 73.8, 97.2                     72.5                             48.5, 72.8, 96.8
windowedGaussian  84.2   7 of 8         0             0.998      76.1, 84.0, 97.2                     69.5                             48.8, 79.0, 87.1
8 series, 8000 rows, standard profile`

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

// A given threshold has the same score as Score at that threshold, and a held-out series does not influence its own threshold.
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
