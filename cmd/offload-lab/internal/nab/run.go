package nab

import (
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"text/tabwriter"
	"time"

	"app-offload/functions/local/novelty"
)

// Detect lets a fresh detector answer each row of each series.
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

// gaussian is NAB's windowedGaussian, the floor that a detector has to beat: how unlikely a value is under the normal distribution of the
// last 6,400 rows, which moves on by 100 at a time.
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

// Report scores the operator `anomaly` beside NAB's windowedGaussian, on the whole corpus and on random halves of it, whose spread says
// how far a figure may be trusted on other series. What does not count the series that the threshold was chosen on is apart: each series with
// the threshold of all others, and random halves with the threshold of the other half.
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

// leftOut scores each series with the threshold that serves all others best.
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
