package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"app-offload/cmd/offload-lab/internal/twin"
)

// againstVerb compares the simulator with the running system.
func againstVerb(ctx context.Context, args []string) error {
	c := twin.DefaultConfig()
	fs := flags("against")
	fs.StringVar(&c.Bin, "bin", "bin", "`folder` with the binaries of make build")
	fs.StringVar(&c.Res, "res", "res", "folder with configuration.yaml")
	fs.StringVar(&c.Dir, "dir", "", "folder for spool, database, decisions and log; default a temporary folder, in memory if possible")
	fs.IntVar(&c.Rounds, "rounds", c.Rounds, "number of rounds, each with single tasks and then a dense series")
	fs.IntVar(&c.Tasks, "tasks", c.Tasks, "tasks of the dense series per round")
	fs.IntVar(&c.Probes, "probes", c.Probes, "single tasks before it, per target and round")
	fs.Uint64Var(&c.Seed, "seed", c.Seed, "seed of sizes, arrivals and decisions")
	link := fs.Float64("link", c.Rate/1e3, "rate of the link, KB/s of 1,000 bytes")
	fs.DurationVar(&c.RTT, "rtt", c.RTT, "round trip of the link")
	fs.Float64Var(&c.Load, "load", c.Load, "share of the link's time used by the tasks, 0.05–0.95")
	fs.Float64Var(&c.Cloud, "cloud", c.Cloud, "share of the tasks sent to the cloud, 0.01–0.99")
	bound := fs.Float64("within", 0.05, "maximum relative error of the mean over both targets; the verb fails above it")
	asJSON := fs.Bool("json", false, "one JSON object instead of a table")
	if err := parse(fs, args); err != nil {
		return err
	}
	c.Rate = *link * 1e3
	if err := c.Validate(); err != nil {
		return err
	}
	if !(*bound >= 0) {
		return fmt.Errorf("-within %g: must be a share of at least 0, such as 0.05", *bound)
	}
	log, done, err := logIn(&c.Dir)
	if err != nil {
		return err
	}
	defer done()
	c.Log = log
	r, err := twin.Run(ctx, c)
	if err != nil {
		return err
	}
	if err := printTwin(r, *asJSON); err != nil {
		return err
	}
	return agrees(&r.Ways[0], *bound)
}

// agrees returns an error if the simulator is off by more than the bound.
func agrees(both *twin.Way, bound float64) error {
	if math.Abs(both.Off) <= bound {
		return nil
	}
	return fmt.Errorf("the simulator is off by %+.1f %%, more than %.1f %%; 95 %% interval over the rounds %+.1f … %+.1f %%: if that is wide, the machine "+
		"is too busy to measure", 100*both.Off, 100*bound, 100*both.OffCI95[0], 100*both.OffCI95[1])
}

// logIn creates the folder of a run and opens the run's log in it. done closes the log, and removes the folder if dir was empty.
func logIn(dir *string) (log *os.File, done func(), err error) {
	temporary := *dir == ""
	if _, err := makeFolder(dir, memory()); err != nil {
		return nil, nil, err
	}
	remove := func() error {
		if !temporary {
			return nil
		}
		return os.RemoveAll(*dir)
	}
	if log, err = os.Create(filepath.Join(*dir, "log")); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("opening the log of the run: %w", err), remove())
	}
	return log, func() { _ = errors.Join(log.Close(), remove()) }, nil
}

// memory returns a folder on a file system in memory, "" if the machine has none. A shared disk can delay a task by more than a round trip, and the
// simulator models no disks.
func memory() string {
	const shared = "/dev/shm"
	if info, err := os.Stat(shared); err != nil || !info.IsDir() {
		return ""
	}
	return shared
}

func printTwin(r *twin.Result, asJSON bool) error {
	if asJSON {
		return printLines(os.Stdout, []*twin.Result{r})
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "way\ttasks\tmeasured\tsimulated\toff\trounds\tinterval\t")
	for _, w := range r.Ways {
		fmt.Fprintf(t, "%s\t%d\t%.1f ms\t%.1f ms\t%+.1f %%\t", w.Way, w.Tasks, 1e3*w.Measured, 1e3*w.Simulated, 100*w.Off)
		if len(w.Rounds) > 0 {
			fmt.Fprintf(t, "%+.1f … %+.1f %%\t%+.1f … %+.1f %%\t", 100*slices.Min(w.Rounds), 100*slices.Max(w.Rounds), 100*w.OffCI95[0], 100*w.OffCI95[1])
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Printf("a single task takes %.1f ms + %.2f ms/KB locally; to the cloud %.1f ms + %.2f ms/KB before the link and %.1f ms + %.2f ms/KB after it, with %.0f + %.3f/byte bytes on the link\n",
		1e3*r.Here.Fixed, 1e6*r.Here.PerByte, 1e3*r.Before.Fixed, 1e6*r.Before.PerByte, 1e3*r.After.Fixed, 1e6*r.After.PerByte, r.Wire.Fixed, r.Wire.PerByte)
	return nil
}
