package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/cmd/offload-lab/internal/together"
	"app-offload/functions/fleet"
	"app-offload/functions/policy"
)

// federateVerb prints one table per policy.
func federateVerb(ctx context.Context, args []string) error {
	fs := flags("federate")
	data := fs.String("data", "", "folder with recordings in link/, rtt/ and nab/, plain or .tar.gz; default a synthetic set")
	names := fs.String("policies", "defer,cost,bandit", "policies, separated by commas")
	t := together.Trial{Config: fleet.DefaultConfig()}
	fs.IntVar(&t.Nodes, "nodes", 8, "gateways per fleet")
	fs.IntVar(&t.Fleets, "fleets", 20, "fleets")
	fs.IntVar(&t.Newcomers, "newcomers", 4, "new gateways per fleet and start (alone, fleet, hostile)")
	fs.Uint64Var(&t.Seed, "seed", 1, "seed of the fleets")
	fs.Float64Var(&t.Epsilon, "epsilon", 0, "ε of the noise, with δ 1e-6; 0 adds no noise")
	fs.Float64Var(&t.Config.Weight, "weight", t.Config.Weight, "weight of the prior, in outcomes")
	if err := parse(fs, args); err != nil {
		return err
	}
	if t.Nodes < fleet.DefaultTerms().Least || t.Fleets < 1 || t.Newcomers < 1 || t.Newcomers > 400 || t.Nodes > 400 {
		return fmt.Errorf("-nodes %d -fleets %d -newcomers %d: must be 3 to 400 nodes, at least one fleet, and 1 to 400 newcomers", t.Nodes, t.Fleets, t.Newcomers)
	}
	terms := fleet.DefaultTerms()
	terms.Epsilon = t.Epsilon
	err := errors.Join(terms.Validate(), t.Config.Validate())
	for name := range strings.SplitSeq(*names, ",") {
		err = errors.Join(err, policy.Known(strings.TrimSpace(name)))
	}
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		into **sim.World
	}{{"learn", &t.Learn}, {"judge", &t.Judge}} {
		set, err := recordings(*data, part.name)
		if err != nil {
			return err
		}
		c := sim.DefaultConfig()
		c.Unknown = sim.Unknown{Kind: 0.7, Task: 0.3}
		if *part.into, err = sim.NewWorld(c, set); err != nil {
			return err
		}
	}
	for name := range strings.SplitSeq(*names, ",") {
		t.Policy = strings.TrimSpace(name)
		r, err := t.Run(ctx)
		if err != nil {
			return err
		}
		if err := printTogether(t.Policy, r); err != nil {
			return err
		}
	}
	return nil
}

func printTogether(name string, r *together.Result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\t", name)
	for _, first := range together.Firsts {
		fmt.Fprintf(w, "first %d\tless\t", first)
	}
	fmt.Fprintln(w)
	for start, how := range together.Starts {
		fmt.Fprintf(w, "%s\t", how)
		for first := range together.Firsts {
			mean, less, ci := r.Mean(start, first)
			if start == 0 {
				fmt.Fprintf(w, "%.3f\t\t", mean)
				continue
			}
			fmt.Fprintf(w, "%.3f\t%.3f ± %.3f\t", mean, less, ci)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}
