package task

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// MissingError lists the chunks of an event that have not arrived. Its size is bounded: Of is at most MaxTasks.
type MissingError struct {
	EventID string
	Missing []int // ascending
	Of      int
}

// Error names the first few missing chunks.
func (e *MissingError) Error() string {
	shown, more := e.Missing, ""
	if len(shown) > 10 {
		shown, more = shown[:10], " …"
	}
	return fmt.Sprintf("joining event %s: %d of %d chunks are missing: %v%s", e.EventID, len(e.Missing), e.Of, shown, more)
}

// Join restores the exact received bytes of an event from its tasks, in any order and with duplicates. It returns a *MissingError with the missing
// chunks, or an error if tasks contradict each other. The bytes of an event that was never split are those of its task.
func Join(tasks []*Task) ([]byte, error) {
	parts, err := gather(tasks)
	if err != nil {
		return nil, err
	}
	if len(parts) == 1 {
		return parts[0].Data, nil
	}
	raw, err := fill(parts[0], parts[1:])
	if err != nil {
		return nil, fmt.Errorf("joining event %s: %w", parts[0].EventID, err)
	}
	return raw, nil
}

// gather orders the tasks of one event by chunk, without duplicates.
func gather(tasks []*Task) ([]*Task, error) {
	if len(tasks) == 0 {
		return nil, errors.New("joining an event: no tasks given")
	}
	id, of := tasks[0].EventID, tasks[0].Of
	if of < 1 || of > MaxTasks {
		return nil, fmt.Errorf("joining event %s: it claims %d tasks, the limit is %d", id, of, MaxTasks)
	}
	parts := make([]*Task, of)
	for _, t := range tasks {
		if t.EventID != id || t.Of != of || t.Chunk < 0 || t.Chunk >= of {
			return nil, fmt.Errorf("joining event %s of %d tasks: task %d of %d of event %s is not one of them", id, of, t.Chunk, t.Of, t.EventID)
		}
		if old := parts[t.Chunk]; old != nil && !same(old, t) {
			return nil, fmt.Errorf("joining event %s: chunk %d came twice with different contents", id, t.Chunk)
		}
		parts[t.Chunk] = t
	}
	return parts, missing(parts, id)
}

func missing(parts []*Task, id string) error {
	var gaps []int
	for i, t := range parts {
		if t == nil {
			gaps = append(gaps, i)
		}
	}
	if gaps == nil {
		return nil
	}
	return &MissingError{EventID: id, Missing: gaps, Of: len(parts)}
}

// same compares the fields that Join uses; a redelivered task may differ in others, such as its time of reception.
func same(a, b *Task) bool {
	return a == b || a.Encoding == b.Encoding && a.Hole == b.Hole && a.Offset == b.Offset && a.Count == b.Count &&
		slices.Equal(a.Holes, b.Holes) && bytes.Equal(a.Data, b.Data)
}

// fill inserts the chunks, which are in order, into the holes of their frame.
func fill(frame *Task, chunks []*Task) ([]byte, error) {
	size := len(frame.Data)
	for _, t := range chunks {
		size += len(t.Data) + len(t.Data)/2 // a comma, or a third more for base64
	}
	raw, from := make([]byte, 0, size), 0
	for i, hole := range frame.Holes {
		if hole.At < from || hole.At > len(frame.Data) {
			return nil, fmt.Errorf("hole %d at %d is not between %d and %d", i, hole.At, from, len(frame.Data))
		}
		raw = append(raw, frame.Data[from:hole.At]...)
		from = hole.At
		n := countOf(chunks, i)
		if err := fits(hole, chunks[:n]); err != nil {
			return nil, fmt.Errorf("hole %d: %w", i, err)
		}
		raw = hole.appendValue(raw, chunks[:n], frame.Encoding)
		chunks = chunks[n:]
	}
	if len(chunks) > 0 {
		return nil, fmt.Errorf("chunk %d belongs to hole %d, which the frame does not have", chunks[0].Chunk, chunks[0].Hole)
	}
	return append(raw, frame.Data[from:]...), nil
}

// countOf returns the number of leading chunks that belong to the hole.
func countOf(chunks []*Task, hole int) int {
	n := 0
	for n < len(chunks) && chunks[n].Hole == hole {
		n++
	}
	return n
}

// fits checks that the chunks make up the hole's value without gap or overlap.
func fits(hole Hole, chunks []*Task) error {
	at := 0
	for _, t := range chunks {
		held := len(t.Data)
		switch t.Encoding {
		case Text:
			held = elements(t.Data)
		case CBOR:
			n, _, ok := readingsIn(t.Data)
			if held = n; !ok {
				return fmt.Errorf("chunk %d is not an array of readings", t.Chunk)
			}
		case JSON:
			held = t.Count
			if len(t.Data) < 2 || t.Data[0] != '[' || t.Data[len(t.Data)-1] != ']' {
				return fmt.Errorf("chunk %d is not an array of readings", t.Chunk)
			}
		}
		if t.Encoding != hole.Encoding || t.Offset != at || t.Count != held {
			return fmt.Errorf("chunk %d with %d of %d at %d does not continue its value at %d", t.Chunk, held, t.Count, t.Offset, at)
		}
		at += t.Count
	}
	if at != hole.Length {
		return fmt.Errorf("the chunks hold %d of %d", at, hole.Length)
	}
	return nil
}

func (h Hole) appendValue(raw []byte, chunks []*Task, frame Encoding) []byte {
	value := raw
	base64 := h.Encoding == Binary && frame == JSON
	if base64 {
		value = make([]byte, 0, h.Length) // chunks need not end at a base64 group
	}
	for i, t := range chunks {
		data := t.Data
		switch h.Encoding {
		case CBOR:
			_, from, _ := readingsIn(data)
			data = data[from:]
		case JSON:
			data = data[1 : len(data)-1]
		}
		if i > 0 && (h.Encoding == Text || h.Encoding == JSON) {
			value = append(value, ',')
		}
		value = append(value, data...)
	}
	if base64 {
		return strict.AppendEncode(raw, value)
	}
	return value
}
