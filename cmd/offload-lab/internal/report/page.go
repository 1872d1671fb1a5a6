package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
	"sort"
	"strings"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"n":       func(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") },
	"short":   short,
	"percent": percent,
	"kb":      func(bytes float64) string { return fmt.Sprintf("%.1f", bytes/1024) },
	"fixed":   func(digits int, v float64) string { return fmt.Sprintf("%.*f", digits, v) },
	"colour":  colour,
	"ramp":    ramp,
}).Parse(pageText))

// ramp is the colours of the decision map, from all local to all in the cloud, mixed by the browser from those of the page.
func ramp() []template.CSS {
	var all []template.CSS
	for i := range 11 {
		from, to, share := "--here", "--even", 100-20*i
		if i > 5 {
			from, to, share = "--even", "--there", 200-20*i
		}
		all = append(all, template.CSS(fmt.Sprintf("color-mix(in oklab, var(%s) %d%%, var(%s))", from, share, to))) // #nosec G203 -- made of constants
	}
	return all
}

// tile is one of the most important numbers.
type tile struct{ Name, Value, Note string }

// named is a figure with its heading.
type named struct {
	Name   string
	Note   string
	Figure *figure
}

// content is the data of the template.
type content struct {
	Title   string
	Sources []string
	Tiles   []tile
	Scores  []Score
	Regret  *figure
	Legend  []string
	Times   []*figure
	Bars    []named
	Maps    []named
	Curve   *figure
	Replay  *figure
	Replays []replayed
}

// Write writes the page, which names the sources.
func (all *Results) Write(w io.Writer, title string, sources []string) error {
	if err := all.tidy(); err != nil {
		return err
	}
	c := content{Title: title, Sources: sources, Scores: all.Scores, Tiles: tiles(all.Scores), Replays: all.replays}
	if len(all.Scores) > 0 {
		c.Regret, c.Bars = regretPlot(all.Scores), bars(all.Scores)
	}
	if len(all.lives) > 0 {
		c.Times = []*figure{cdfPlot(all.lives), tailPlot(all.lives)}
	}
	for _, l := range all.lives {
		c.Legend = append(c.Legend, l.policy)
		c.Maps = append(c.Maps, named{l.policy, fmt.Sprintf("%s to the cloud, %s missed", percent(share(l.cloud, l)), percent(share(l.missed, l))), mapPlot(l)})
	}
	if len(all.curve) > 0 {
		c.Curve = curvePlot(all.curve)
	}
	if len(all.replays) > 0 {
		c.Replay = replayPlot(all.replays)
	}
	if err := page.Execute(w, c); err != nil {
		return fmt.Errorf("drawing the page: %w", err)
	}
	return nil
}

// tidy sorts everything for display.
func (all *Results) tidy() error {
	if len(all.Scores)+len(all.lives)+len(all.curve)+len(all.replays) == 0 {
		return errEmpty
	}
	slices.SortStableFunc(all.Scores, func(a, b Score) int { return cmp.Compare(a.Regret, b.Regret) })
	for _, l := range all.lives {
		slices.Sort(l.took)
	}
	slices.SortStableFunc(all.lives, func(a, b *life) int { return rank(a.policy) - rank(b.policy) })
	return nil
}

// mapPlot shows a policy's targets by the predictions of both. Below the diagonal the cloud is sooner.
func mapPlot(l *life) *figure {
	const size, left, top = 224.0, 58.0, 12.0
	f := &figure{Label: "Decisions of " + l.policy + " by predicted times", W: size + left + 12, H: size + top + 46}
	x := scale{mapFrom, mapTo, left, left + size, true}
	y := scale{mapFrom, mapTo, top + size, top, true}
	const side = size / cells
	for row := range cells {
		for column := range cells {
			p := l.grid[row][column]
			if p.tasks == 0 {
				continue
			}
			share := float64(p.cloud) / float64(p.tasks)
			f.rect(left+side*float64(column)+0.5, top+size-side*float64(row+1)+0.5, side-1, side-1,
				fmt.Sprintf("heat h%d", int(math.Round(share*10))), fmt.Sprintf("%d tasks, %.0f %% to the cloud", p.tasks, 100*share),
				min(1, 0.3+0.25*math.Log10(float64(p.tasks))))
		}
	}
	f.line(x.at(mapFrom), y.at(mapFrom), x.at(mapTo), y.at(mapTo), "mark")
	for _, v := range []float64{0.1, 1, 10} {
		f.text(x.at(v), top+size+16, "middle", "tick", seconds(v))
		f.text(left-6, y.at(v)+4, "end", "tick", seconds(v))
	}
	f.text(left+size/2, top+size+36, "middle", "name", "predicted locally")
	f.Marks = append(f.Marks, mark{Kind: "text", X: 10, Y: top + size/2, Anchor: "middle", Class: "name", Text: "predicted in the cloud", Rotate: -90})
	return f
}

