package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"app-offload/cmd/offload-lab/internal/twin"
)

// playLoads is live with -loads.
func playLoads(ctx context.Context, c twin.LoadConfig, asJSON bool) error {
	all, err := twin.Loads(ctx, c)
	if err != nil {
		return err
	}
	if asJSON {
		return printLines(os.Stdout, all)
	}
	if len(all) > 0 {
		fmt.Printf("The gateway alone computes %.1f tasks a second; deadline %v, link %.0f Mbit/s and %v, %v a run.\n\n", all[0].Capacity, c.Deadline, c.Rate*8e-6, c.RTT, c.Duration)
	}
	fmt.Println("| load | policy | tasks | late | mean, s | p99, s | local | accuracy | unanswered | cost | simulated late | mean, s | p99, s | cost | cost off |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range all {
		fmt.Printf("| %g × | %s | %d | %.1f %% | %.3f | %.2f | %.0f %% | %.1f %% | %d | %.3f | %.1f %% | %.3f | %.2f | %.3f | %+.0f %% |\n", s.Load, s.Policy, s.Tasks, 100*s.Late, s.Mean, s.P99,
			100*s.Local, 100*s.Accuracy, s.Unanswered, s.Cost, 100*s.Simulated.Late, s.Simulated.Mean, s.Simulated.P99, s.SimulatedCost, 100*(s.SimulatedCost/s.Cost-1))
	}
	return nil
}

// numbers reads a list that commas separate; "" is an empty one.
func numbers(name, text string) (list []float64, err error) {
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil, fmt.Errorf("-%s %q: %q is not a number", name, text, word)
		}
		list = append(list, v)
	}
	return list, nil
}

// given reports whether a flag was given.
func given(fs *flag.FlagSet, name string) (yes bool) {
	fs.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}
