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

// ScenarioConfig selects a scenario and its size. 0 means the scenario's default.
type ScenarioConfig struct {
	Name     string
	Bin, Res string // folders with the binaries and with configuration.yaml
	Dir      string // folder for all files
	Seed     uint64
	Duration time.Duration // of the fault
	Rate     float64       // events per second
	Records  int           // of a backlog
	Out      io.Writer

	pace time.Duration // see Config
}

// Validate checks the configuration. An empty name is valid.
func (c *ScenarioConfig) Validate() error {
	var err error
	if c.Name != "" && !slices.ContainsFunc(scenarios(), func(sc scenario) bool { return sc.name == c.Name }) {
		err = fmt.Errorf("no scenario %q; the scenarios are:\n%s", c.Name, ScenarioNames())
	}
	if c.Duration < 0 || c.Records < 0 {
		err = errors.Join(err, fmt.Errorf("-duration %v and -records %d must not be below 0", c.Duration, c.Records))
	}
	return err
}

// ScenarioReport is the result of a scenario. Lost and Doubled are counted as in Report.
type ScenarioReport struct {
	Scenario  string           `json:"scenario"`
	Seed      uint64           `json:"seed"`
	Rate      float64          `json:"rate"`            // events published per second
	Seconds   float64          `json:"seconds"`         // duration of the fault
	Published int              `json:"published"`       // events acknowledged by the MessageBus
	Stored    int              `json:"stored"`          // tasks in the consumer's database
	Lost      int              `json:"lost"`            //
	Doubled   int              `json:"doubled"`         //
	Drain     float64          `json:"drain,omitempty"` // s from the end of the fault until everything had arrived
	Before    Usage            `json:"before,omitzero"` // of app-offload, before the fault
	During    Usage            `json:"during,omitzero"` // and during it
	Dropped   map[string]int64 `json:"dropped,omitempty"`
	Bounds    []Bound          `json:"bounds"`
	Broken    []string         `json:"broken,omitempty"` // violated bounds and invariants
}

// Bound is a figure with an optional limit.
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

// figure is reported without a limit.
func figure(what string, have float64) Bound { return Bound{What: what, Have: rounded(have)} }

// rounded keeps four decimals.
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

// scenario is one lasting fault, instead of many short ones.
type scenario struct {
	name, what string
	duration   time.Duration
	rate       float64
	records    int
	play       func(s *stage, ctx context.Context) error
}

// scenarios lists all scenarios.
func scenarios() []scenario {
	return []scenario{
		{"hung", "the broker accepts connections and never answers; memory, goroutines and intake stay the same, then everything drains", 10 * time.Minute, 2000, 0, outage("stall", 2, 0.9)},
		{"dead", "the broker refuses connections; same requirements", 5 * time.Minute, 2000, 0, outage("cut", 0, 0.9)},
		{"slow", "the link is slower than the intake; same requirements, except for the memory of the ring", 5 * time.Minute, 2000, 0, outage("slow", 0, 0.2)},
		{"backlog", "a start with a large backlog, which drains together with fresh events over a slow link", time.Minute, 200, 1_000_000, (*stage).backlog},
		{"gone", "the consumer is absent for far longer than quota and TTL allow; each drop is counted by reason and class", 3 * time.Minute, 500, 0, (*stage).gone},
		{"full-disk", "the disk of the spool is full before its quota, then has space again (needs root to mount)", 30 * time.Second, 500, 0, (*stage).fullDisk},
		{"read-only", "the disk of the spool becomes read-only, then is repaired (needs root to mount)", 20 * time.Second, 200, 0, (*stage).readOnly},
	}
}

// ScenarioNames lists the scenarios with their descriptions for the help.
func ScenarioNames() string {
	var lines []string
	for _, sc := range scenarios() {
		lines = append(lines, fmt.Sprintf("%-10s  %s", sc.name, sc.what))
	}
	return strings.Join(lines, "\n")
}

// stage is the system of a scenario.
type stage struct {
	*system
	scenario
	result *ScenarioReport
	wire   float64      // bytes per event on the link
	width  float64      // of the slow link, in bytes/s
	left   float64      // sent records of the backlog
	counts stack.Counts // the latest counts received
	before stack.Counts // counts of an earlier process that it could not persist
	heard  int64        // and the events that it received
}

