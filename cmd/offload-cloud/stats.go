package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/cmd/offload-cloud/internal/store"
)

func statsVerb(ctx context.Context, args []string, std streams) error {
	fs := newFlags("stats", std)
	dsn := fs.String("store", "sqlite:offload-cloud.db", "where the consumer stores")
	asJSON := fs.Bool("json", false, "one JSON object a line instead of a table")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	db, err := store.Open(ctx, *dsn, store.Options{MustExist: true})
	if err != nil {
		return err
	}
	nodes, err := db.Stats(ctx)
	if err == nil && *asJSON {
		err = printJSON(nodes, std.out)
	} else if err == nil {
		err = printTable(nodes, std.out)
	}
	return errors.Join(err, db.Close())
}

func printJSON(nodes []*store.NodeStats, out io.Writer) error {
	encoder := json.NewEncoder(out)
	for _, n := range nodes {
		if err := encoder.Encode(n); err != nil {
			return fmt.Errorf("writing the figures: %w", err)
		}
	}
	return nil
}

func printTable(nodes []*store.NodeStats, out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "NODE\tRECORDS\tTASKS\tAGAIN\tDOUBLE\tGAPS\tGONE\tCONFLICTS\tDEAD\tJOBS\tEPOCHS\tSEEN\t") // Flush returns the error
	for _, n := range nodes {
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%d\t%d\t%s\t%d\t%s\t\n", consume.Shown(n.Node, 100), n.Records, n.Tasks, n.DuplicateRecords, n.DuplicateTasks,
			n.Gaps, goneText(n.Gone), n.Conflicts, n.DeadLetters, jobsText(n.Jobs), n.Epochs, n.Seen.Format(time.DateTime))
	}
	return w.Flush()
}

// jobsText returns a text such as "waiting 3, confirmed 1", or "0".
func jobsText(c *store.JobCounts) string {
	if c == nil || c.All() == 0 {
		return "0"
	}
	var parts []string
	for _, p := range []struct {
		name string
		n    int64
	}{{"waiting", c.Waiting}, {"answered", c.Answered}, {"confirmed", c.Confirmed}, {"failed", c.Failed}, {"refused", c.Refused}, {"given up", c.GivenUp}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", p.name, p.n))
		}
	}
	return strings.Join(parts, ", ")
}

// goneText returns a text such as "expired 3, full 1", or "0". Records gone with the reason "here" were processed on the node and are not lost.
func goneText(gone map[string]uint64) string {
	if len(gone) == 0 {
		return "0"
	}
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(gone)) {
		parts = append(parts, fmt.Sprintf("%s %d", reason, gone[reason]))
	}
	return strings.Join(parts, ", ")
}
