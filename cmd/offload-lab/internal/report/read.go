// Package report draws the output of the lab's other verbs: one self-contained page, with plots in SVG and no external resources.
//
// It reads JSON lines and recognises their kind by their fields: scores of compare, steps of simulate, the learning curve of train, results of
// replay. It accepts any mixture in any order; equal lines give equal pages.
package report

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// Score is a line of compare: the result of one policy.
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

// step is a line of simulate: one decision with its outcome.
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

// Results holds all input.
type Results struct {
	Scores  []Score
	lives   []*life
	curve   []lesson
	replays []replayed
}

// life is the history of a policy; policies are in the order of their first step.
type life struct {
	policy string
	took   []float64
	missed int
	cloud  int
	grid   [cells][cells]patch
}

// patch is one square of the decision map.
type patch struct{ tasks, cloud int }

// cells is the width and height of a decision map in squares; they are even in the logarithm of the predicted time.
const (
	cells    = 14
	mapFrom  = 0.02 // s
	mapTo    = 60.0 // s
	maxSteps = 20_000_000
)

// errEmpty means that there is nothing to draw.
var errEmpty = errors.New("no line of compare, simulate, train or replay in the input")

// Read adds the lines of r.
func (all *Results) Read(r io.Reader) error {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	n := 1
	for ; in.Scan(); n++ {
		if len(in.Bytes()) == 0 {
			continue
		}
		if err := all.line(in.Bytes()); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	if errors.Is(in.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d bytes", n, maxLine)
	}
	return in.Err()
}

// maxLine bounds a line, in bytes.
const maxLine = 1 << 20

var errNoResult = errors.New("it is not a line of compare -json, simulate, train -curve or replay -json")

// line recognises the kind of a line by a field that only this kind has.
func (all *Results) line(raw []byte) error {
	var kind struct {
		Regret, Took, Return *float64
		IPS                  *interval
	}
	var wrong *json.UnmarshalTypeError
	switch err := json.Unmarshal(raw, &kind); {
	case errors.As(err, &wrong) && wrong.Field == "":
		return errNoResult
	case wrong != nil:
		return fmt.Errorf("%s: %s is not of its type, or too large", wrong.Field, wrong.Value)
	case err != nil:
		return err
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
	return errNoResult
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

// cell is the row or column of a predicted time, clamped to the map.
func cell(seconds float64) int {
	at := math.Log(seconds/mapFrom) / math.Log(mapTo/mapFrom) * cells
	if !(at > 0) {
		return 0
	}
	return min(int(at), cells-1)
}
