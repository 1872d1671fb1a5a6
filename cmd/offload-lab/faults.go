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

// faultsVerb breaks the whole system over and over, and fails if it does not keep its promises.
func faultsVerb(ctx context.Context, args []string) error {
	cfg := faults.Config{CheckEvery: 10, Out: os.Stdout}
	sc := faults.ScenarioConfig{}
	fs := flags("faults", "{kinds}", faults.Names(), "{scenarios}", faults.ScenarioNames())
	fs.StringVar(&cfg.Bin, "bin", "bin", "folder with the binaries that `make build` made")
	fs.StringVar(&cfg.Res, "res", "res", "folder with configuration.yaml")
	fs.StringVar(&cfg.Dir, "dir", "", "folder for spool, database and logs; default a temporary one, which is kept only if something is wrong")
	fs.Uint64Var(&cfg.Seed, "seed", uint64(time.Now().UnixNano()), "seed of all choices; the machine's timing is not repeatable") // any number will do
	fs.IntVar(&cfg.Rounds, "rounds", 50, "how many rounds at least")
	fs.IntVar(&cfg.EdgeKills, "edge-kills", 0, "go on until app-offload was killed so often")
	fs.IntVar(&cfg.CloudKills, "cloud-kills", 0, "go on until offload-cloud was killed so often")
	fs.IntVar(&cfg.KillRounds, "kill-rounds", 0, "go on until so many rounds have killed one or both of them")
	fs.BoolVar(&cfg.Quick, "quick", false, "rounds of a second or two, and two kills for everything else unless -kind says otherwise")
	kinds := fs.String("kind", "", "comma-separated kinds to draw from; one that is named twice comes twice as often; empty is all")
	fs.Float64Var(&cfg.Rate, "rate", 0, "events a second; 0 is 200, or the scenario's own")
	fs.IntVar(&cfg.CheckEvery, "check", cfg.CheckEvery, "rounds between two checks")
	fs.StringVar(&sc.Name, "scenario", "", "play this scenario instead of rounds; its last line is its report, and it fails if a bound is broken")
	fs.DurationVar(&sc.Duration, "duration", 0, "how long the trouble of the scenario lasts; 0 is its own")
	fs.IntVar(&sc.Records, "records", 0, "records of the scenario's backlog; 0 is its own")
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
	var err error
	if cfg.Dir, err = faults.Folder(cfg.Dir); err != nil {
		return err
	}
	fmt.Fprintf(cfg.Out, "seed  %d\nlogs  %s/*.log\n\n", cfg.Seed, cfg.Dir)
	line, err := report(ctx, cfg, sc)
	if len(line) > 0 {
		fmt.Fprintln(out, string(line))
	}
	if err != nil {
		return fmt.Errorf("seed %d, everything is left in %s: %w", cfg.Seed, cfg.Dir, err)
	}
	if own {
		return os.RemoveAll(cfg.Dir)
	}
	return nil
}

// report runs what was asked for and gives its last line.
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

// roundsRate is how many events a second come in while rounds break things.
const roundsRate = 200
