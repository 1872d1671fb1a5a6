package faults

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// ScenarioConfig says which scenario to play, and how large. What is 0 is the scenario's own.
type ScenarioConfig struct {
	Name     string
	Bin, Res string // folders with the binaries and with configuration.yaml
	Dir      string // folder for everything that is written
	Seed     uint64
	Duration time.Duration // of the trouble
	Rate     float64       // events a second
	Records  int           // of a backlog
	Out      io.Writer

	pace time.Duration // see Config
}

// Validate finds what makes no sense, before anything is started. No scenario at all is fine.
func (c *ScenarioConfig) Validate() error {
	var err error
	if c.Name != "" && !slices.ContainsFunc(scenarios(), func(sc scenario) bool { return sc.name == c.Name }) {
		err = fmt.Errorf("there is no scenario %q; there are:\n%s", c.Name, ScenarioNames())
	}
	if c.Duration < 0 || c.Records < 0 {
		err = errors.Join(err, fmt.Errorf("-duration %v and -records %d must not be below 0", c.Duration, c.Records))
	}
	return err
}

// ScenarioReport is what came of a scenario. Lost and doubled are counted as in Report.
type ScenarioReport struct {
	Scenario  string           `json:"scenario"`
	Seed      uint64           `json:"seed"`
	Rate      float64          `json:"rate"`            // events a second that were published
	Seconds   float64          `json:"seconds"`         // the trouble lasted
	Published int              `json:"published"`       // events that the MessageBus has acknowledged
	Stored    int              `json:"stored"`          // tasks in the consumer's database
	Lost      int              `json:"lost"`            //
	Doubled   int              `json:"doubled"`         //
	Drain     float64          `json:"drain,omitempty"` // s, until all had arrived once the trouble was over
	Before    Usage            `json:"before,omitzero"` // of app-offload, before the trouble
	During    Usage            `json:"during,omitzero"` // and while it lasted
	Dropped   map[string]int64 `json:"dropped,omitempty"`
	Bounds    []Bound          `json:"bounds"`
	Broken    []string         `json:"broken,omitempty"` // the bounds and the invariants that do not hold
}

// Bound is one figure, and the limit that it has to keep to, if any.
type Bound struct {
	What  string   `json:"what"`
	Have  float64  `json:"have"`
	Most  *float64 `json:"most,omitempty"`
	Least *float64 `json:"least,omitempty"`
}

func atMost(what string, have, limit float64) Bound {
	return Bound{What: what, Have: rounded(have), Most: &limit}
}

func atLeast(what string, have, limit float64) Bound {
	return Bound{What: what, Have: rounded(have), Least: &limit}
}

// figure is told and keeps to no limit.
func figure(what string, have float64) Bound { return Bound{What: what, Have: rounded(have)} }

// rounded keeps four digits behind the point: the figures are for people.
func rounded(v float64) float64 { return float64(int64(v*1e4+0.5)) / 1e4 }

func (b Bound) broken() string {
	switch {
	case b.Least != nil && b.Have < *b.Least:
		return fmt.Sprintf("%s is %g and must be at least %g", b.What, b.Have, *b.Least)
	case b.Most != nil && b.Have > *b.Most:
		return fmt.Sprintf("%s is %g and must be at most %g", b.What, b.Have, *b.Most)
	}
	return ""
}

// scenario is one situation that lasts, instead of many short ones.
type scenario struct {
	name, what string
	duration   time.Duration
	rate       float64
	records    int
	play       func(s *stage, ctx context.Context) error
}

// scenarios lists them all.
func scenarios() []scenario {
	return []scenario{
		{"hung", "the broker takes connections and never answers; memory, goroutines and intake stay as they were, then all drains", 10 * time.Minute, 2000, 0, outage("stall", 2, 0.9)},
		{"dead", "the broker refuses connections; the same is asked", 5 * time.Minute, 2000, 0, outage("cut", 0, 0.9)},
		{"slow", "the link carries less than comes in; the same is asked, but for the memory of the ring", 5 * time.Minute, 2000, 0, outage("slow", 0, 0.2)},
		{"backlog", "a start with a large backlog, which leaves beside fresh events over a narrow link", time.Minute, 200, 1_000_000, (*stage).backlog},
		{"gone", "the consumer is gone for far longer than quota and TTL last; each drop is counted by reason and class", 3 * time.Minute, 500, 0, (*stage).gone},
		{"full-disk", "the disk of the spool is full before its quota is, then has room again (needs root, to mount)", 30 * time.Second, 500, 0, (*stage).fullDisk},
		{"read-only", "the disk of the spool becomes read-only, then is mended (needs root, to mount)", 20 * time.Second, 200, 0, (*stage).readOnly},
	}
}

