package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/task"
)

// pageSize is the number of events read together. It bounds the memory, and no transaction stays open between pages.
const pageSize = 200

// eventLine is one joined event.
type eventLine struct {
	ID         int64           `json:"id"` // of its first task; pass the last one as -after to continue from there
	Node       string          `json:"node"`
	Event      string          `json:"event"`
	Device     string          `json:"device"`
	Profile    string          `json:"profile"`
	Source     string          `json:"source"`
	Origin     int64           `json:"origin"`
	Of         int             `json:"of"`
	Missing    []int           `json:"missing,omitempty"`
	Problem    string          `json:"problem,omitempty"`
	Data       json.RawMessage `json:"data,omitempty"`
	DataBase64 []byte          `json:"dataBase64,omitempty"` // an event in CBOR
}

func eventsVerb(ctx context.Context, args []string, std streams) error {
	fs := newFlags("events", std)
	dsn := fs.String("store", "sqlite:offload-cloud.db", "where the consumer stores")
	node := fs.String("node", "", "events of this node only")
	device := fs.String("device", "", "events of this device only")
	after := fs.Int64("after", 0, "events after this id only")
	limit := fs.Int("limit", 0, "maximum number of events; 0 is all")
	if err := parseFlags(fs, args); err != nil {
		return err
	}
	if *after < 0 || *limit < 0 {
		fmt.Fprintf(fs.Output(), "-after %d -limit %d: must be at least 0\n", *after, *limit)
		return errUsage
	}
	db, err := store.Open(ctx, *dsn, store.Options{MustExist: true})
	if err != nil {
		return err
	}
	out := bufio.NewWriter(std.out)
	err = printEvents(ctx, db, store.Filter{Node: *node, Device: *device, After: *after}, *limit, out)
	return errors.Join(err, out.Flush(), db.Close())
}

// printEvents writes up to limit events page by page.
func printEvents(ctx context.Context, db *store.Store, filter store.Filter, limit int, out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for left := limit; limit == 0 || left > 0; {
		filter.Limit = pageSize
		if limit > 0 {
			filter.Limit = min(pageSize, left)
		}
		page, err := db.First(ctx, filter)
		if err != nil {
			return err
		}
		for _, first := range page {
			lines, err := joined(ctx, db, first)
			if err != nil {
				return err
			}
			for _, line := range lines {
				if err := encoder.Encode(line); err != nil {
					return fmt.Errorf("writing an event: %w", err)
				}
			}
		}
		if len(page) < filter.Limit {
			return nil
		}
		left -= len(page)
		filter.After = page[len(page)-1].ID
	}
	return nil
}

// joined returns the lines of the event that a task belongs to: one line, or several if different events have the same id.
func joined(ctx context.Context, db *store.Store, first *store.Found) ([]*eventLine, error) {
	t := first.Task
	line := eventLine{
		ID: first.ID, Node: first.Node, Event: t.EventID, Device: t.Device, Profile: t.Profile, Source: t.Source, Origin: t.Origin, Of: t.Of,
	}
	if first.Problem != "" {
		line.Problem = first.Problem
		return []*eventLine{&line}, nil
	}
	if t.Of == 1 {
		line.fill(t.Encoding, t.Data)
		return []*eventLine{&line}, nil
	}
	all, err := db.Of(ctx, first)
	if err != nil {
		return nil, err
	}
	return line.join(all), nil
}

// join returns a line for each complete event, or one line with the missing chunks.
func (l eventLine) join(all []*store.Found) (lines []*eventLine) {
	whole, missing, err := store.Join(all)
	for _, w := range whole {
		line := l
		line.Of = w.Of
		line.fill(w.Encoding, w.Raw)
		lines = append(lines, &line)
	}
	if lines != nil {
		return lines
	}
	if missing != nil {
		l.Of, l.Missing = missing.Of, missing.Missing
	}
	if err != nil {
		l.Problem = err.Error()
	}
	return []*eventLine{&l}
}

func (l *eventLine) fill(encoding task.Encoding, raw []byte) {
	if encoding == task.JSON && json.Valid(raw) {
		l.Data = raw
		return
	}
	l.DataBase64 = raw
}
