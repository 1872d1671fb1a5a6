package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/task"
)

const eventsUsage = `Usage: offload-cloud events -store URL [flags]

Prints the stored events in the order in which they began to arrive, joined from their chunks, one JSON object a line. An event
of which chunks have not arrived yet has "missing", the numbers of these, and no data. What a transaction under way may still get
in front of is not printed, so -after misses nothing, whatever writes meanwhile.

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

// joined makes the lines of the event that a task belongs to: one, or several where different events came under one id.
func joined(ctx context.Context, db *store.Store, first *store.Found) ([]*eventLine, error) {
	t := first.Task
	line := eventLine{
		ID: first.ID, Node: first.Node, Event: t.EventID, Device: t.Device, Profile: t.Profile, Source: t.Source, Origin: t.Origin, Of: t.Of,
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

// cut names one way in which an event was cut: all its chunks have one number of parts and one time of reception.
type cut struct {
	of       int
	received int64
}

// join tries each way in which the event was cut: it may have been cut anew, in other places, when it was delivered to the node a second
// time. A chunk that came out the same was stored once, so it is taken from another cut where it is missing. Each complete event is a
// line; without one, the cut that lacks least is.
func (l eventLine) join(all []*store.Found) (lines []*eventLine) {
	least := l
	for _, c := range cuts(all) {
		encoding, raw, err := c.join(all)
		var missing *task.MissingError
		switch {
		case err == nil:
			line := l
			line.Of = c.of
			line.fill(encoding, raw)
			if !slices.ContainsFunc(lines, func(o *eventLine) bool {
				return bytes.Equal(o.Data, line.Data) && bytes.Equal(o.DataBase64, line.DataBase64)
			}) {
				lines = append(lines, &line)
			}
		case errors.As(err, &missing) && (least.Missing == nil || len(missing.Missing) < len(least.Missing)):
			least.Of, least.Missing = c.of, missing.Missing
		case !errors.As(err, &missing):
			least.Problem = err.Error()
		}
	}
	if lines == nil {
		lines = append(lines, &least)
	}
	return lines
}

// cuts lists them in the order in which they began to arrive.
func cuts(all []*store.Found) []cut {
	byID := slices.SortedFunc(slices.Values(all), func(a, b *store.Found) int { return cmp.Compare(a.ID, b.ID) })
	var found []cut
	for _, f := range byID {
		if c := (cut{f.Task.Of, f.Task.Received}); f.Task.Of > 1 && !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	return found
}

// stepsMax bounds the search for the chunks that fit each other.
const stepsMax = 100_000

// join puts the event together from the chunks of this cut and, where it lacks one, from those of others that go on where the chunk before ends.
func (c cut) join(all []*store.Found) (task.Encoding, []byte, error) {
	candidates := make(map[int][]*task.Task)
	for _, own := range []bool{true, false} {
		for _, f := range all {
			if f.Task.Of == c.of && (f.Task.Received == c.received) == own {
				candidates[f.Task.Chunk] = append(candidates[f.Task.Chunk], f.Task)
			}
		}
	}
	chosen, steps := make([]*task.Task, 0, c.of), 0
	var raw []byte
	var err error
	var search func(chunk int) bool
	search = func(chunk int) bool {
		if steps++; steps > stepsMax {
			return true
		}
		if chunk == c.of {
			raw, err = task.Join(chosen)
			return err == nil
		}
		for _, t := range candidates[chunk] {
			if chunk > 1 && !follows(chosen[chunk-1], t) {
				continue
			}
			chosen = append(chosen, t)
			if search(chunk + 1) {
				return true
			}
			chosen = chosen[:chunk]
		}
		return false
	}
	for chunk := range c.of {
		if len(candidates[chunk]) == 0 { // Join names all that are missing
			_, err := task.Join(firsts(candidates, c.of))
			return 0, nil, err
		}
	}
	if search(0) && err == nil && raw != nil {
		return chosen[0].Encoding, raw, nil // chunk 0 is the frame, which has the event's encoding
	}
	if err == nil {
		err = fmt.Errorf("joining event %s: its chunks do not continue each other", candidates[0][0].EventID)
	}
	return 0, nil, err
}

// follows says whether a chunk goes on where the one before ends, or begins another value.
func follows(before, t *task.Task) bool {
	if t.Hole == before.Hole {
		return t.Offset == before.Offset+before.Count
	}
	return t.Hole > before.Hole && t.Offset == 0
}

// firsts takes one candidate for each chunk.
func firsts(candidates map[int][]*task.Task, of int) (tasks []*task.Task) {
	for chunk := range of {
		if len(candidates[chunk]) > 0 {
			tasks = append(tasks, candidates[chunk][0])
		}
	}
	return tasks
}

func (l *eventLine) fill(encoding task.Encoding, raw []byte) {
	if encoding == task.JSON && json.Valid(raw) {
		l.Data = raw
		return
	}
	l.DataBase64 = raw
}
