package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"app-offload/cmd/offload-lab/internal/clairvoyant"
	"app-offload/cmd/offload-lab/internal/judge"
	"app-offload/cmd/offload-lab/internal/oracle"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/trace"
	"app-offload/functions/task"
)

func scenarios() string {
	var b strings.Builder
	for _, s := range sim.Scenarios() {
		fmt.Fprintf(&b, "  %-13s %s\n", s.Name, s.About)
	}
	return b.String()
}

// worldFlags are the flags of all verbs that simulate.
type worldFlags struct {
	data, part, view, scenario string
	overload                   string
	seed                       uint64
	belief                     float64
	devices                    int
}

func (f *worldFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.data, "data", "", "folder with recordings in link/, rtt/ and nab/, plain or .tar.gz; default a synthetic set")
	fs.StringVar(&f.part, "part", "", `recordings of -data to use: "learn", "judge" (every third of a kind, held out) or all`)
	fs.StringVar(&f.view, "view", "", "differences of the gateway's view from the service's, separated by commas: exact, still, uncorrected, unguarded")
	fs.StringVar(&f.scenario, "scenario", "usual", "`name` of the world to simulate")
	fs.Uint64Var(&f.seed, "seed", 1, "seed of the episodes")
	fs.StringVar(&f.overload, "overload", "", "action of all classes while both paths are overloaded: keep, reduce, expire or drop; telemetry has value 8, fft 5, images 2; default set by the scenario")
	fs.IntVar(&f.devices, "devices", 0, "number of devices that send the tasks in turn; parked tasks of a device and class keep their order; 0 keeps no order")
	fs.Float64Var(&f.belief, "belief", 1, "factor by which the gateway overestimates the speed of its node; 1 means the truth, or the scenario's factor")
}

// recordings reads the given part of a folder's recordings, or returns a synthetic set without a folder.
func recordings(data, part string) (*trace.Set, error) {
	set := trace.Synthetic(1, 40, 8, 12)
	if data != "" {
		var err error
		if set, err = trace.Read(data); err != nil {
			return nil, err
		}
	}
	return set.Only(trace.Part(part))
}

// world reads the recordings, and lists the skipped files of the folder on stderr.
func (f *worldFlags) world() (*sim.World, error) {
	if !(f.belief >= 0.001 && f.belief <= 1000) {
		return nil, fmt.Errorf("-belief %g: must be within 0.001 and 1000", f.belief)
	}
	set, err := recordings(f.data, f.part)
	if err != nil {
		return nil, err
	}
	for _, why := range set.Skipped {
		fmt.Fprintln(os.Stderr, "skipped", why)
	}
	c, err := sim.ScenarioOf(f.scenario)
	if err != nil {
		return nil, fmt.Errorf("-scenario: %w", err)
	}
	if c.View, err = sim.ViewOf(f.view); err != nil {
		return nil, fmt.Errorf("-view: %w", err)
	}
	if c.Devices = f.devices; c.Devices < 0 {
		return nil, fmt.Errorf("-devices %d: must be at least 0", f.devices)
	}
	switch f.overload {
	case "":
	case task.OverloadKeep, task.OverloadReduce, task.OverloadExpire, task.OverloadDrop:
		c.Overload = f.overload
	default:
		return nil, fmt.Errorf("-overload %s: must be one of keep, reduce, expire, drop", f.overload)
	}
	if f.belief != 1 {
		c.Beliefs.Edge = f.belief
	}
	return sim.NewWorld(c, set)
}

// tailFlags defines the flags for the extra cost of long completion times.
func tailFlags(fs *flag.FlagSet, t *sim.Tail, perSecond float64) {
	fs.Float64Var(&t.PerSecond, "tail", perSecond, "extra cost of a task per second beyond -tail-from; 0 means none")
	fs.Float64Var(&t.From, "tail-from", 10.5, "completion time at which the extra cost starts, s")
	fs.Float64Var(&t.To, "tail-to", 12.5, "completion time at which the extra cost stops growing, s")
}

// checkTail checks the values of tailFlags.
func checkTail(t *sim.Tail) error {
	if !(t.PerSecond >= 0 && t.From >= 0 && t.To >= t.From) || math.IsInf(t.PerSecond+t.To, 1) {
		return fmt.Errorf("-tail %g -tail-from %g -tail-to %g: must be numbers of at least 0, and -tail-to not before -tail-from", t.PerSecond, t.From, t.To)
	}
	return nil
}