func share(n int, l *life) float64 { return float64(n) / float64(len(l.took)) }

// bars shows the secondary numbers.
func bars(scores []Score) []named {
	return []named{
		{"Missed deadlines", "share of tasks", barPlot("Missed deadlines", scores, func(s *Score) float64 { return s.MissShare }, percent)},
		{"Sent to the cloud", "share of tasks", barPlot("Sent to the cloud", scores, func(s *Score) float64 { return s.CloudShare }, percent)},
		{"Bytes", "KB on the wire a task", barPlot("Bytes a task", scores, func(s *Score) float64 { return s.BytesPerTask / 1024 }, short)},
		{"Energy", "J a task", barPlot("Energy a task", scores, func(s *Score) float64 { return s.JoulesPerTask }, short)},
	}
}

// tiles summarizes the best policy that a gateway can use.
func tiles(scores []Score) []tile {
	for _, s := range scores {
		if s.Policy == "oracle" {
			continue
		}
		return []tile{
			{"Best policy", s.Policy, fmt.Sprintf("%d episodes", s.Episodes)},
			{"Regret", fmt.Sprintf("%.3f", s.Regret), fmt.Sprintf("95 %% %.3f – %.3f", s.RegretCI95[0], s.RegretCI95[1])},
			{"99 of 100 tasks within", short(s.P99T) + " s", fmt.Sprintf("mean %s s", short(s.MeanT))},
			{"Missed deadlines", percent(s.MissShare), percent(s.CloudShare) + " of tasks to the cloud"},
			{"A decision takes", fmt.Sprintf("%.2f µs", s.DecisionMicros), "on the machine that compared"},
		}
	}
	return nil
}

// order is that of the colours: the recommended policies, then the bounds.
var order = []string{"ppo", "cost", "bandit", "greedy", "deadline", "weighted", "article", "random", "edge", "cloud", "oracle", "logged", "defer"}

// rank is the position of a policy among the colours; unknown policies come last.
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

// regretPlot is a dot per policy with its interval, on a logarithmic scale, as they differ by two orders of magnitude.
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
	f.axes(frame{x, scale{from: bottom, to: 8}}.onlyX(), "excess cost of a task over the clairvoyant optimum", "", short, nil)
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

// onlyX omits the horizontal grid.
func (a frame) onlyX() frame {
	a.y.low, a.y.high = math.Inf(1), math.Inf(1)
	return a
}

// cdfPlot is the share of tasks done within a time.
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

// tailPlot is the share of tasks that take longer, on logarithmic scales: it shows the latest tasks, which a CDF hides.
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

// steps is the number of points of a curve.
const steps = 160

// within is the share of sorted values up to v.
func within(sorted []float64, v float64) float64 {
	n := sort.Search(len(sorted), func(i int) bool { return sorted[i] > v })
	return float64(n) / float64(len(sorted))
}

// barPlot is one number per policy.
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
			low, high = min(low, v.Mean, v.CI95[0]), max(high, v.Mean, v.CI95[1])
		}
	}
	if high <= low {
		high = low + 1
	}
	f := &figure{Label: "What each policy would have cost, with 95 % intervals", W: wide, H: 38*float64(len(all)) + 62}
	x := scale{low - (high-low)*0.05, high + (high-low)*0.05, leftRoom, wide - 24, false}
	f.axes(frame{x, scale{from: f.H - 46, to: 8}}.onlyX(), "estimated mean a task", "", short, nil)
	for i := range all {
		r := &all[i]
		y := 8 + 38*(float64(i)+0.5)
		f.text(leftRoom-10, y+4, "end", "label", r.Policy)
		for k, v := range []interval{r.DR, r.IPS} {
			at, kind := y-6+12*float64(k), []string{"doubly robust", "inverse propensity"}[k]
			class := colour(r.Policy) + []string{"", " faint"}[k]
			f.line(x.in(v.CI95[0]), at, x.in(v.CI95[1]), at, "whisker "+class)
			f.circle(x.at(v.Mean), at, 5-float64(k), "dot "+class,
				fmt.Sprintf("%s, %s: %.4g, 95 %% %.4g to %.4g", r.Policy, kind, v.Mean, v.CI95[0], v.CI95[1]))
		}
	}
	return f
}
