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
// how far a figure may be trusted on other series.
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
	fmt.Fprintf(t, "detector\tscore\twindows found\tfalse alarms\tthreshold\thalves of the corpus: p10, p50, p90\n")
	for _, d := range []struct {
		name   string
		scores [][]float64
	}{{"anomaly", own}, {"windowedGaussian", floor}} {
		r := Score(series, d.scores, Standard)
		h := halves(series, d.scores, seed)
		fmt.Fprintf(t, "%s\t%.1f\t%d of %d\t%d\t%.3f\t%.1f, %.1f, %.1f\n", d.name, r.Score, r.Found, r.Windows, r.False, r.Threshold, h[0], h[1], h[2])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d series, %d rows, standard profile; anomaly took %.3f µs a row, one core\n", len(series), rows, float64(took.Nanoseconds())/1000/float64(rows))
	return err
}

// halves scores 200 random halves of the corpus.
func halves(series []Series, scores [][]float64, seed uint64) (deciles [3]float64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	all := make([]float64, 200)
	for k := range all {
		var some []Series
		var theirs [][]float64
		for _, i := range rng.Perm(len(series))[:(len(series)+1)/2] {
			some, theirs = append(some, series[i]), append(theirs, scores[i])
		}
		all[k] = Score(some, theirs, Standard).Score
	}
	slices.Sort(all)
	return [3]float64{all[20], all[100], all[180]}
}
