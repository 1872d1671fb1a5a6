package report

import (
	"fmt"
	"math"
	"slices"
	"sort"
)

// order is that of the colours: what a user may choose first, then the bounds.
var order = []string{"ppo", "cost", "bandit", "greedy", "deadline", "weighted", "article", "random", "edge", "cloud", "oracle", "logged", "defer"}

// rank is the place of a policy among the colours; an unknown policy comes after them.
func rank(policy string) int {
	if i := slices.Index(order, policy); i >= 0 {
		return i
	}
	return len(order)
}

func colour(policy string) string { return fmt.Sprintf("p%d", rank(policy)) }

const (
	wide     = 760.0
	rowTall  = 26.0
	leftRoom = 92.0
)

// regretPlot is a dot a policy with its interval, on a logarithmic scale, as they differ by two orders.
func regretPlot(scores []Score) *figure {
	var shown []Score
	low, high := math.Inf(1), 0.0
	for _, s := range scores {
		if s.Policy == "oracle" || s.Regret <= 0 {
			continue
		}
		shown = append(shown, s)
		low, high = min(low, max(s.RegretCI95[0], s.Regret/3)), max(high, s.RegretCI95[1])
	}
	if len(shown) == 0 {
		return nil
	}
	f := &figure{Label: "Regret of each policy with its 95 % interval", W: wide, H: rowTall*float64(len(shown)) + 62}
	x := scale{low * 0.8, high * 1.25, leftRoom, wide - 70, true}
	bottom := f.H - 46
	f.axes(frame{x, scale{0, 1, bottom, 8, false}}.onlyX(), "excess cost of a task over the clairvoyant optimum", "", short, nil)
	for i, s := range shown {
		y := 8 + rowTall*(float64(i)+0.5)
		tip := fmt.Sprintf("%s: regret %.3f, 95 %% %.3f to %.3f", s.Policy, s.Regret, s.RegretCI95[0], s.RegretCI95[1])
		f.text(leftRoom-10, y+4, "end", "label", s.Policy)
		f.line(x.in(s.RegretCI95[0]), y, x.in(s.RegretCI95[1]), y, "whisker "+colour(s.Policy))
		f.circle(x.at(s.Regret), y, 5.5, "dot "+colour(s.Policy), tip)
		f.text(x.in(s.RegretCI95[1])+10, y+4, "start", "value", fmt.Sprintf("%.3f", s.Regret))
	}
	return f
}

// onlyX leaves out the horizontal grid.
func (a frame) onlyX() frame {
	a.y.low, a.y.high = math.Inf(1), math.Inf(1)
	return a
}

// cdfPlot is the share of tasks that are done within a time.
func cdfPlot(lives []*life) *figure {
	f := &figure{Label: "Share of tasks done within a time", W: wide / 2, H: 320}
	x := scale{0.02, 100, 52, f.W - 14, true}
	y := scale{0, 1, f.H - 46, 30, false}
	f.axes(frame{x, y}, "completion time", "share of tasks done", seconds, percent)
	for _, l := range lives {
		var points []point
		for i := range steps {
			v := x.low * math.Pow(x.high/x.low, float64(i)/(steps-1))
			points = append(points, point{x.at(v), y.at(within(l.took, v))})
		}
		f.path(points, "curve "+colour(l.policy), l.policy)
	}
	return f
}

// tailPlot is the share of tasks that take longer, on logarithmic scales: where the latest are, a CDF shows nothing.
func tailPlot(lives []*life) *figure {
	f := &figure{Label: "Share of tasks that take longer than a time", W: wide / 2, H: 320}
	x := scale{0.2, 1000, 60, f.W - 14, true}
	y := scale{1e-4, 1, f.H - 46, 30, true}
	f.axes(frame{x, y}, "completion time", "share of tasks that take longer", seconds, percent)
	f.line(x.from, y.at(0.01), x.to, y.at(0.01), "mark")
	f.text(x.to-4, y.at(0.01)-5, "end", "tick", "p99")
	for _, l := range lives {
		var points []point
		for i := range steps {
			v := x.low * math.Pow(x.high/x.low, float64(i)/(steps-1))
			late := 1 - within(l.took, v)
			if late < y.low {
				break
			}
			points = append(points, point{x.at(v), y.at(late)})
		}
		f.path(points, "curve "+colour(l.policy), l.policy)
	}
	return f
}

