package store

import (
	"cmp"
	"crypto/sha256"
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

// Join joins the tasks of one event, for each way in which the event was cut: it may have been cut differently when it was delivered to the node
// again. A chunk that both cuts have in common was stored once, so it is taken from the other cut. Join returns each complete event once, in the
// order in which the chunks began to arrive. If no event is complete, it returns the missing chunks of the cut with the fewest, or the reason why
// chunks do not fit together.
func Join(all []*Found) (whole []Whole, least *task.MissingError, problem error) {
	j := joiner{sets: map[int]map[int][]*task.Task{}, own: map[cut]map[int][]*task.Task{}, left: stepsMax}
	fewest, seen := 0, map[[sha256.Size]byte]bool{}
	for _, c := range j.cuts(all) {
		if lack := c.of - len(j.sets[c.of]); lack > 0 { // applies to each cut into this number of parts
			if fewest == 0 || lack < fewest {
				fewest = lack
				_, err := task.Join(j.firsts(c.of))
				least, _ = errors.AsType[*task.MissingError](err) // stored records fit into their number of parts
			}
			continue
		}
		encoding, raw, err := j.join(c)
		if err != nil {
			problem = err
			continue
		}
		if digest := sha256.Sum256(raw); !seen[digest] {
			seen[digest] = true
			whole = append(whole, Whole{c.of, encoding, raw})
		}
	}
	return whole, least, problem
}

// cut identifies one way in which an event was cut: all its chunks have the same number of parts and time of reception.
type cut struct {
	of       int
	received int64
}

// stepsMax is the maximum number of steps of the search for chunks that fit together, over all cuts of an event.
const stepsMax = 100_000

// joiner holds the chunks of one event, by their numbers.
type joiner struct {
	sets map[int]map[int][]*task.Task // of all cuts into this number of parts
	own  map[cut]map[int][]*task.Task
	left int // remaining steps
}

// cuts registers the chunks, and returns their cuts in the order in which they began to arrive.
func (j *joiner) cuts(all []*Found) (list []cut) {
	for _, f := range slices.SortedFunc(slices.Values(all), func(a, b *Found) int { return cmp.Compare(a.ID, b.ID) }) {
		c := cut{f.Task.Of, f.Task.Received}
		if c.of <= 1 {
			continue
		}
		if j.sets[c.of] == nil {
			j.sets[c.of] = map[int][]*task.Task{}
		}
		if j.own[c] == nil {
			j.own[c] = map[int][]*task.Task{}
			list = append(list, c)
		}
		for _, to := range []map[int][]*task.Task{j.sets[c.of], j.own[c]} {
			to[f.Task.Chunk] = append(to[f.Task.Chunk], f.Task)
		}
	}
	return list
}

// join joins the event from the chunks of a cut and, if the cut lacks one, from chunks of other cuts that continue where the previous chunk ends.
// Fitting chunks of the cut itself cost no steps, so other cuts cannot use up the steps that it needs.
func (j *joiner) join(c cut) (task.Encoding, []byte, error) {
	chosen := make([]*task.Task, 0, c.of)
	var raw []byte
	var err error
	var search func(chunk int) bool
	try := func(chunk int, t *task.Task) bool {
		if chunk > 1 && !follows(chosen[chunk-1], t) {
			return false
		}
		chosen = append(chosen[:chunk], t)
		if search(chunk + 1) {
			return true
		}
		j.left--
		return false
	}
	search = func(chunk int) bool {
		if chunk == c.of {
			raw, err = task.Join(chosen)
			return err == nil
		}
		for _, t := range j.own[c][chunk] {
			if try(chunk, t) {
				return true
			}
			if j.left <= 0 {
				return false
			}
		}
		for _, t := range j.sets[c.of][chunk] {
			if t.Received == c.received {
				continue
			}
			if j.left--; j.left > 0 && try(chunk, t) {
				return true
			}
		}
		return false
	}
	if search(0) {
		return chosen[0].Encoding, raw, nil // chunk 0 is the frame, with the event's encoding
	}
	if err == nil {
		err = fmt.Errorf("joining event %s: its chunks do not continue each other", j.sets[c.of][0][0].EventID)
	}
	return 0, nil, err
}

// follows reports whether a chunk continues where the previous one ends, or begins another value.
func follows(before, t *task.Task) bool {
	if t.Hole == before.Hole {
		return t.Offset == before.Offset+before.Count
	}
	return t.Hole > before.Hole && t.Offset == 0
}

// firsts returns one chunk of each number.
func (j *joiner) firsts(of int) (tasks []*task.Task) {
	for chunk := range of {
		if some := j.sets[of][chunk]; len(some) > 0 {
			tasks = append(tasks, some[0])
		}
	}
	return tasks
}
