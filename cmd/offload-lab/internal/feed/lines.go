package feed

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Line is one message of a recorded stream, as written by `offload-lab generate`.
type Line struct {
	Topic   string          `json:"topic"`
	AfterMS float64         `json:"afterMs"` // since the start of the stream
	Payload json.RawMessage `json:"payload"` // an AddEventRequest
}

// Write writes one message as a line.
func Write(w io.Writer, m Message) error {
	payload, err := m.Event.Request()
	if err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(Line{Topic: m.Topic, AfterMS: float64(m.After.Microseconds()) / 1000, Payload: payload})
}

// PlayBack calls emit for every line of r, at the times in the lines, rate times as fast. It reads each line when it is due: a stream of any length
// takes the memory of one line.
func PlayBack(ctx context.Context, r io.Reader, rate float64, emit func(Line) error) error {
	start := time.Now()
	in := bufio.NewReaderSize(r, 1<<20)
	for n := 1; ; n++ {
		raw, err := in.ReadBytes('\n')
		if err == io.EOF && len(raw) == 0 {
			return nil
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("reading line %d of the feed: %w", n, err)
		}
		var l Line
		if err := json.Unmarshal(raw, &l); err != nil {
			return fmt.Errorf("line %d of the feed is not {topic, afterMs, payload}: %w", n, err)
		}
		due := start.Add(time.Duration(l.AfterMS / rate * float64(time.Millisecond)))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(due)):
		}
		if err := emit(l); err != nil {
			return err
		}
	}
}
