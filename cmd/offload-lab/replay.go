package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"app-offload/cmd/offload-lab/internal/replay"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// measures are the measures of outcomes.
func measures() map[string]replay.Measure {
	return map[string]replay.Measure{
		"cost":   recordCost,
		"time":   func(r *decision.Record) float64 { return r.Waited.Seconds() + r.Outcome.Time },
		"miss":   func(r *decision.Record) float64 { return bit(!r.Outcome.Met) },
		"bytes":  func(r *decision.Record) float64 { return float64(r.Outcome.Bytes) },
		"joules": func(r *decision.Record) float64 { return r.Outcome.Energy },
	}
}

func bit(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

// recordCost is the cost J of the outcome with the simulator's weights. A task without a deadline uses the configured patience.
func recordCost(r *decision.Record) float64 {
	weights := sim.DefaultConfig().Cost
	deadline := r.Deadline.Seconds()
	took := r.Waited.Seconds() + r.Outcome.Time
	if deadline == 0 {
		deadline = policy.DefaultConfig().CostPatience
		weights.Miss = 0
	}
	return weights.Of(took, deadline, r.Outcome.Energy, r.Decision.Target == decision.Cloud)
}

// replayVerb evaluates policies on recorded decisions.
func replayVerb(ctx context.Context, args []string) error {
	fs := flags("replay")
	names := fs.String("policies", defaultReplayed(), "policies to evaluate, separated by commas")
	measure := fs.String("measure", "cost", "mean per task to estimate: cost (J), time (s), miss (share of deadlines), bytes (on the wire) or joules (J)")
	weights := fs.String("weights", "", "file with the network of policy ppo; default the shipped one")
	asJSON := fs.Bool("json", false, "one JSON object per policy and line instead of a table")
	if err := fs.Parse(args); err != nil {
		return err
	}
	by, ok := measures()[*measure]
	if !ok {
		return fmt.Errorf("-measure %q: use cost, time, miss, bytes or joules", *measure)
	}
	c := policies()
	if *weights != "" {
		c.PPOWeights, c.Default = *weights, "ppo" // as the default it must exist
	}
	log, err := newLog(*names, by, c)
	if err != nil {
		return err
	}
	if err := readLogs(ctx, fs.Args(), log); err != nil {
		return err
	}
	results, err := log.Evaluate()
	if err != nil {
		return err
	}
	if s := log.Skipped(); s.Unknown+s.Failed > 0 {
		fmt.Fprintf(os.Stderr, "skipped: %d decisions without an outcome yet, %d failed ones\n", s.Unknown, s.Failed)
	}
	if *asJSON {
		return printLines(os.Stdout, results)
	}
	return printReplay(os.Stdout, *measure, results)
}

// defaultReplayed lists every policy.
func defaultReplayed() string {
	var names []string
	for _, info := range policy.List() {
		names = append(names, info.Name)
	}
	return strings.Join(names, ",")
}

func newLog(names string, by replay.Measure, c policy.Config) (*replay.Log, error) {
	var policies []policy.Policy
	for name := range strings.SplitSeq(names, ",") {
		p, err := policy.New(strings.TrimSpace(name), c)
		if err != nil {
			return nil, fmt.Errorf("-policies: %w", err)
		}
		policies = append(policies, p)
	}
	return replay.NewLog(by, policies, c)
}

func readLogs(ctx context.Context, files []string, log *replay.Log) error {
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		if err := readLog(ctx, name, log); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func readLog(ctx context.Context, name string, log *replay.Log) error {
	var in io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	for r, err := range decision.ReadRecords(in) {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		log.Add(r)
	}
	return nil
}

func printReplay(to io.Writer, measure string, results []replay.Result) error {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "policy\t%s by DR\t95 %%\tby IPS\t95 %%\tSNIPS\teffective\tof\tagrees\tcloud\tunsupported\t\n", measure)
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%.4g\t%.4g – %.4g\t%.4g\t%.4g – %.4g\t%.4g\t%.0f\t%d\t%.1f %%\t%.1f %%\t%.1f %%\t\n", r.Policy,
			r.DR.Mean, r.DR.CI95[0], r.DR.CI95[1], r.IPS.Mean, r.IPS.CI95[0], r.IPS.CI95[1], r.SNIPS,
			r.EffectiveSamples, r.Records, 100*r.Agreement, 100*r.CloudShare, 100*r.Unsupported)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		for _, w := range r.Warnings {
			fmt.Fprintf(to, "%s: %s\n", r.Policy, w)
		}
	}
	return nil
}
