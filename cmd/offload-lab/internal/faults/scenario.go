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
	"app-offload/functions/badlink"
	"app-offload/functions/spool"
	"app-offload/functions/task"
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

// How long app-offload runs before it is measured, and how long it is then measured for comparison. Caches are filled
// by then and the heap has found its size.
const (
	warmUp     = time.Minute
	comparison = 30 * time.Second
)

// outage is a scenario in which one trouble of the link lasts. What is asked:
//
//  1. Memory and goroutines of app-offload are within a tenth of what they were before. On a link that still carries something memory
//     may grow by what the ring of fresh records is configured to take.
//  2. The intake does not wait for the broker: events come in at the rate at which they are published.
//  3. Afterwards all drains, nothing is lost and nothing is doubled.
//
// That the trouble was one is asked too: of what came in meanwhile at least the share waiting is in the spool at its end.
func outage(kind string, number int, waiting float64) func(*stage, context.Context) error {
	return func(s *stage, ctx context.Context) error {
		s.env = []string{"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", s.quota())}
		return inTurn(ctx, s.start,
			s.observing(&Usage{}, "warming up", min(warmUp, s.duration)), s.observing(&s.result.Before, "before", comparison),
			s.harming(badlink.Troubles[kind][number]), s.timed(s.observing(&s.result.During, s.name, s.duration)),
			then(func() { s.compareUsage(kind == "slow", waiting) }), s.heal, s.drain)
	}
}

// quota is room for all that is published, in MiB, so that the spool never fills.
func (s *stage) quota() int {
	const record = 700 // bytes, of a plain event with its headers
	return 128 + int(s.rate*(s.duration+warmUp+comparison).Seconds())*record>>20*5/4
}

// compareUsage holds what app-offload takes against what it took before. ringed says that the ring of fresh records may fill: it then
// takes its size, the places of so many small records and the garbage of both.
func (s *stage) compareUsage(ringed bool, waiting float64) {
	b, d := s.result.Before, s.result.During
	if ringed {
		s.bounds(atMost("MiB of RSS while it lasted, above before (most)", float64(d.RSS-b.RSS)/(1<<20), 3*float64(spool.DefaultConfig().RingMiB)))
	} else {
		s.bounds(
			atMost("RSS while it lasted, times before (most)", float64(d.RSS)/float64(b.RSS), 1.1),
			atMost("RSS while it lasted, times before (mean)", float64(d.Mean)/float64(b.Mean), 1.1),
		)
	}
	s.bounds(
		atMost("goroutines while it lasted, times before", float64(d.Goroutines)/float64(b.Goroutines), 1.1),
		atLeast("rate of the intake, times that of the publisher", d.Rate/d.Published, 0.98),
		atMost("s of traffic that the intake was behind", d.Behind, 2),
		atLeast("tasks that wait at the end, times those that came in", float64(d.Spooled)/(d.Published*s.result.Seconds), waiting),
	)
}

// backlogShare is the share of the link that Batch.BacklogShare keeps for a backlog unless it is told otherwise.
const backlogShare = 0.3

// busy is the share of the narrow link that fresh events need.
const busy = 0.5

// backlog starts app-offload with a spool full of records and lets them leave beside fresh events. What is asked:
//
//  1. From its start to its readiness app-offload needs less than 2 s.
//  2. While the backlog leaves, 99 of 100 fresh events are receipted within twice the time that they need without one,
//     over the same link, which fresh events alone fill to a half.
//  3. Meanwhile the backlog gets at least its share of the link.
//  4. Afterwards all drains, nothing is lost and nothing is doubled.
func (s *stage) backlog(ctx context.Context) error {
	s.env = []string{
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", s.backlogQuota()),
		"OFFLOAD_EXPORT_BACKOFFMIN=100ms", "OFFLOAD_EXPORT_BACKOFFMAX=500ms",
	}
	var alone, beside float64
	return inTurn(ctx, s.start, s.narrow, s.observing(&s.result.Before, "settling on the narrow link", 5*time.Second),
		s.measuring(&alone, "without a backlog"), s.restartWithBacklog, s.connect, s.timed(s.besideBacklog(&beside)),
		then(func() {
			s.bounds(
				figure("ms, p99 without a backlog", alone*1e3),
				figure("ms, p99 beside the backlog", beside*1e3),
				atMost("p99 beside the backlog, times without", beside/alone, 2),
				atLeast("share of the link that the backlog got", s.left*s.wire/(s.width*s.result.Seconds), backlogShare),
			)
		}), s.heal, s.drain)
}

