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

// benchVerb measures the whole service against its floor.
func benchVerb(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "nab" {
		return benchNAB(args[1:])
	}
	if len(args) > 0 && args[0] == "hard" {
		return benchHard(ctx, args[1:])
	}
	if len(args) > 1 && args[0] == "-as" { // a child process of the bench
		return bench.Child(ctx, args[1], args[2:])
	}
	o := bench.DefaultOptions()
	fs := flags("bench")
	fs.StringVar(&o.Bin, "bin", o.Bin, "`folder` with the binaries of make build")
	fs.StringVar(&o.Res, "res", o.Res, "folder with configuration.yaml")
	fs.StringVar(&o.Dir, "dir", "", "folder for spools and log; default a temporary folder that is removed at the end")
	fs.StringVar(&o.Mosquitto, "mosquitto", o.Mosquitto, "mosquitto's program")
	fs.StringVar(&o.EKuiper, "ekuiper", "", "folder of eKuiper 1.x with its bin and etc; if given, eKuiper is measured as well, forwarding the envelopes in batches")
	fs.StringVar(&o.Brokers, "broker", o.Brokers, "mosquitto, mosquitto-wide, mosquitto-nagle, embedded, a comma-separated list, both, or all")
	fs.StringVar(&o.Policies, "policies", o.Policies, "policies of the service")
	fs.StringVar(&o.Confirm, "confirm", o.Confirm, "when records leave the spool: puback, receipt")
	fs.StringVar(&o.QoS, "qos", o.QoS, "QoS at which the load publishes: 1, 0")
	fs.StringVar(&o.Form, "form", o.Form, "form of the service's messages: json, protobuf")
	fs.IntVar(&o.Events, "events", o.Events, "events per case")
	fs.IntVar(&o.Window, "window", o.Window, "maximum number of events in flight from end to end")
	fs.IntVar(&o.Rate, "rate", o.Rate, "events per second; 0 means the maximum")
	fs.IntVar(&o.Rounds, "rounds", o.Rounds, "how often all cases are measured in turn; medians are printed after the last round")
	fs.BoolVar(&o.Drain, "drain", false, "keep the service's link down until all events are in its spool, and measure how they are sent; needs mosquitto")
	fs.DurationVar(&o.Idle, "idle", 0, "measure CPU and wake-ups of the idle service for this time, instead of loading it")
	fs.StringVar(&o.Rows, "rows", "", "rows of the documents' table to measure, each with its floor: all, or a comma-separated list of names")
	fs.StringVar(&o.Hold, "hold", "", "file of CPU ratios to the floor, one row name and number per line; fails if a median exceeds its ratio by more than 15 %")
	fs.BoolVar(&o.Markdown, "markdown", false, "print the table in Markdown")
	fs.BoolVar(&o.JSON, "json", false, "print one JSON object per case, and the table to the standard error")
	if err := parse(fs, args); err != nil {
		return err
	}
	temporary := o.Dir == ""
	if _, err := makeFolder(&o.Dir, ""); err != nil {
		return err
	}
	if temporary {
		defer os.RemoveAll(o.Dir)
	}
	var table io.Writer = os.Stdout
	if o.JSON {
		table = os.Stderr
	}
	return bench.Run(ctx, o, os.Stdout, table)
}

// benchNAB scores the operator anomaly on NAB's recorded series.
func benchNAB(args []string) error {
	fs := flags("bench nab")
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

// benchHard measures the accuracy of the shipped models.
func benchHard(ctx context.Context, args []string) error {
	t := nn.Trial{}
	fs := flags("bench hard")
	fs.Uint64Var(&t.From, "from", 1_000_000, "the first seed")
	fs.IntVar(&t.Seeds, "seeds", 10, "seeds, 1 to 1000")
	fs.IntVar(&t.Samples, "samples", 1000, "samples of each seed, 100 to 1000000")
	fs.Float64Var(&t.Share, "share", 0.1, "maximum share of examples sent to the cloud, 0.001 to 1")
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
