package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"app-offload/functions/task"
)

// Whole is an event joined from its chunks.
type Whole struct {
	Of       int // chunks
	Encoding task.Encoding
	Raw      []byte
}

// Join puts the tasks of one event together, in each way in which it was cut: it may have been cut anew, in other places, when it was
// delivered to the node a second time. A chunk that came out the same was stored once, so it is taken from another cut where it is missing. It
// returns each complete event once, in the order in which their chunks began to arrive; without one, what the cut lacks that lacks least, or why
// its chunks do not fit each other.
func Join(all []*Found) (whole []Whole, least *task.MissingError, problem error) {
	for _, c := range cuts(all) {
		encoding, raw, err := c.join(all)
		var missing *task.MissingError
		switch {
		case err == nil:
			if !slices.ContainsFunc(whole, func(o Whole) bool { return bytes.Equal(o.Raw, raw) }) {
				whole = append(whole, Whole{c.of, encoding, raw})
			}
		case errors.As(err, &missing):
			if least == nil || len(missing.Missing) < len(least.Missing) {
				least = missing
			}
		default:
			problem = err
		}
	}
	return whole, least, problem
}

// cut names one way in which an event was cut: all its chunks have one number of parts and one time of reception.
type cut struct {
	of       int
	received int64
}

// cuts lists them in the order in which they began to arrive.
func cuts(all []*Found) []cut {
	byID := slices.SortedFunc(slices.Values(all), func(a, b *Found) int { return cmp.Compare(a.ID, b.ID) })
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
func (c cut) join(all []*Found) (task.Encoding, []byte, error) {
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
