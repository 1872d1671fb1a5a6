package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
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

// ramp is the colours of the decision map, from all here to all in the cloud, mixed by the browser from those of the page.
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

// tile is one number that matters most.
type tile struct{ Name, Value, Note string }

// named is a figure below a heading of its own.
type named struct {
	Name   string
	Note   string
	Figure *figure
}

// content is what the template shows.
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

// Write draws the page. The sources are named in it.
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

// mapPlot shows where a policy sends tasks, by what was predicted of both ways. Below the diagonal the cloud is sooner.
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
	f.text(left+size/2, top+size+36, "middle", "name", "predicted here")
	f.Marks = append(f.Marks, mark{Kind: "text", X: 10, Y: top + size/2, Anchor: "middle", Class: "name", Text: "predicted in the cloud", Rotate: -90})
	return f
}

func share(n int, l *life) float64 { return float64(n) / float64(len(l.took)) }

// bars are the numbers that are not the goal but its price.
func bars(scores []Score) []named {
	return []named{
		{"Missed deadlines", "share of tasks", barPlot("Missed deadlines", scores, func(s *Score) float64 { return s.MissShare }, percent)},
		{"Sent to the cloud", "share of tasks", barPlot("Sent to the cloud", scores, func(s *Score) float64 { return s.CloudShare }, percent)},
		{"Bytes", "KB on the wire a task", barPlot("Bytes a task", scores, func(s *Score) float64 { return s.BytesPerTask / 1024 }, short)},
		{"Energy", "J a task", barPlot("Energy a task", scores, func(s *Score) float64 { return s.JoulesPerTask }, short)},
	}
}

// tiles say how the best policy does that a gateway can have.
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
