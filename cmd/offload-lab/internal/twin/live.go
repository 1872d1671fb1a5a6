package twin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/badlink"
)

// Setting is a gateway with its link and load, for Live.
type Setting struct {
	Name     string
	About    string        // one line for the table
	Rate     float64       // of the link, bytes/s
	RTT      time.Duration // of the link
	PerKB    time.Duration // CPU time of local work per KB of a task's record, unless a model does it
	Gap      time.Duration // mean interval between two tasks
	Deadline time.Duration
	Outage   [2]float64 // shares of the tasks between which the link is cut; equal means no outage
}

// Settings are the four settings of the documentation. Tasks are 2–20 KB on the link, 6–60 KB as records.
func Settings() []Setting {
	const rtt, deadline = 40 * time.Millisecond, 2 * time.Second
	even := Setting{
		Name: "even", About: "link 20 KB/s, local work 10 ms/KB", Rate: 20e3, RTT: rtt, PerKB: 10 * time.Millisecond, Gap: 472 * time.Millisecond, Deadline: deadline,
	}
	outage := even
	outage.Name, outage.About, outage.Outage = "outage", "as even; the link is cut for a fifth of the time", [2]float64{0.35, 0.55}
	return []Setting{
		even,
		{
			Name: "fast-link", About: "link 100 KB/s, local work 20 ms/KB", Rate: 100e3, RTT: rtt, PerKB: 20 * time.Millisecond,
			Gap: 400 * time.Millisecond, Deadline: deadline,
		},
		{
			Name: "fast-cpu", About: "link 10 KB/s, local work 5 ms/KB", Rate: 10e3, RTT: rtt, PerKB: 5 * time.Millisecond,
			Gap: 500 * time.Millisecond, Deadline: deadline,
		},
		outage,
	}
}

// LiveConfig is an experiment that compares policies in the running system.
type LiveConfig struct {
	Bin, Res, Dir string // as in package stack
	Log           io.Writer
	Progress      func(string)

	Settings []Setting
	Policies []string // names as in judge.Field
	Rounds   int
	Tasks    int // per round
	Probes   int // single tasks before, per path and round
	Devices  int // number of devices that send the tasks in turn
	Seed     uint64
}

// Validate reports every problem.
func (c *LiveConfig) Validate() error {
	var problems []error
	for _, k := range []struct {
		name             string
		value, low, high int
	}{{"-rounds", c.Rounds, 1, 100}, {"-tasks", c.Tasks, 10, 100_000}, {"-probes", c.Probes, 3, 1000}, {"-devices", c.Devices, 1, 10_000}} {
		if k.value < k.low || k.value > k.high {
			problems = append(problems, fmt.Errorf("%s %d: must be within %d–%d", k.name, k.value, k.low, k.high))
		}
	}
	if len(c.Settings) == 0 || len(c.Policies) == 0 {
		problems = append(problems, errors.New("needs at least one setting and one policy"))
	}
	return errors.Join(append(problems, known(c.Policies))...)
}

