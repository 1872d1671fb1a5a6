package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"app-offload/cmd/offload-lab/internal/twin"
)

// liveVerb compares policies in the running system.
func liveVerb(ctx context.Context, args []string) error {
	c := twin.LiveConfig{Rounds: 2, Tasks: 90, Probes: 4, Devices: 30, Seed: 1}
	fs := flags("live")
	fs.StringVar(&c.Bin, "bin", "bin", "`folder` with the binaries of make build")
	fs.StringVar(&c.Res, "res", "res", "folder with configuration.yaml")
	fs.StringVar(&c.Dir, "dir", "", "folder to keep the log and each run's decisions for offload-lab replay; default a temporary folder, in memory if possible")
	fs.IntVar(&c.Rounds, "rounds", c.Rounds, "runs of each policy per setting")
	fs.IntVar(&c.Tasks, "tasks", c.Tasks, "tasks of the dense series per round")
	fs.IntVar(&c.Probes, "probes", c.Probes, "single tasks before it, per target and round")
	fs.IntVar(&c.Devices, "devices", c.Devices, "devices that send the tasks in turn; policies that decide immediately keep each device's order")
	fs.Uint64Var(&c.Seed, "seed", c.Seed, "seed of sizes and arrivals")
	l := twin.DefaultLoadConfig()
	loads := fs.String("loads", "", "multiples of the gateway's own capacity, separated by commas, such as 0.5,1,1.5,2; runs models at both ends")
	fs.StringVar(&l.Models, "models", "res/models", "with -loads, folder of models")
	fs.DurationVar(&l.Duration, "duration", l.Duration, "with -loads, time over which the tasks of a run arrive")
	fs.DurationVar(&l.Work, "work", l.Work, "with -loads, time of a run of the gateway's model")
	fs.DurationVar(&l.Deadline, "deadline", l.Deadline, "with -loads, deadline of a task")
	settings := fs.String("settings", "even,fast-link,fast-cpu,outage", "settings, separated by commas")
	policies := fs.String("policies", "defer,bandit,cost,greedy,random,edge,cloud", "contestants, separated by commas")
	asJSON := fs.Bool("json", false, "JSON lines instead of tables")
	if err := parse(fs, args); err != nil {
		return err
	}
	for name := range strings.SplitSeq(*policies, ",") {
		c.Policies = append(c.Policies, strings.TrimSpace(name))
	}
	if given(fs, "policies") {
		l.Policies = c.Policies
	}
	var err error
	if c.Settings, err = settingsNamed(*settings); err != nil {
		return err
	}
	if l.Loads, err = numbers("loads", *loads); err != nil {
		return err
	}
	log, done, err := logIn(&c.Dir)
	if err != nil {
		return err
	}
	defer done()
	c.Log = log
	c.Progress = func(line string) { fmt.Fprintln(os.Stderr, line) }
	if len(l.Loads) > 0 {
		l.Bin, l.Res, l.Dir, l.Log, l.Progress, l.Probes, l.Seed = c.Bin, c.Res, c.Dir, c.Log, c.Progress, c.Probes, c.Seed
		return playLoads(ctx, l, *asJSON)
	}
	all, err := twin.Live(ctx, c)
	if err != nil {
		return err
	}
	if *asJSON {
		return printLines(os.Stdout, all)
	}
	printLive(all)
	return nil
}

// playLoads implements live with -loads.
func playLoads(ctx context.Context, c twin.LoadConfig, asJSON bool) error {
	all, err := twin.Loads(ctx, c)
	if err != nil {
		return err
	}
	if asJSON {
		return printLines(os.Stdout, all)
	}
	if len(all) > 0 {
		fmt.Printf("The gateway alone computes %.1f tasks per second; deadline %v, link %.0f Mbit/s and %v, %v per run.\n\n", all[0].Capacity, c.Deadline, c.Rate*8e-6, c.RTT, c.Duration)
	}
	fmt.Println("| load | policy | tasks | late | mean, s | p99, s | local | accuracy | unanswered | cost | simulated late | mean, s | p99, s | cost | cost off |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range all {
		fmt.Printf("| %g × | %s | %d | %.1f %% | %.3f | %.2f | %.0f %% | %.1f %% | %d | %.3f | %.1f %% | %.3f | %.2f | %.3f | %+.0f %% |\n", s.Load, s.Policy, s.Tasks, 100*s.Late, s.Mean, s.P99,
			100*s.Local, 100*s.Accuracy, s.Unanswered, s.Cost, 100*s.Simulated.Late, s.Simulated.Mean, s.Simulated.P99, s.SimulatedCost, 100*(s.SimulatedCost/s.Cost-1))
	}
	standings := make([]twin.Standing, len(all))
	for i := range all {
		standings[i] = all[i].Standing
	}
	printParts("load", standings)
	return nil
}

// numbers parses a comma-separated list; "" is empty.
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

// given reports whether a flag was set.
func given(fs *flag.FlagSet, name string) (yes bool) {
	fs.Visit(func(f *flag.Flag) { yes = yes || f.Name == name })
	return yes
}

// settingsNamed finds settings by their names.
func settingsNamed(names string) (all []twin.Setting, err error) {
	known := twin.Settings()
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		i := slices.IndexFunc(known, func(s twin.Setting) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("unknown setting %q: must be some of even, fast-link, fast-cpu, outage", name)
		}
		all = append(all, known[i])
	}
	return all, nil
}

func printLive(all []twin.Standing) {
	fmt.Println("| setting | policy | mean, s | 95 % | p99, s | late | local | J a task | simulated mean, s | off | simulated p99, s |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|")
	for _, s := range all {
		fmt.Printf("| %s | %s | %.2f | %.2f … %.2f | %.1f | %.0f %% | %.0f %% | %.3f | %.2f | %+.0f %% | %.1f |\n", s.Setting, s.Policy, s.Mean,
			max(s.CI95[0], 0), s.CI95[1], s.P99, 100*s.Late, 100*s.Local, s.Joules, s.Simulated.Mean, 100*s.Off, s.Simulated.P99)
	}
	printParts("setting", all)
}

// printParts compares the means of local and cloud tasks with the simulator.
func printParts(what string, all []twin.Standing) {
	fmt.Println("\n| " + what + " | policy | path | share of tasks | measured mean, s | simulated on the same decisions, s | off |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, s := range all {
		for _, p := range s.Parts {
			fmt.Printf("| %s | %s | %s | %.0f %% | %.3f | %.3f | %+.1f %% |\n", s.Setting, s.Policy, p.Path, 100*p.Share, p.Measured, p.Simulated, 100*p.Off)
		}
	}
}