// steps is how many points a curve has.
const steps = 160

// within is the share of sorted values up to v.
func within(sorted []float64, v float64) float64 {
	n := sort.Search(len(sorted), func(i int) bool { return sorted[i] > v })
	return float64(n) / float64(len(sorted))
}

// barPlot is one number a policy.
func barPlot(label string, scores []Score, value func(*Score) float64, text func(float64) string) *figure {
	f := &figure{Label: label, W: wide / 2, H: 22*float64(len(scores)) + 12}
	most := 0.0
	for i := range scores {
		most = max(most, value(&scores[i]))
	}
	x := scale{0, max(most, 1e-9), 78, f.W - 66, false}
	for i := range scores {
		s := &scores[i]
		y := 6 + 22*float64(i)
		f.text(70, y+14, "end", "label", s.Policy)
		f.rect(78, y+3, x.at(value(s))-78, 15, "bar "+colour(s.Policy), s.Policy+": "+text(value(s)), 1)
		f.text(x.at(value(s))+6, y+14, "start", "value", text(value(s)))
	}
	return f
}

// curvePlot is a training.
func curvePlot(curve []lesson) *figure {
	f := &figure{Label: "Return by steps of training", W: wide, H: 260}
	low, high, last := math.Inf(1), math.Inf(-1), 0.0
	for _, l := range curve {
		low, high, last = min(low, l.Return), max(high, l.Return), max(last, l.Steps)
	}
	if high <= low {
		high = low + 1
	}
	x := scale{0, max(last, 1), 64, wide - 16, false}
	y := scale{low, high, f.H - 46, 30, false}
	f.axes(frame{x, y}, "steps", "return of an episode", short, short)
	var points []point
	for _, l := range curve {
		points = append(points, point{x.at(l.Steps), y.at(l.Return)})
	}
	f.path(points, "curve p0", "return")
	return f
}

// replayPlot is the estimates of replay: doubly robust above, inverse propensity below.
func replayPlot(all []replayed) *figure {
	low, high := math.Inf(1), math.Inf(-1)
	for i := range all {
		for _, v := range []interval{all[i].IPS, all[i].DR} {
			low, high = min(low, v.Mean, finite(v.CI95[0], v.Mean)), max(high, v.Mean, finite(v.CI95[1], v.Mean))
		}
	}
	if high <= low {
		high = low + 1
	}
	f := &figure{Label: "What each policy would have cost, with 95 % intervals", W: wide, H: 38*float64(len(all)) + 62}
	x := scale{low - (high-low)*0.05, high + (high-low)*0.05, leftRoom, wide - 24, false}
	f.axes(frame{x, scale{0, 1, f.H - 46, 8, false}}.onlyX(), "estimated mean a task", "", short, nil)
	for i := range all {
		r := &all[i]
		y := 8 + 38*(float64(i)+0.5)
		f.text(leftRoom-10, y+4, "end", "label", r.Policy)
		for k, v := range []interval{r.DR, r.IPS} {
			at, kind := y-6+12*float64(k), []string{"doubly robust", "inverse propensity"}[k]
			class := colour(r.Policy) + []string{"", " faint"}[k]
			f.line(x.in(finite(v.CI95[0], low)), at, x.in(finite(v.CI95[1], high)), at, "whisker "+class)
			f.circle(x.at(v.Mean), at, 5-float64(k), "dot "+class,
				fmt.Sprintf("%s, %s: %.4g, 95 %% %.4g to %.4g", r.Policy, kind, v.Mean, v.CI95[0], v.CI95[1]))
		}
	}
	return f
}

func finite(v, otherwise float64) float64 {
	if math.IsInf(v, 0) || math.IsNaN(v) {
		return otherwise
	}
	return v
}
