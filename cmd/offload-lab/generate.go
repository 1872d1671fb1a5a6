package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/functions/host"
)

const generateExamples = `  offload-lab generate -duration 1m -seed 7 > feed.jsonl
  offload-lab run -feed feed.jsonl
`

// generateVerb writes the stream that `run` plays, without waiting for its moments.
func generateVerb(ctx context.Context, args []string) error {
	fs := flags("generate", generateExamples)
	duration := fs.Duration("duration", 10*time.Second, "how much of the stream")
	seed := fs.Uint64("seed", 1, "seed of the signals")
	if err := parse(fs, args); err != nil {
		return err
	}
	if *duration <= 0 {
		return fmt.Errorf("-duration %v: must be above 0, such as 10s", *duration)
	}
	node, err := host.New(host.DefaultConfig())
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	err = feed.Generate(feed.Sources(*seed, node), time.Now(), *duration, func(m feed.Message) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return feed.Write(out, m)
	})
	if err != nil {
		return err
	}
	return out.Flush()
}