// known names the policies that do not exist.
func known(names []string) error {
	var problems []error
	for _, name := range names {
		_, err := configured(name)
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}

// Live runs the same tasks through the service under each policy, one policy after the other in each round, so that all of them meet the same
// variations of the machine, and simulates each run under the same policy.
func Live(ctx context.Context, c LiveConfig) ([]Standing, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	played, err := c.playAll(ctx)
	if err != nil {
		return nil, err
	}
	var all []Standing
	for i := range c.Settings {
		standings, err := c.judge(&c.Settings[i], played)
		if err != nil {
			return nil, err
		}
		all = append(all, standings...)
	}
	return all, nil
}

// playAll runs every round, or those before ctx ends, by setting and policy.
func (c *LiveConfig) playAll(ctx context.Context) (map[[2]string][][]lived, error) {
	played := map[[2]string][][]lived{}
	for round := range c.Rounds {
		for i := range c.Settings {
			s := &c.Settings[i]
			for _, name := range c.Policies {
				began := time.Now()
				all, err := c.play(ctx, s, name, round)
				if ctx.Err() != nil && len(played) > 0 {
					c.Progress("interrupted: the completed runs count")
					return played, nil
				}
				if err != nil {
					return nil, fmt.Errorf("setting %s, policy %s, round %d: %w", s.Name, name, round+1, err)
				}
				played[[2]string{s.Name, name}] = append(played[[2]string{s.Name, name}], all)
				c.Progress(fmt.Sprintf("round %d of %d, %s under %s took %v", round+1, c.Rounds, s.Name, name, time.Since(began).Round(time.Second)))
			}
		}
	}
	return played, nil
}

// judge summarizes a setting. The time of a single task is estimated from the single tasks of all runs, since few of them would depend on other work
// of the machine.
func (c *LiveConfig) judge(s *Setting, played map[[2]string][][]lived) ([]Standing, error) {
	var single []lived
	var crowds [][]lived
	for _, name := range c.Policies {
		for _, all := range played[[2]string{s.Name, name}] {
			single = append(single, pick(all, func(t *lived) bool { return t.probe })...)
			crowds = append(crowds, all)
		}
	}
	if len(single) == 0 {
		return nil, nil // interrupted before it
	}
	g, err := (&Config{Rate: s.Rate}).measure(together(single))
	if err != nil {
		return nil, fmt.Errorf("setting %s: %w", s.Name, err)
	}
	g.devices = c.Devices
	g.carried(crowds)
	var standings []Standing
	for _, name := range c.Policies {
		var runs []run
		for round, all := range played[[2]string{s.Name, name}] {
			r, err := g.run(s, name, c.Seed+uint64(round), all) //nolint:gosec // rounds are not negative
			if err != nil {
				return nil, fmt.Errorf("setting %s, policy %s, round %d: %w", s.Name, name, round+1, err)
			}
			runs = append(runs, r)
		}
		if len(runs) > 0 {
			standings = append(standings, standing(s, name, runs))
		}
	}
	return standings, nil
}

// play runs one round of one policy with its own service and consumer.
func (c *LiveConfig) play(ctx context.Context, s *Setting, name string, round int) ([]lived, error) {
	dir := filepath.Join(c.Dir, fmt.Sprintf("%s-%s-%d", s.Name, name, round+1))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making a folder for the run: %w", err)
	}
	broker, err := stack.StartBroker()
	if err != nil {
		return nil, err
	}
	defer broker.Stop()
	way, err := newLink(broker.Addr, s.Rate, s.RTT)
	if err != nil {
		return nil, err
	}
	defer way.Close()
	contestant, err := configured(name)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(dir, decisions)
	env := append(s.environment(way.Addr, log, c.Seed+uint64(round)), contestant...)
	st, err := stack.Start(ctx, stack.Config{
		Bin: c.Bin, Res: c.Res, Dir: dir, Log: c.Log, Bus: stack.Bus{Type: "mqtt", Addr: broker.Addr}, Cloud: broker.Addr, Env: env,
	})
	if err != nil {
		return nil, err
	}
	p := &publisher{stack: st, broker: broker, link: way, patience: drains, passed: map[string]passed{}}
	tasks := c.draw(s, way, round)
	return p.play(ctx, tasks, c.Seed+uint64(round), log)
}

// environment configures the service as the gateway of the setting. Everything else is as shipped: batches, windows, beliefs about node and link.
func (s *Setting) environment(link, log string, seed uint64) []string {
	burn := fmt.Sprintf("burn clock=elapsed each=%v", time.Duration(float64(s.PerKB)*textBytes/1024))
	env := []string{
		"OFFLOAD_EXPORT_BROKER=tcp://" + link, "OFFLOAD_DECISIONLOG=" + log, "OFFLOAD_SEAL_FORM=protobuf",
		"OFFLOAD_LOCAL_WORKERS=1", "OFFLOAD_LOCAL_OPERATORS=" + burn,
		fmt.Sprintf("OFFLOAD_WRITABLE_POLICY_RANDOMSEED=%d", seed),
		"OFFLOAD_WRITABLE_CLASSES_VIBRATION_POLICY=edge", "OFFLOAD_WRITABLE_CLASSES_CAMERA_POLICY=cloud",
		"OFFLOAD_WRITABLE_CLASSES_VIBRATION_OPERATORS=", "OFFLOAD_WRITABLE_CLASSES_CAMERA_OPERATORS=",
		fmt.Sprintf("OFFLOAD_WRITABLE_CLASSES_DEFAULT_DEADLINE=%v", s.Deadline),
	}
	for _, class := range []string{"DEFAULT", "VIBRATION", "CAMERA"} {
		env = append(env, "OFFLOAD_WRITABLE_CLASSES_"+class+"_CHUNKSIZE=-1")
	}
	return env
}

