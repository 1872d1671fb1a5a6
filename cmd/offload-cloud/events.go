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

const eventsUsage = `Usage: offload-cloud events -store URL [flags]

Prints the stored events in the order in which they began to arrive, joined from their chunks, one JSON object a line. An event
of which chunks have not arrived yet has "missing", the numbers of these, and no data.

Flags:
`

// pageSize is how many events are read at a time: no more are in memory, and no transaction stays open between pages.
const pageSize = 200

// eventLine is one joined event.
type eventLine struct {
	ID         int64           `json:"id"` // of its first task; give the last one as -after to go on from there
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
	fs := newFlags("events", eventsUsage, std)
	dsn := fs.String("store", "sqlite:offload-cloud.db", "where the consumer stores")
	node := fs.String("node", "", "events of this node only")
	device := fs.String("device", "", "events of this device only")
	after := fs.Int64("after", 0, "events after this id only")
	limit := fs.Int("limit", 0, "at most so many; 0 is all")
	if _, err := parse(fs, args); err != nil {
		return err
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
			line, err := joined(ctx, db, first)
			if err != nil {
				return err
			}
			if err := encoder.Encode(line); err != nil {
				return fmt.Errorf("writing an event: %w", err)
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

// joined makes the line of the event that a task belongs to.
func joined(ctx context.Context, db *store.Store, first *store.Found) (*eventLine, error) {
	t := first.Task
	line := &eventLine{
		ID: first.ID, Node: first.Node, Event: t.EventID, Device: t.Device, Profile: t.Profile, Source: t.Source, Origin: t.Origin, Of: t.Of,
	}
	if t.Of == 1 {
		line.fill(t.Encoding, t.Data)
		return line, nil
	}
	all, err := db.Of(ctx, first)
	if err != nil {
		return nil, err
	}
	line.join(all)
	return line, nil
}

// join tries each way in which the event was cut: it may have been cut anew, with other chunks, when it was delivered
// to the node a second time. One complete set is enough.
func (l *eventLine) join(all []*store.Found) {
	sets := map[int][]*task.Task{}
	for _, f := range all {
		sets[f.Task.Of] = append(sets[f.Task.Of], f.Task)
	}
	for of, tasks := range sets {
		raw, err := task.Join(tasks)
		if err == nil {
			l.Of, l.Missing, l.Problem = of, nil, ""
			l.fill(tasks[0].Encoding, raw) // chunk 0 is the frame, which has the event's encoding
			return
		}
		var missing *task.MissingError
		switch {
		case errors.As(err, &missing) && (l.Missing == nil || len(missing.Missing) < len(l.Missing)):
			l.Of, l.Missing = of, missing.Missing
		case !errors.As(err, &missing):
			l.Problem = err.Error()
		}
	}
}

func (l *eventLine) fill(encoding task.Encoding, raw []byte) {
	if encoding == task.JSON && json.Valid(raw) {
		l.Data = raw
		return
	}
	l.DataBase64 = raw
}