func (s *stage) backlogQuota() int {
	const record = 1 << 10 // bytes, ample
	return 512 + s.records*record>>20*5/4
}

// narrow measures what an event needs on the wire, and makes the link so narrow that the events fill the half of it.
func (s *stage) narrow(ctx context.Context) error {
	if err := s.observing(&Usage{}, "measuring the wire", 5*time.Second)(ctx); err != nil {
		return err
	}
	st, err := s.ask(ctx)
	if err != nil {
		return err
	}
	s.wire = float64(st.Export.Bytes) / float64(st.Export.Receipted)
	s.width = s.wire * s.rate / busy
	s.say("an event needs %.0f bytes on the wire; the link carries %.0f KB/s", s.wire, s.width/1e3)
	return s.narrowed(ctx)
}

func (s *stage) narrowed(context.Context) error {
	return s.link.Harm(badlink.Trouble{Up: badlink.Flow{Rate: s.width}})
}

// restartWithBacklog ends app-offload, fills its spool, and starts it again while the link is down.
func (s *stage) restartWithBacklog(ctx context.Context) error {
	begin := time.Now()
	err := s.quietly(s.arrived, s.stopEdge, s.fill, s.cut, then(func() { begin = time.Now() }), s.startEdge, s.awaitEdge)(ctx)
	ready := time.Since(begin)
	s.bounds(atMost("s from start to ready", ready.Seconds(), 2))
	s.say("ready after %.2f s with %d records in the spool", ready.Seconds(), s.records)
	return err
}

// fill puts events into the spool as app-offload would have, had they been published while the link was down.
func (s *stage) fill(context.Context) error {
	begin := time.Now()
	cfg := spool.DefaultConfig()
	cfg.QuotaMiB = s.backlogQuota()
	sp, err := spool.Open(s.edge.Load().Spool(), cfg)
	if err != nil {
		return err
	}
	p := s.publisher
	from := p.accepted()
	p.sent.Add(int64(s.records))
	const group = 1000
	class := &task.Class{Name: "default", Priority: 5}
	for n := from; n < from+s.records && err == nil; n += group {
		records := make([]spool.Record, min(group, from+s.records-n))
		for i := range records {
			records[i] = s.record(n+i, class)
		}
		stored := make(chan error, 1)
		sp.Append(records, func(err error) { stored <- err })
		err = <-stored
	}
	if err != nil {
		return fmt.Errorf("filling the spool: %w", err)
	}
	p.acked.Add(int64(s.records))
	s.database.from, s.database.to = from, from+s.records
	s.say("%d records are in the spool after %.1f s", s.records, time.Since(begin).Seconds())
	return sp.Close()
}

func (s *stage) record(n int, class *task.Class) spool.Record {
	e, now := s.publisher.event(n), time.Now().UnixNano()
	t := task.Task{
		EventID: e.ID, Device: e.Device, Profile: e.Profile, Source: e.Source, Origin: e.Origin, Received: now, Of: 1,
		Class: class, Encoding: task.JSON, Data: s.publisher.raw(n), Policy: "cloud",
	}
	return spool.Record{Lane: class.Priority, Class: class.Name, Time: now, Payload: t.Append(nil)}
}

// connect gives the link back, narrow, and waits until app-offload uses it.
func (s *stage) connect(ctx context.Context) error {
	return inTurn(ctx, s.narrowed, func(ctx context.Context) error {
		return until(ctx, patience, "the link is up again", func() (bool, error) {
			st, err := s.ask(ctx)
			return err == nil && st.Link.Up, nil
		})
	})
}

// besideBacklog measures fresh events while the backlog leaves, and how much of it does.
func (s *stage) besideBacklog(p99 *float64) step {
	before := 0
	return script(s.readDatabase, then(func() { before = s.database.inside }), s.measuring(p99, "beside the backlog"), s.readDatabase, then(func() {
		s.left = float64(s.database.inside - before)
		s.say("%.0f records of the backlog have left", s.left)
	}))
}

func (s *stage) readDatabase(ctx context.Context) error { return s.database.read(ctx) }
