package report

import (
	"fmt"
	"math"
	"strings"
)

// figure is a plot as a list of marks, in the units of its own view box. The page's template writes them as SVG.
type figure struct {
	Label string // text for screen readers
	W, H  float64
	Marks []mark
}

// mark is one shape. The relevant fields depend on its kind: line, rect, circle, path or text.
type mark struct {
	Kind           string
	X, Y, X2, Y2   float64
	D              string
	Class          string
	Text           string
	Anchor         string
	Opacity        float64
	Tip            string
	Rotate, Radius float64
}

func (f *figure) line(x, y, x2, y2 float64, class string) {
	f.Marks = append(f.Marks, mark{Kind: "line", X: x, Y: y, X2: x2, Y2: y2, Class: class})
}

func (f *figure) text(x, y float64, anchor, class, text string) {
	f.Marks = append(f.Marks, mark{Kind: "text", X: x, Y: y, Anchor: anchor, Class: class, Text: text})
}

func (f *figure) rect(x, y, w, h float64, class, tip string, opacity float64) {
	f.Marks = append(f.Marks, mark{Kind: "rect", X: x, Y: y, X2: max(w, 0), Y2: max(h, 0), Class: class, Tip: tip, Opacity: opacity, Radius: 2})
}

func (f *figure) circle(x, y, r float64, class, tip string) {
	f.Marks = append(f.Marks, mark{Kind: "circle", X: x, Y: y, Radius: r, Class: class, Tip: tip})
}

// path is a line through points.
func (f *figure) path(points []point, class, tip string) {
	var d strings.Builder
	for i, p := range points {
		letter := 'L'
		if i == 0 {
			letter = 'M'
		}
		fmt.Fprintf(&d, "%c%.1f %.1f", letter, p.x, p.y)
	}
	f.Marks = append(f.Marks, mark{Kind: "path", D: d.String(), Class: class, Tip: tip})
}

type point struct{ x, y float64 }

// scale maps values to a range of the figure.
type scale struct {
	low, high float64 // values
	from, to  float64 // positions
	log       bool
}

func (s scale) at(v float64) float64 {
	low, high := s.low, s.high
	if s.log {
		v, low, high = math.Log(max(v, s.low/10)), math.Log(low), math.Log(high)
	}
	return s.from + (s.to-s.from)*(v-low)/(high-low)
}

// in is at, clamped to the figure.
func (s scale) in(v float64) float64 {
	return s.at(min(max(v, s.low), s.high))
}

// ticks returns round values within the scale: 1, 2 and 5 of every decade, or about five even steps.
func (s scale) ticks() []float64 {
	var all []float64
	if s.log {
		decades := math.Log10(s.high / s.low)
		for e := math.Floor(math.Log10(s.low)); e <= math.Log10(s.high); e++ {
			for _, m := range []float64{1, 2, 5} {
				if v := m * math.Pow(10, e); v >= s.low*0.999 && v <= s.high*1.001 && (m == 1 || decades < 2.5) {
					all = append(all, v)
				}
			}
		}
		return all
	}
	step := round((s.high - s.low) / 5)
	for v := math.Ceil(s.low/step) * step; v <= s.high+step/1e6; v += step {
		all = append(all, v)
	}
	return all
}

// round returns the next higher of 1, 2 and 5 times a power of ten.
func round(v float64) float64 {
	e := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*e*1.0001 {
			return m * e
		}
	}
	return 10 * e
}

// short formats a number with few digits.
func short(v float64) string {
	switch size := math.Abs(v); {
	case size == 0:
		return "0"
	case size >= 1000:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
	return fmt.Sprintf("%.3g", v)
}

// frame is the inside of a plot with its axes.
type frame struct {
	x, y scale
}

// axes draws grid, ticks and names.
func (f *figure) axes(a frame, xName, yName string, xText, yText func(float64) string) {
	for _, v := range a.x.ticks() {
		f.line(a.x.at(v), a.y.from, a.x.at(v), a.y.to, "grid")
		f.text(a.x.at(v), a.y.from+16, "middle", "tick", xText(v))
	}
	for _, v := range a.y.ticks() {
		f.line(a.x.from, a.y.at(v), a.x.to, a.y.at(v), "grid")
		f.text(a.x.from-8, a.y.at(v)+4, "end", "tick", yText(v))
	}
	f.line(a.x.from, a.y.from, a.x.to, a.y.from, "axis")
	f.text((a.x.from+a.x.to)/2, a.y.from+36, "middle", "name", xName)
	if yName != "" {
		f.text(a.x.from, a.y.to-10, "start", "name", yName)
	}
}

func seconds(v float64) string { return short(v) + " s" }

func percent(v float64) string { return short(100*v) + " %" }
