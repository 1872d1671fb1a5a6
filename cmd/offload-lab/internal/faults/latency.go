package faults

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// decision is the part of app-offload's decisions that contains the time of the task.
type decision struct {
	ID      uint64 `json:"id"`
	Time    int64  `json:"time"` // ns since the Unix epoch
	Outcome struct {
		Known bool    `json:"known"`
		Time  float64 `json:"time"` // s, from reception to receipt
	} `json:"outcome"`
}

// askEvery is the interval of queries for decisions. An answer holds a thousand, more than arrive within an interval.
const (
	askEvery = 500 * time.Millisecond
	answers  = 1000
)

// latencies measures fresh events for a while by app-offload's own times from reception to receipt, and returns the 99th percentile. An event without
// a receipt when it leaves the ring counts with its age.
func (s *stage) measuring(p99 *float64, what string) step {
	return func(ctx context.Context) (err error) {
		*p99, err = s.latencies(ctx, what)
		return err
	}
}

func (s *stage) latencies(ctx context.Context, what string) (p99 float64, err error) {
	begin := time.Now()
	end := begin.Add(s.duration)
	took := map[uint64]float64{}
	waits := map[uint64]int64{}
	for last := false; !last; {
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		last = time.Since(end) > answersSpan(s.rate)
		var list struct {
			Decisions []decision `json:"decisions"`
		}
		if err := s.edge.Load().Get(ctx, fmt.Sprint("/decisions?limit=", answers), &list); err != nil {
			return 0, fmt.Errorf("asking for decisions: %w", err)
		}
		now := time.Now().UnixNano()
		for _, d := range list.Decisions {
			switch {
			case d.Time < begin.UnixNano() || d.Time >= end.UnixNano():
			case d.Outcome.Known:
				took[d.ID] = d.Outcome.Time
				delete(waits, d.ID)
			default:
				waits[d.ID] = now - d.Time
			}
		}
	}
	all := make([]float64, 0, len(took)+len(waits))
	for _, t := range took {
		all = append(all, t)
	}
	for _, age := range waits {
		all = append(all, float64(age)/1e9)
	}
	if len(all) == 0 {
		return 0, errors.New("no event came in while latencies were measured")
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[min(int(q*float64(len(all))), len(all)-1)] }
	s.say("%s: %d events, p50 %.0f ms, p99 %.0f ms, most %.0f ms, %d without a receipt", what, len(all), at(.5)*1e3, at(.99)*1e3,
		all[len(all)-1]*1e3, len(waits))
	return at(.99), nil
}

// answersSpan is the time covered by one answer.
func answersSpan(rate float64) time.Duration {
	return min(time.Duration(answers/rate*float64(time.Second)), 10*time.Second)
}
