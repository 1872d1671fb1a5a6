// Package nab scores streaming detectors as the Numenta Anomaly Benchmark does: one threshold for all series, a reward for each labelled window that
// is higher for an earlier detection, and a cost for each alarm outside the windows.
//
// The scoring function is that of Lavin and Ahmad, "Evaluating Real-time Anomaly Detection Algorithms – the Numenta Anomaly Benchmark" (2015),
// section III, with the details of NAB 1.1's sweeper: the first 15 % of a series (of at most 5,000 rows) do not count.
package nab

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"

	"app-offload/functions/local/novelty"
)

// Series is one recording. Windows are the row ranges [first, last] that contain an anomaly, in order.
type Series struct {
	Name    string
	Times   []int64 // ns since 1970
	Values  []float64
	Windows [][2]int
}

// Probation is the number of initial rows that do not count.
func (s *Series) Probation() int {
	return min(int(0.15*float64(len(s.Values))), 750) // 15 % of at most 5,000 rows
}

// Profile holds the weights of hits, false alarms and misses.
type Profile struct{ TP, FP, FN float64 }

// Standard is NAB's standard profile.
var Standard = Profile{TP: 1, FP: 0.11, FN: 1}

// Result is a detector's score over a corpus.
type Result struct {
	Score     float64 // 0 for a detector without alarms, 100 for one that detects each window in its first row and has no other alarms
	Threshold float64 // minimum score of an alarm; the best one, as NAB chooses it
	Found     int     // windows with an alarm
	Windows   int
	False     int // rows with an alarm outside windows
}

// point is a row that counts: its score, the reward of an alarm in it, and its window, -1 outside all.
type point struct {
	score, gain float64
	window      int
}

// Score finds the best threshold for the whole corpus and returns the detector's result with it. scores[i] are a detector's scores, in [0, 1], of the
// rows of series[i].
func Score(series []Series, scores [][]float64, p Profile) Result {
	var points []point
	windows := 0
	for i := range series {
		points = series[i].points(points, scores[i], windows, p)
		windows += len(series[i].Windows)
	}
	slices.SortFunc(points, func(a, b point) int { return cmp.Compare(b.score, a.score) })
	found := make([]float64, windows)
	for i := range found {
		found[i] = -p.FN
	}
	sum, hits, false_ := -p.FN*float64(windows), 0, 0
	best := Result{Threshold: math.Inf(1), Windows: windows}
	top := sum
	for i, q := range points {
		switch {
		case q.window < 0:
			sum += q.gain
			false_++
		case q.gain > found[q.window]:
			if found[q.window] < 0 {
				hits++
			}
			sum += q.gain - found[q.window]
			found[q.window] = q.gain
		}
		if (i+1 == len(points) || points[i+1].score < q.score) && sum > top {
			top = sum
			best.Threshold, best.Found, best.False = q.score, hits, false_
		}
	}
	best.Score = normal(top, windows, p)
	return best
}

// At is the score of a detector with a given threshold.
func At(series []Series, scores [][]float64, p Profile, threshold float64) float64 {
	windows, sum := 0, 0.0
	for i := range series {
		windows += len(series[i].Windows)
		sum += series[i].gained(scores[i], p, threshold)
	}
	return normal(sum, windows, p)
}

// normal scales the total reward to 0 for a detector without alarms and 100 for a perfect one.
func normal(sum float64, windows int, p Profile) float64 {
	null, perfect := -p.FN*float64(windows), p.TP*float64(windows)
	if windows == 0 {
		return 0
	}
	return 100 * (sum - null) / (perfect - null)
}

// gained is the reward of alarms above a threshold in one series: each window counts once, by its earliest alarm.
func (s *Series) gained(scores []float64, p Profile, threshold float64) (sum float64) {
	best := make([]float64, len(s.Windows))
	for k := range best {
		best[k] = -p.FN
	}
	for _, q := range s.points(nil, scores, 0, p) {
		switch {
		case q.score < threshold:
		case q.window < 0:
			sum += q.gain
		default:
			best[q.window] = max(best[q.window], q.gain)
		}
	}
	for _, v := range best {
		sum += v
	}
	return sum
}

// points appends the rows that count. Windows are numbered starting at first.
func (s *Series) points(dst []point, scores []float64, first int, p Profile) []point {
	probation := s.Probation()
	most := scaled(-1)
	w, last, width := 0, -1, 1.0 // the current or next window, and the end and width of the previous one: without one, all rows are far from it
	for i, score := range scores {
		if w < len(s.Windows) && i > s.Windows[w][1] {
			last, width = s.Windows[w][1], float64(s.Windows[w][1]-s.Windows[w][0]+1)
			w++
		}
		in := w < len(s.Windows) && i >= s.Windows[w][0]
		q := point{score: score, window: -1}
		if in {
			q.window = first + w
			q.gain = p.TP * scaled(-float64(s.Windows[w][1]-i+1)/float64(s.Windows[w][1]-s.Windows[w][0]+1)) / most
		} else {
			q.gain = p.FP * scaled(float64(i-last)/(width-1))
		}
		if i >= probation {
			dst = append(dst, q)
		}
	}
	return dst
}