// RunScenario runs one scenario. Its error lists the violated bounds; the report is valid in both cases.
func RunScenario(ctx context.Context, cfg ScenarioConfig) (*ScenarioReport, error) {
	all := scenarios()
	i := slices.IndexFunc(all, func(sc scenario) bool { return sc.name == cfg.Name })
	if i < 0 {
		return nil, fmt.Errorf("no scenario %q; the scenarios are:\n%s", cfg.Name, ScenarioNames())
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

// judge completes the report. It returns an error if a bound or an invariant is violated.
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

// timed runs the steps and records their time as the duration of the fault.
func (s *stage) timed(steps ...step) step {
	return func(ctx context.Context) error {
		begin := time.Now()
		err := inTurn(ctx, steps...)
		s.result.Seconds = rounded(time.Since(begin).Seconds())
		return err
	}
}

// drain waits until everything has arrived, stops the processes and inspects their files.
func (s *stage) drain(ctx context.Context) error {
	begin := time.Now()
	err := inTurn(ctx, then(s.publisher.stop), s.publisher.settled, then(func() {
		s.say("%d events published; waiting for all to arrive", s.publisher.accepted())
	}), s.arrived)
	s.result.Drain = rounded(time.Since(begin).Seconds())
	if err != nil {
		return err
	}
	return s.leave(ctx)
}

// How long app-offload runs before the measurement, and how long the reference is then measured. By then caches are filled and the heap has its final
// size.
const (
	warmUp     = time.Minute
	comparison = 30 * time.Second
)

// outage is a scenario with one lasting fault of the link. Requirements:
//
//  1. Memory and goroutines of app-offload are within a tenth of their values before. On a link that still transmits, memory may grow by the
//     configured ring of fresh records.
//  2. The intake does not wait for the broker: events are received at the rate of publication.
//  3. Afterwards everything drains; nothing is lost and nothing is duplicated.
//
// It also checks that the fault was effective: at its end at least the share waiting of the events received meanwhile is in the spool.
func outage(kind string, number int, waiting float64) func(*stage, context.Context) error {
	return func(s *stage, ctx context.Context) error {
		s.env = []string{"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", s.quota())}
		return inTurn(ctx, s.start,
			s.observing(&Usage{}, "warming up", min(warmUp, s.duration)), s.observing(&s.result.Before, "before", comparison),
			s.harming(badlink.Troubles[kind][number]), s.timed(s.observing(&s.result.During, s.name, s.duration)),
			then(func() { s.compareUsage(kind == "slow", waiting) }), s.heal, s.drain)
	}
}

// quota is enough space for all published events, in MiB, so that the spool never fills.
func (s *stage) quota() int {
	const record = 700 // bytes of a plain event with its headers
	return 128 + int(s.rate*(s.duration+warmUp+comparison).Seconds())*record>>20*5/4
}

// compareUsage compares app-offload's usage with that before the fault. ringed means that the ring of fresh records may fill: it then takes its size,
// its slots for many small records, and the garbage of both.
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

// backlogShare is the default of Batch.BacklogShare: the share of the link reserved for a backlog.
const backlogShare = 0.3

// busy is the share of the slow link used by fresh events.
const busy = 0.5

// backlog starts app-offload with a spool full of records and drains them together with fresh events. Requirements:
//
//  1. app-offload is ready within 2 s of its start.
//  2. While the backlog drains, 99 of 100 fresh events are receipted within twice the time needed without a backlog, over the same link, which fresh
//     events alone use to a half.
//  3. Meanwhile the backlog gets at least its share of the link.
//  4. Afterwards everything drains; nothing is lost and nothing is duplicated.
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
	const record = 1 << 10 // bytes, generous
	return 512 + s.records*record>>20*5/4
}

// narrow measures the bytes per event on the wire, and sets the link's rate so that the events use half of it.
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

// restartWithBacklog stops app-offload, fills its spool, and starts it again while the link is down.
func (s *stage) restartWithBacklog(ctx context.Context) error {
	begin := time.Now()
	err := s.quietly(s.arrived, s.stopEdge, s.fill, s.cut, then(func() { begin = time.Now() }), s.startEdge, s.awaitEdge)(ctx)
	ready := time.Since(begin)
	s.bounds(atMost("s from start to ready", ready.Seconds(), 2))
	s.say("ready after %.2f s with %d records in the spool", ready.Seconds(), s.records)
	return err
}

// fill writes events into the spool as app-offload would have for events published while the link was down.
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
	s.say("%d records in the spool after %.1f s", s.records, time.Since(begin).Seconds())
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

// connect restores the link at the slow rate, and waits until app-offload uses it.
func (s *stage) connect(ctx context.Context) error {
	return inTurn(ctx, s.narrowed, func(ctx context.Context) error {
		return until(ctx, patience, "the link is up again", func() (bool, error) {
			st, err := s.ask(ctx)
			return err == nil && st.Link.Up, nil
		})
	})
}

// besideBacklog measures fresh events while the backlog drains, and the part of it that is sent.
func (s *stage) besideBacklog(p99 *float64) step {
	before := 0
	return script(s.readDatabase, then(func() { before = s.database.inside }), s.measuring(p99, "beside the backlog"), s.readDatabase, then(func() {
		s.left = float64(s.database.inside - before)
		s.say("%.0f records of the backlog have left", s.left)
	}))
}

func (s *stage) readDatabase(ctx context.Context) error { return s.database.read(ctx) }
