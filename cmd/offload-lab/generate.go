package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/functions/host"
)

// generateVerb writes the stream that run plays, without waiting in real time.
func generateVerb(ctx context.Context, args []string) error {
	fs := flags("generate")
	duration := fs.Duration("duration", 10*time.Second, "length of the stream")
	seed := fs.Uint64("seed", 1, "seed of the signals")
	truth := fs.String("truth", "", "file for the ground truth: one JSON object per event with a part or a bearing")
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
	if *truth == "" {
		return generate(ctx, os.Stdout, io.Discard, *seed, *duration, node)
	}
	return writeFile(*truth, func(to io.Writer) error { return generate(ctx, os.Stdout, to, *seed, *duration, node) })
}

// generate writes the stream to one writer and its ground truth to another.
func generate(ctx context.Context, w, truth io.Writer, seed uint64, duration time.Duration, node host.Source) error {
	out, aside := bufio.NewWriter(w), bufio.NewWriter(truth)
	err := feed.Generate(feed.Sources(seed, node), time.Now(), duration, func(m feed.Message) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errors.Join(feed.Write(out, m), feed.WriteTruth(aside, m))
	})
	if failed := errors.Join(out.Flush(), aside.Flush()); failed != nil {
		return failed // also that of a write before
	}
	return err
}