// scaled is NAB's sigmoid: 1 well before a window's end, 0 at it, −1 well after.
func scaled(x float64) float64 {
	if x > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*x)) - 1
}

// Detect runs a new detector over the rows of each series.
func Detect(series []Series, o novelty.Options) [][]float64 {
	scores := make([][]float64, len(series))
	for i := range series {
		d := novelty.New(o)
		scores[i] = make([]float64, len(series[i].Values))
		for j, v := range series[i].Values {
			scores[i][j] = d.Feed(v).Score
		}
	}
	return scores
}

// gaussian is NAB's windowedGaussian, the baseline of a detector: the improbability of a value under the normal distribution of the last 6,400 rows,
// updated every 100 rows.
func gaussian(values []float64) []float64 {
	const window, step = 6400, 100
	var kept, next []float64
	mean, std := 0.0, 1.0
	scores := make([]float64, len(values))
	for i, v := range values {
		if len(kept) > 0 {
			scores[i] = 1 - tail(v, mean, std)
		}
		if len(kept) < window {
			kept = append(kept, v)
			mean, std = moments(kept)
		} else if next = append(next, v); len(next) == step {
			kept, next = append(kept[step:], next...), next[:0]
			mean, std = moments(kept)
		}
	}
	return scores
}

func tail(x, mean, std float64) float64 { return 0.5 * math.Erfc(math.Abs(x-mean)/std/math.Sqrt2) }

func moments(values []float64) (mean, std float64) {
	for _, v := range values {
		mean += v
	}
	mean /= float64(len(values))
	for _, v := range values {
		std += (v - mean) * (v - mean)
	}
	if std = math.Sqrt(std / float64(len(values))); std == 0 {
		std = 0.000001
	}
	return mean, std
}

// Report scores the operator `anomaly` and NAB's windowedGaussian, on the whole corpus and on random halves of it, whose spread shows the uncertainty
// on other series. It separately scores held-out data: each series with the threshold of all others, and random halves with the threshold of the
// other half.
func Report(w io.Writer, series []Series, seed uint64) error {
	begin := time.Now()
	own := Detect(series, novelty.Defaults())
	took := time.Since(begin)
	floor := make([][]float64, len(series))
	rows := 0
	for i := range series {
		floor[i] = gaussian(series[i].Values)
		rows += len(series[i].Values)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "detector\tscore\twindows found\tfalse alarms\tthreshold\thalves of the corpus: p10, p50, p90\teach with the others' threshold\thalves with the other's threshold: p10, p50, p90\n")
	for _, d := range []struct {
		name   string
		scores [][]float64
	}{{"anomaly", own}, {"windowedGaussian", floor}} {
		r := Score(series, d.scores, Standard)
		h, unseen := halves(series, d.scores, seed)
		fmt.Fprintf(t, "%s\t%.1f\t%d of %d\t%d\t%.3f\t%.1f, %.1f, %.1f\t%.1f\t%.1f, %.1f, %.1f\n", d.name, r.Score, r.Found, r.Windows, r.False, r.Threshold, h[0], h[1], h[2],
			leftOut(series, d.scores), unseen[0], unseen[1], unseen[2])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d series, %d rows, standard profile; anomaly took %.3f µs a row, one core\n", len(series), rows, float64(took.Nanoseconds())/1000/float64(rows))
	return err
}

// halves scores 200 random halves of the corpus: with the best threshold of each, and with that of the other half.
func halves(series []Series, scores [][]float64, seed uint64) (best, unseen [3]float64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	all, others := make([]float64, 200), make([]float64, 200)
	for k := range all {
		order, middle := rng.Perm(len(series)), (len(series)+1)/2
		one, ofOne := pick(series, scores, order[:middle])
		r := Score(one, ofOne, Standard)
		two, ofTwo := pick(series, scores, order[middle:])
		all[k], others[k] = r.Score, At(two, ofTwo, Standard, r.Threshold)
	}
	slices.Sort(all)
	slices.Sort(others)
	return [3]float64{all[20], all[100], all[180]}, [3]float64{others[20], others[100], others[180]}
}

// leftOut scores each series with the best threshold of all others.
func leftOut(series []Series, scores [][]float64) float64 {
	sum, windows := 0.0, 0
	for i := range series {
		rest, ofRest := slices.Delete(slices.Clone(series), i, i+1), slices.Delete(slices.Clone(scores), i, i+1)
		sum += series[i].gained(scores[i], Standard, Score(rest, ofRest, Standard).Threshold)
		windows += len(series[i].Windows)
	}
	return normal(sum, windows, Standard)
}

func pick(series []Series, scores [][]float64, which []int) (some []Series, theirs [][]float64) {
	for _, i := range which {
		some, theirs = append(some, series[i]), append(theirs, scores[i])
	}
	return some, theirs
}
