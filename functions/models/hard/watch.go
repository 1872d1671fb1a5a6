package hard

import (
	"fmt"
	"math"
	"sync"
)

// Watch signals drift: the mean of recent embeddings, or of errors as embeddings of one value, has left its reference. It is the MEWMA chart of Lowry
// et al. (A Multivariate Exponentially Weighted Moving Average Control Chart, 1992) with a diagonal covariance. The first Reference samples give mean
// and variance of each value. The next 4·Reference samples give mean and deviation of the statistic itself: tabulated limits would be wrong, since
// the values of an embedding are correlated, and many samples are needed, since neighbours in a moving average are similar. It is safe for concurrent
// use and does not allocate after the first sample.
type Watch struct {
	cfg WatchConfig

	mu        sync.Mutex
	n         int
	mean, sum []float64 // mean, and sum of squared deviations, of the reference
	recent    []float64 // the moving average
	level     moments   // of the statistic after the reference
	score     float64
}

// settling is the number of references of samples that calibrate the statistic.
const settling = 4

// WatchConfig configures a watch.
type WatchConfig struct {
	Reference int     // reference samples, followed by four times as many for calibration; 500 if 0
	Weight    float64 // weight of the newest sample, 0.05 if 0
	Limit     float64 // deviations of the statistic that signal drift, 8 if 0
}

func (c WatchConfig) orDefault() (WatchConfig, error) {
	if c.Reference == 0 {
		c.Reference = 500
	}
	if c.Weight == 0 {
		c.Weight = 0.05
	}
	if c.Limit == 0 {
		c.Limit = 8
	}
	if c.Reference < 10 || c.Reference > 1_000_000 || !(c.Weight > 0 && c.Weight <= 1) || !(c.Limit > 0) {
		return c, fmt.Errorf("a watch with a reference of %d samples, a weight of %g and a limit of %g: expected 10 to 1000000, 0 to 1, above 0", c.Reference, c.Weight, c.Limit)
	}
	return c, nil
}

// NewWatch returns a watch without samples.
func NewWatch(c WatchConfig) (*Watch, error) {
	c, err := c.orDefault()
	if err != nil {
		return nil, err
	}
	return &Watch{cfg: c}, nil
}

// moments are the mean and deviation of a number.
type moments struct {
	n         int
	mean, sum float64
}

func (m *moments) add(v float64) {
	m.n++
	d := v - m.mean
	m.mean += d / float64(m.n)
	m.sum += d * (v - m.mean)
}

func (m *moments) deviation() float64 { return math.Sqrt(m.sum / float64(max(m.n-1, 1))) }

// Add adds a sample. It returns the distance of the recent mean from normal in standard deviations, 0 while the watch still learns, and whether it
// signals drift. Samples of another length than the first, and samples that are not finite, are ignored.
func (w *Watch) Add(sample ...float64) (score float64, drift bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(sample) == 0 || !finite(sample) {
		return w.score, w.score > w.cfg.Limit
	}
	if w.mean == nil {
		w.mean, w.sum, w.recent = make([]float64, len(sample)), make([]float64, len(sample)), make([]float64, len(sample))
	}
	if len(sample) != len(w.mean) {
		return w.score, w.score > w.cfg.Limit
	}
	w.n++
	if w.n <= w.cfg.Reference {
		for i, v := range sample {
			d := v - w.mean[i]
			w.mean[i] += d / float64(w.n)
			w.sum[i] += d * (v - w.mean[i])
		}
		copy(w.recent, w.mean)
		return 0, false
	}
	t := w.statistic(sample)
	if w.n <= (1+settling)*w.cfg.Reference {
		w.level.add(t)
		return 0, false
	}
	w.score = (t - w.level.mean) / max(w.level.deviation(), 1e-9)
	return w.score, w.score > w.cfg.Limit
}

func finite(list []float64) bool {
	for _, v := range list {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// statistic updates the average and returns its distance from the reference: the root of the mean, over all values, of the squared distance in units
// of the average's own variance. A value that was constant in the reference counts from its first change on.
func (w *Watch) statistic(sample []float64) float64 {
	a, sum := w.cfg.Weight, 0.
	for i, v := range sample {
		w.recent[i] += a * (v - w.recent[i])
		variance := w.sum[i]/float64(w.cfg.Reference-1)*(a/(2-a)) + 1e-12*(1+w.mean[i]*w.mean[i])
		d := w.recent[i] - w.mean[i]
		sum += min(d*d/variance, 1e12)
	}
	return math.Sqrt(sum / float64(len(sample)))
}
