package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"

	"app-offload/cmd/offload-lab/internal/twin"
)

const againstExamples = `  offload-lab against                                    the shipped service on a link of 20 KB/s and 40 ms
  offload-lab against -link 200 -rtt 200ms -rounds 20    a faster one, more often
  offload-lab against -load 0.9 -within 0.1 -json
  chrt -r 5 offload-lab against                          as root, on a machine that others keep busy

Purpose:
  Plays the same tasks through the running system and through the simulator, and compares the mean time from arrival to result.
  The system is the real one on this machine: broker, app-offload, offload-cloud, and between the first two a proxy that is as slow
  as -link and as far as -rtt. In each round lone tasks first measure how many bytes a task is on the link and what else it takes while nothing
  waits. The simulator gets that, the rate of the link, and arrivals, sizes and decisions of the tasks that follow; what it must get
  right by itself is how long they wait. Spool and database are kept in memory, as the simulator knows of no disk, and another's
  work on it would be measured. Work of others on the processor holds tasks up too: the slower the link, the less that matters, and
  in the real-time class (chrt) the system, which sleeps most of the time, is not delayed.

Output:
  A table of both ways, here and cloud: tasks, mean completion time measured and simulated, and by how much the simulator is off, over
  all rounds, with the least and the most of a round and the interval in which the mean over rounds is at 95 %; or with -json one object
  with ways, here and cloud, times in s.

Files:
  -bin DIR with app-offload and offload-cloud, as "make build" makes them; -res DIR with configuration.yaml

Exit codes:
  0 within -within; 1 outside of it, or the system did not do as it should; 2 an unknown verb
`

// againstVerb holds the simulator against the running system.
func againstVerb(ctx context.Context, args []string) error {
	c := twin.DefaultConfig()
	fs := flags("against", againstExamples)
	fs.StringVar(&c.Bin, "bin", "bin", "folder with the binaries that make build made")
	fs.StringVar(&c.Res, "res", "res", "folder with configuration.yaml")
	fs.StringVar(&c.Dir, "dir", "", "folder for spool, database, decisions and log; default a temporary one in memory, where the system has such a file system")
	fs.IntVar(&c.Rounds, "rounds", c.Rounds, "how often lone tasks and others take turns")
	fs.IntVar(&c.Tasks, "tasks", c.Tasks, "tasks that follow close upon each other, a round")
	fs.IntVar(&c.Probes, "probes", c.Probes, "lone tasks before, a way and round")
	fs.Uint64Var(&c.Seed, "seed", c.Seed, "seed of sizes, arrivals and decisions")
	link := fs.Float64("link", c.Rate/1e3, "rate of the link, KB/s of 1,000 bytes")
	fs.DurationVar(&c.RTT, "rtt", c.RTT, "round trip of the link")
	fs.Float64Var(&c.Load, "load", c.Load, "share of the link's time, 0.05–0.95, that the tasks take")
	fs.Float64Var(&c.Cloud, "cloud", c.Cloud, "share of the tasks, 0.01–0.99, that goes to the cloud")
	bound := fs.Float64("within", 0.05, "by how much, as a share, the mean over both ways may be off before the verb fails")
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
	if c.Dir == "" {
		dir, err := os.MkdirTemp(memory(), "offload-lab-")
		if err != nil {
			return fmt.Errorf("making a folder for the run: %w", err)
		}
		defer os.RemoveAll(dir)
		c.Dir = dir
	}
	log, err := os.Create(filepath.Join(c.Dir, "log"))
	if err != nil {
		return fmt.Errorf("opening the log of the run: %w", err)
	}
	defer log.Close()
	c.Log = log
	r, err := twin.Run(ctx, c)
	if err != nil {
		return err
	}
	if err := printTwin(r, *asJSON); err != nil {
		return err
	}
	if both := r.Ways[0]; !(math.Abs(both.Off) <= *bound) {
		return fmt.Errorf("the simulator is off by %+.1f %%, more than %.1f %%; by the rounds it is within %+.1f … %+.1f %%: if that is wide, the machine "+
			"is too busy to measure", 100*both.Off, 100**bound, 100*both.OffCI95[0], 100*both.OffCI95[1])
	}
	return nil
}

// memory is the folder of a file system in memory, "" on a machine without one. A disk that others use holds a task up for longer than a
// round trip takes, and the simulator knows of no disks.
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
	fmt.Printf("a lone task takes %.1f ms + %.2f ms/KB here; to the cloud %.1f ms + %.2f ms/KB before the link and %.1f ms + %.2f ms/KB after it, where it is %.0f + %.3f/byte bytes\n",
		1e3*r.Here.Fixed, 1e6*r.Here.PerByte, 1e3*r.Before.Fixed, 1e6*r.Before.PerByte, 1e3*r.After.Fixed, 1e6*r.After.PerByte, r.Wire.Fixed, r.Wire.PerByte)
	return nil
}
