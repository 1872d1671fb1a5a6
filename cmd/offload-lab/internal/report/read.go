// Package report draws what the lab's other verbs wrote: one page that stands alone, with plots in SVG and nothing to load.
//
// It reads JSON lines and recognises their kind by their fields: scores of compare, steps of simulate, the learning curve of
// train, results of replay. Any mixture of them in any order makes a page of what there is; equal lines give equal pages.
package report

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Score is a line of compare: how one policy did.
type Score struct {
	Policy         string     `json:"policy"`
	Regret         float64    `json:"regret"`
	RegretCI95     [2]float64 `json:"regretCI95"`
	MeanCost       float64    `json:"meanCost"`
	MeanT          float64    `json:"meanT"`
	P95T           float64    `json:"p95T"`
	P99T           float64    `json:"p99T"`
	MissShare      float64    `json:"missShare"`
	CloudShare     float64    `json:"cloudShare"`
	BytesPerTask   float64    `json:"bytesPerTask"`
	JoulesPerTask  float64    `json:"joulesPerTask"`
	DecisionMicros float64    `json:"decisionMicros"`
	Episodes       int        `json:"episodes"`
}

// step is a line of simulate: one decision with what came of it.
type step struct {
	Policy    string  `json:"policy"`
	Target    string  `json:"target"`
	LocalTime float64 `json:"localTime"`
	CloudTime float64 `json:"cloudTime"`
	Took      float64 `json:"took"`
	Missed    bool    `json:"missed"`
}

// lesson is a line of a learning curve.
type lesson struct {
	Steps  float64 `json:"steps"`
	Return float64 `json:"return"`
}

// interval is an estimate of replay.
type interval struct {
	Mean float64    `json:"mean"`
	CI95 [2]float64 `json:"ci95"`
}

// replayed is a line of replay.
type replayed struct {
	Policy           string   `json:"policy"`
	Records          int      `json:"records"`
	IPS              interval `json:"ips"`
	DR               interval `json:"dr"`
	EffectiveSamples float64  `json:"effectiveSamples"`
	Unsupported      float64  `json:"unsupported"`
	Warnings         []string `json:"warnings"`
}

// Results is all that was read.
type Results struct {
	Scores  []Score
	lives   []*life
	curve   []lesson
	replays []replayed
}

// life is what a policy lived through, in the order of its first step.
type life struct {
	policy string
	took   []float64
	missed int
	cloud  int
	grid   [cells][cells]patch
}

// patch is one square of the decision map.
type patch struct{ tasks, cloud int }

// cells is how many squares a decision map is wide and high; they are even in the logarithm of the predicted time.
const (
	cells    = 14
	mapFrom  = 0.02 // s
	mapTo    = 60.0 // s
	maxSteps = 20_000_000
)

// errEmpty says that there was nothing to draw.
var errEmpty = errors.New("no line of compare, simulate, train or replay in the input")

// Read adds the lines of r.
func (all *Results) Read(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, 1<<20)
	for n := 1; in.Scan(); n++ {
		if len(in.Bytes()) == 0 {
			continue
		}
		if err := all.line(in.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return in.Err()
}

// line recognises the kind of a line by a field that no other kind has.
func (all *Results) line(raw []byte) error {
	var kind struct {
		Regret, Took, Return *float64
		IPS                  *interval
	}
	if err := json.Unmarshal(raw, &kind); err != nil {
		return err
	}
	switch {
	case kind.Regret != nil:
		return appendTo(&all.Scores, raw)
	case kind.IPS != nil:
		return appendTo(&all.replays, raw)
	case kind.Return != nil:
		return appendTo(&all.curve, raw)
	case kind.Took != nil:
		var s step
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		all.life(s.Policy).add(&s)
		return nil
	}
	return errors.New("it is not a line of compare -json, simulate, train -curve or replay -json")
}

func appendTo[T any](all *[]T, raw []byte) error {
	var one T
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*all = append(*all, one)
	return nil
}

func (all *Results) life(policy string) *life {
	for _, l := range all.lives {
		if l.policy == policy {
			return l
		}
	}
	all.lives = append(all.lives, &life{policy: policy})
	return all.lives[len(all.lives)-1]
}

func (l *life) add(s *step) {
	if len(l.took) < maxSteps {
		l.took = append(l.took, s.Took)
	}
	p := &l.grid[cell(s.CloudTime)][cell(s.LocalTime)]
	p.tasks++
	if s.Missed {
		l.missed++
	}
	if s.Target == "cloud" {
		l.cloud++
		p.cloud++
	}
}

// cell is the row or column of a predicted time; what lies beyond the map counts at its edge.
func cell(seconds float64) int {
	at := math.Log(seconds/mapFrom) / math.Log(mapTo/mapFrom) * cells
	if !(at > 0) {
		return 0
	}
	return min(int(at), cells-1)
}

// tidy puts everything into the order in which it is shown.
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