// ScenarioNames lists the scenarios for the help, each with what it does.
func ScenarioNames() string {
	var lines []string
	for _, sc := range scenarios() {
		lines = append(lines, fmt.Sprintf("%-10s  %s", sc.name, sc.what))
	}
	return strings.Join(lines, "\n")
}

// stage is the system with a scenario on it.
type stage struct {
	*system
	scenario
	result *ScenarioReport
	wire   float64      // bytes that an event needs on the link
	width  float64      // of a narrow link, in bytes/s
	left   float64      // records of the backlog that have left
	counts stack.Counts // the last that were heard
	before stack.Counts // those of an earlier life that it could not write down,
	heard  int64        // and the events that came in during that life
}

// RunScenario plays one scenario. Its error says which bounds are broken; the report is of use either way.
func RunScenario(ctx context.Context, cfg ScenarioConfig) (*ScenarioReport, error) {
	all := scenarios()
	i := slices.IndexFunc(all, func(sc scenario) bool { return sc.name == cfg.Name })
	if i < 0 {
		return nil, fmt.Errorf("there is no scenario %q; there are:\n%s", cfg.Name, ScenarioNames())
	}
	sc := all[i]
	sc.duration, sc.rate, sc.records = cmp.Or(cfg.Duration, sc.duration), cmp.Or(cfg.Rate, sc.rate), cmp.Or(cfg.Records, sc.records)
	st := &stage{
		scenario: sc,
		result:   &ScenarioReport{Scenario: sc.name, Seed: cfg.Seed, Rate: sc.rate},
		system: &system{
			cfg:    Config{Bin: cfg.Bin, Res: cfg.Res, Dir: cfg.Dir, Seed: cfg.Seed, Rate: sc.rate, Out: cfg.Out, pace: cfg.pace},
			random: rand.New(rand.NewPCG(cfg.Seed, 0)), began: time.Now(), plain: true,
			report: &Report{Seed: cfg.Seed, Faults: map[string]int{}},
		},
	}
	err := st.play(st, ctx)
	return st.result, errors.Join(err, st.close(), st.judge())
}

// judge completes the report. It is an error if a bound or an invariant does not hold.
func (s *stage) judge() error {
	r := s.result
	r.Published = s.publisher.accepted()
	r.Stored, r.Lost, r.Doubled = s.report.Stored, s.report.Lost, s.report.Doubled
	s.bounds(atMost("lost", float64(r.Lost), 0), atMost("doubled", float64(r.Doubled), 0))
	for _, b := range r.Bounds {
		if text := b.broken(); text != "" {
			r.Broken = append(r.Broken, text)
		}
	}
	r.Broken = append(r.Broken, s.violations()...)
	if len(r.Broken) > 0 {
		return fmt.Errorf("%s: %s", s.name, strings.Join(r.Broken, "; "))
	}
	return nil
}

// bounds adds figures to the report.
func (s *stage) bounds(list ...Bound) { s.result.Bounds = append(s.result.Bounds, list...) }

// say prints a line of progress.
func (s *stage) say(format string, args ...any) {
	fmt.Fprintf(s.cfg.Out, "%6.0fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// timed does the steps and notes how long they took, which is how long the trouble lasted.
func (s *stage) timed(steps ...step) step {
	return func(ctx context.Context) error {
		begin := time.Now()
		err := inTurn(ctx, steps...)
		s.result.Seconds = rounded(time.Since(begin).Seconds())
		return err
	}
}

// drain waits until all has arrived, ends the processes and inspects what they leave.
func (s *stage) drain(ctx context.Context) error {
	begin := time.Now()
	err := inTurn(ctx, then(s.publisher.stop), s.publisher.settled, then(func() {
		s.say("%d events are published; waiting until all have arrived", s.publisher.accepted())
	}), s.arrived)
	s.result.Drain = rounded(time.Since(begin).Seconds())
	if err != nil {
		return err
	}
	return s.leave(ctx)
}