const (
	textBytes   = 12               // bytes of one value in the text of an event, which determine the size of a record
	liveLeastKB = 2                // of a task on the link
	liveMostKB  = 20               //
	liveSeed    = 0x6c6976         // separates the draws from those of other experiments
	drains      = 15 * time.Minute // by then the remaining tasks of any policy are done
)

// draw returns the tasks of a round, the same for every policy.
func (c *LiveConfig) draw(s *Setting, way *link, round int) []sent {
	rng := rand.New(rand.NewPCG(c.Seed+uint64(round), liveSeed))
	var all []sent
	add := func(profile, device string, size float64, after time.Duration) {
		values := int((liveLeastKB + (liveMostKB-liveLeastKB)*size) * 1e3 / valueBytes)
		all = append(all, sent{id: randomID(rng), profile: profile, device: device, values: values, after: after})
	}
	for i := range c.Probes { // of increasing size, since a few drawn ones might all be small
		size := (float64(i) + 0.5) / float64(c.Probes)
		add(hereProfile, "single", size, 0)
		add(cloudProfile, "single", size, 0)
	}
	for i := range c.Tasks {
		add(bothProfile, fmt.Sprintf("device-%d", i%c.Devices), rng.Float64(), time.Duration(float64(s.Gap)*rng.ExpFloat64()))
	}
	if from, to := s.Outage[0], s.Outage[1]; to > from {
		first := 2 * c.Probes
		all[first+int(from*float64(c.Tasks))].link = way.cut
		all[first+int(to*float64(c.Tasks))].link = way.restore
	}
	return all
}

// run is one policy in one round.
type run struct {
	measured, simulated []outcome
	parts               [2]part // local and cloud, simulated with the policy's own decisions
}

// outcome is the outcome of one task.
type outcome struct {
	took, joules float64
	cloud, late  bool
}

// taskPiece is the minimum size of a piece of a task in bytes; acknowledgements and pings are smaller.
const taskPiece = 1000

// link is a proxy to the broker with an uplink rate and a round trip, which counts the entering bytes.
type link struct {
	*badlink.Link
	shape badlink.Trouble

	carried atomic.Int64 // bytes towards the broker
	entered atomic.Int64 // ns since the Unix epoch when the first piece of a task entered; 0 resets it
}

// newLink opens a link with a rate in bytes/s towards the broker, 0 means unlimited.
func newLink(upstream string, rate float64, rtt time.Duration) (*link, error) {
	l := &link{}
	var err error
	if l.Link, err = badlink.Observed(upstream, l.observe); err != nil {
		return nil, fmt.Errorf("starting the proxy to the broker: %w", err)
	}
	l.shape = badlink.Trouble{
		Up:   badlink.Flow{Rate: rate, Distance: rtt / 2},
		Down: badlink.Flow{Distance: rtt / 2},
	}
	if err := l.restore(); err != nil {
		l.Close()
		return nil, fmt.Errorf("shaping the link: %w", err)
	}
	return l, nil
}

// cut interrupts the link, and restore restores its rate and round trip.
func (l *link) cut() error     { return l.Harm(badlink.Trouble{Cut: true}) }
func (l *link) restore() error { return l.Harm(l.shape) }

func (l *link) observe(bytes int, at time.Time) {
	l.carried.Add(int64(bytes))
	if bytes >= taskPiece {
		l.entered.CompareAndSwap(0, at.UnixNano())
	}
}

// passed is the observation of a single task on the link.
type passed struct {
	bytes   int64
	entered int64 // ns since the Unix epoch
}

// watch begins to observe the next task; the returned function returns the figures once the task is done.
func (l *link) watch() func() passed {
	before := l.carried.Load()
	l.entered.Store(0)
	return func() passed { return passed{l.carried.Load() - before, l.entered.Load()} }
}
