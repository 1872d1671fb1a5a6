package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/faults"
)

// faultsVerb breaks the whole system repeatedly, and fails if it violates its guarantees.
func faultsVerb(ctx context.Context, args []string) error {
	cfg := faults.Config{CheckEvery: 10, Out: os.Stdout}
	sc := faults.ScenarioConfig{}
	fs := flags("faults", "{kinds}", faults.Names(), "{scenarios}", faults.ScenarioNames())
	fs.StringVar(&cfg.Bin, "bin", "bin", "`folder` with the binaries of make build")
	fs.StringVar(&cfg.Res, "res", "res", "folder with configuration.yaml")
	fs.StringVar(&cfg.Dir, "dir", "", "folder for spool, database and logs; default a temporary folder, kept only after a failure")
	fs.Uint64Var(&cfg.Seed, "seed", uint64(time.Now().UnixNano()), "seed of all choices; timing still varies") // any number will do
	fs.IntVar(&cfg.Rounds, "rounds", 50, "minimum number of rounds")
	fs.IntVar(&cfg.EdgeKills, "edge-kills", 0, "continue until app-offload has been killed this often")
	fs.IntVar(&cfg.CloudKills, "cloud-kills", 0, "continue until offload-cloud has been killed this often")
	fs.IntVar(&cfg.KillRounds, "kill-rounds", 0, "continue until this many rounds have killed one or both of them")
	fs.BoolVar(&cfg.Quick, "quick", false, "rounds of a second or two; without -kind, two kills per round of any other kind")
	kinds := fs.String("kind", "", "comma-separated kinds to draw from; a repeated kind is drawn more often; empty means all")
	fs.Float64Var(&cfg.Rate, "rate", 0, "events per second; 0 means 200, or the scenario's default")
	fs.IntVar(&cfg.CheckEvery, "check", cfg.CheckEvery, "rounds between two checks")
	fs.StringVar(&sc.Name, "scenario", "", "run this scenario instead of rounds; its last line is its report, and it fails if a bound is violated")
	fs.DurationVar(&sc.Duration, "duration", 0, "how long the fault of the scenario lasts; 0 means its default")
	fs.IntVar(&sc.Records, "records", 0, "records of the scenario's backlog; 0 means its default")
	onlyJSON := fs.Bool("json", false, "print only the final JSON to stdout, and the rounds to stderr")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *kinds != "" {
		cfg.Kinds = strings.Split(*kinds, ",")
	}
	if err := errors.Join(cfg.Validate(), sc.Validate()); err != nil {
		return err
	}
	if *onlyJSON {
		cfg.Out = os.Stderr
	}
	return runFaults(ctx, cfg, sc, os.Stdout)
}

func runFaults(ctx context.Context, cfg faults.Config, sc faults.ScenarioConfig, out io.Writer) error {
	own := cfg.Dir == ""
	if _, err := makeFolder(&cfg.Dir, ""); err != nil {
		return err
	}
	fmt.Fprintf(cfg.Out, "seed  %d\nlogs  %s/*.log\n\n", cfg.Seed, cfg.Dir)
	line, err := report(ctx, cfg, sc)
	if len(line) > 0 {
		fmt.Fprintln(out, string(line))
	}
	if err != nil {
		return fmt.Errorf("seed %d, all files kept in %s: %w", cfg.Seed, cfg.Dir, err)
	}
	if own {
		return os.RemoveAll(cfg.Dir)
	}
	return nil
}

// report runs the scenario or the rounds and returns the last line.
func report(ctx context.Context, cfg faults.Config, sc faults.ScenarioConfig) ([]byte, error) {
	var result any
	var err error
	if sc.Name != "" {
		sc.Bin, sc.Res, sc.Dir, sc.Seed, sc.Rate, sc.Out = cfg.Bin, cfg.Res, cfg.Dir, cfg.Seed, cfg.Rate, cfg.Out
		result, err = faults.RunScenario(ctx, sc)
	} else {
		if cfg.Rate == 0 {
			cfg.Rate = roundsRate
		}
		result, err = faults.Run(ctx, cfg)
	}
	line, encodeErr := json.Marshal(result)
	return line, errors.Join(err, encodeErr)
}

// roundsRate is the number of events per second during rounds.
const roundsRate = 200
