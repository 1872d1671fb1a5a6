package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"app-offload/cmd/offload-lab/internal/bench"
	"app-offload/cmd/offload-lab/internal/nab"
	"app-offload/cmd/offload-lab/internal/nn"
)

const benchExamples = `  offload-lab bench -bin bin                       200,000 events a case, on mosquitto and on the embedded broker
  offload-lab bench -broker all                    with mosquitto's window widened and with Nagle's algorithm, too
  offload-lab bench -broker embedded -policies cloud -confirm receipt -qos 1 -events 20000
  offload-lab bench -rate 1000 -events 10000 -policies cloud -confirm receipt -qos 1   what a steady flow writes to the disk
  offload-lab bench -rounds 5 -markdown            the medians of five interleaved runs, as a table for a document
  offload-lab bench -rows all -rounds 3 -events 100000 -broker mosquitto -policies cloud -confirm receipt -qos 1 -form protobuf -markdown
  offload-lab bench -idle 30s -policies cloud -confirm receipt -qos 1   CPU and wake-ups a second without events
  offload-lab bench -drain -events 1000000 -policies cloud -confirm receipt -qos 1 -form protobuf   how a backlog of a million leaves
  GOMAXPROCS=1 offload-lab bench -rate 10 -events 300 -policies cloud -confirm receipt -qos 1   the same at ten events a second, on one core
  offload-lab bench -json > bench.jsonl            one JSON object a case; the table goes to the standard error
  OFFLOAD_SPOOL_SYNC=none offload-lab bench        any setting of the service, by its environment name
  offload-lab bench nab ./NAB                      the operator anomaly on a copy of the Numenta Anomaly Benchmark
  offload-lab bench hard res/models                the accuracy of the models that ship, and of hard examples that go to the cloud
`

// benchVerb measures the whole service beside its floor.
func benchVerb(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "nab" {
		return benchNAB(args[1:])
	}
	if len(args) > 0 && args[0] == "hard" {
		return benchHard(ctx, args[1:])
	}
	if len(args) > 1 && args[0] == "-as" { // one of the bench's own processes
		return bench.Child(ctx, args[1], args[2:])
	}
	o := bench.DefaultOptions()
	fs := flags("bench", benchExamples)
	fs.StringVar(&o.Bin, "bin", o.Bin, "folder with the binaries that `make build` made")
	fs.StringVar(&o.Res, "res", o.Res, "folder with configuration.yaml")
	fs.StringVar(&o.Dir, "dir", "", "folder for spools and log; default a temporary one that is removed at the end")
	fs.StringVar(&o.Mosquitto, "mosquitto", o.Mosquitto, "mosquitto's program")
	fs.StringVar(&o.Brokers, "broker", o.Brokers, "mosquitto, mosquitto-wide, mosquitto-nagle, embedded, several with commas, both, or all")
	fs.StringVar(&o.Policies, "policies", o.Policies, "policies to measure the service under")
	fs.StringVar(&o.Confirm, "confirm", o.Confirm, "when records leave the spool: puback, receipt")
	fs.StringVar(&o.QoS, "qos", o.QoS, "QoS at which the load publishes: 1, 0")
	fs.StringVar(&o.Form, "form", o.Form, "form of the service's messages: json, protobuf")
	fs.IntVar(&o.Events, "events", o.Events, "events a case")
	fs.IntVar(&o.Window, "window", o.Window, "events that may be under way from end to end")
	fs.IntVar(&o.Rate, "rate", o.Rate, "events a second; 0 is as many as are taken")
	fs.IntVar(&o.Rounds, "rounds", o.Rounds, "how often all cases are measured, in turn; the medians follow the last")
	fs.BoolVar(&o.Drain, "drain", false, "hold the service's link down until all events lie in its spool, and measure how they leave; the link is mosquitto then")
	fs.DurationVar(&o.Idle, "idle", 0, "leave the service alone for so long instead of loading it, and measure its CPU and wake-ups")
	fs.StringVar(&o.Rows, "rows", "", "rows of the documents' table to measure, each with its floor: all, or names with commas")
	fs.StringVar(&o.Hold, "hold", "", "file with the CPU ratios to the floor, a row's name and a number a line, which the medians may exceed by 15 %")
	fs.BoolVar(&o.Markdown, "markdown", false, "print the table in Markdown")
	fs.BoolVar(&o.JSON, "json", false, "print one JSON object a case, and the table on the standard error")
	if err := parse(fs, args); err != nil {
		return err
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "offload-bench-")
		if err != nil {
			return fmt.Errorf("making a folder for the bench: %w", err)
		}
		defer os.RemoveAll(dir)
		o.Dir = dir
	}
	var table io.Writer = os.Stdout
	if o.JSON {
		table = os.Stderr
	}
	return bench.Run(ctx, o, os.Stdout, table)
}

const nabExamples = `  offload-lab bench nab ./NAB   a clone of github.com/numenta/NAB, or any folder with its data/ and labels/
`

// benchNAB scores the operator anomaly on recorded series.
func benchNAB(args []string) error {
	fs := flags("bench nab", nabExamples)
	seed := fs.Uint64("seed", 1, "seed of the random halves of the corpus")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() != 1 {
		return errors.New("name one folder with NAB's data/ and labels/; see offload-lab bench nab -h")
	}
	series, err := nab.Read(fs.Arg(0))
	if err != nil {
		return err
	}
	return nab.Report(os.Stdout, series, *seed)
}

const hardExamples = `  offload-lab bench hard res/models                     10 seeds of 1,000 samples, 10 % of which may go to the cloud
  offload-lab bench hard -share 0.05 -seeds 3 res/models

Purpose:
  Draws pictures and vibration from seeds that training has not seen, asks the edge and the cloud variant of each model, and prints the
  accuracy of either alone and of the edge's answers with the hardest examples answered by the cloud, within a budget.
`

// benchHard judges the models that ship.
func benchHard(ctx context.Context, args []string) error {
	t := nn.Trial{}
	fs := flags("bench hard", hardExamples)
	fs.Uint64Var(&t.From, "from", 1_000_000, "the first seed")
	fs.IntVar(&t.Seeds, "seeds", 10, "seeds, 1 to 1000")
	fs.IntVar(&t.Samples, "samples", 1000, "samples of each seed, 100 to 1000000")
	fs.Float64Var(&t.Share, "share", 0.1, "most examples that may go to the cloud, 0.001 to 1")
	fs.StringVar(&t.Only, "only", "", "name of the only model to judge")
	if err := fs.Parse(args); err != nil {
		return err
	}
	switch {
	case fs.NArg() != 1:
		return errors.New("name one folder of models; see offload-lab bench hard -h")
	case t.Seeds < 1 || t.Seeds > 1000 || t.Samples < 100 || t.Samples > 1_000_000:
		return fmt.Errorf("-seeds = %d must be within 1 and 1000, and -samples = %d within 100 and 1000000", t.Seeds, t.Samples)
	case !(t.Share >= 0.001 && t.Share <= 1):
		return fmt.Errorf("-share = %g must be within 0.001 and 1", t.Share)
	}
	t.Dir = fs.Arg(0)
	return nn.Judge(ctx, os.Stdout, t)
}