// compareVerb prints the leaderboard.
func compareVerb(ctx context.Context, args []string) error {
	var f worldFlags
	fs := flags("compare", "{scenarios}", scenarios())
	f.register(fs)
	episodes := fs.Int("episodes", 100, "number of episodes of 600 tasks; each is drawn from the seed and its number")
	names := fs.String("policies", judge.Default(), "contestants, separated by commas: policies, article, greedy, ppo=FILE for a network and defer=FILE for a rule")
	var tail sim.Tail
	tailFlags(fs, &tail, 0)
	plan := fs.Bool("plan", true, "compute the best plan with waiting, and its bound: some 2 s of CPU time per episode")
	best := fs.Bool("oracle", true, "compute the optimum of immediate decisions; if work exceeds the capacity of node and link, it takes minutes of CPU time per episode")
	asJSON := fs.Bool("json", false, "one JSON object per policy and line instead of a table")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *episodes < 1 {
		return fmt.Errorf("-episodes %d: must be at least 1", *episodes)
	}
	if err := checkTail(&tail); err != nil {
		return err
	}
	w, err := f.world()
	if err != nil {
		return err
	}
	field, err := judge.Field(*names, policies())
	if err != nil {
		return err
	}
	search := clairvoyant.Search{}
	if *plan {
		search = clairvoyant.DefaultSearch()
	}
	atOnce := oracle.DefaultSearch()
	if !*best {
		atOnce, tail = oracle.Search{}, sim.Tail{}
	}
	progress := newBar(os.Stderr, *episodes, 0)
	scores, err := judge.Compare(ctx, w, field, judge.Options{
		Episodes: *episodes, Seed: f.seed, Search: atOnce, Plan: search, Tail: tail, Done: func(done int) { progress.show(done, "episodes") },
	})
	if err != nil {
		return err
	}
	if *asJSON {
		return printLines(os.Stdout, scores)
	}
	return printTable(os.Stdout, scores)
}

func printLines[T any](to io.Writer, all []T) error {
	out := bufio.NewWriter(to)
	lines := json.NewEncoder(out)
	for i := range all {
		if err := lines.Encode(all[i]); err != nil {
			return fmt.Errorf("writing a line: %w", err)
		}
	}
	return out.Flush()
}

func printTable(to io.Writer, scores []judge.Score) error {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "policy\tregret\t95 %\tto plan\tto bound\tcost\tmean T\tp95 T\tin time\tmissed\tcloud\tKB\tJ\tµs\t")
	for _, s := range scores {
		plan, bound := "–", "–"
		if s.RegretToBound != 0 {
			plan, bound = fmt.Sprintf("%.3f", s.RegretToPlan), fmt.Sprintf("%.3f", s.RegretToBound)
		}
		fmt.Fprintf(t, "%s\t%.3f\t%.3f – %.3f\t%s\t%s\t%.3f\t%.2f s\t%.2f s\t%.0f %%\t%.1f %%\t%.0f %%\t%.1f\t%.2f\t%.3f\t\n",
			s.Policy, s.Regret, s.RegretCI95[0], s.RegretCI95[1], plan, bound, s.MeanCost, s.MeanT, s.P95T,
			100*s.InTime, 100*s.MissShare, 100*s.CloudShare, s.BytesPerTask/1024, s.JoulesPerTask, s.DecisionMicros)
	}
	if err := t.Flush(); err != nil || len(scores) == 0 {
		return err
	}
	fmt.Fprintln(to)
	if err := printLoads(to, scores); err != nil {
		return err
	}
	return printShed(to, scores)
}

// printShed prints the dropped and reduced tasks by the value of their class, if there are any.
func printShed(to io.Writer, scores []judge.Score) error {
	at := slices.IndexFunc(scores, func(s judge.Score) bool { return len(s.Shed) > 0 })
	if at < 0 {
		return nil
	}
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "\ngiven up, reduced\t")
	for _, v := range scores[at].Shed {
		fmt.Fprintf(t, "value %d\t", v.Value)
	}
	fmt.Fprintln(t)
	for _, s := range scores {
		if len(s.Shed) == 0 {
			continue
		}
		fmt.Fprintf(t, "%s\t", s.Policy)
		for _, v := range s.Shed {
			fmt.Fprintf(t, "%.1f %%, %.1f %%\t", 100*v.Gone, 100*v.Reduced)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}

// printLoads prints each policy's cost and share of episodes in time by load, below the bound that no plan can beat.
func printLoads(to io.Writer, scores []judge.Score) error {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "cost by load\t")
	for _, l := range scores[0].Loads {
		fmt.Fprintf(t, "%s (%d)\tin time\t", l.Load, l.Episodes)
	}
	fmt.Fprintln(t)
	if scores[0].RegretToBound != 0 {
		fmt.Fprint(t, "bound\t")
		for _, l := range scores[0].Loads {
			fmt.Fprintf(t, "%.3f\t\t", l.Bound)
		}
		fmt.Fprintln(t)
	}
	for _, s := range scores {
		fmt.Fprintf(t, "%s\t", s.Policy)
		for _, l := range s.Loads {
			fmt.Fprintf(t, "%.3f\t%.0f %%\t", l.Cost, 100*l.InTime)
		}
		fmt.Fprintln(t)
	}
	return t.Flush()
}
