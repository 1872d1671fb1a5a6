package faults

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Usage is app-offload's usage of resources over a period.
type Usage struct {
	RSS        int64   `json:"rss"`        // bytes, maximum; as in /proc/PID/status
	Mean       int64   `json:"rssMean"`    // bytes
	Goroutines int     `json:"goroutines"` // maximum
	Rate       float64 `json:"rate"`       // events received per second
	Published  float64 `json:"published"`  // events published per second; fewer than configured on a busy machine
	Behind     float64 `json:"behind"`     // s of traffic behind the publisher, maximum
	Spooled    int64   `json:"spooled"`    // tasks in the spool at the end
}

// observing watches app-offload for a while and records its usage.
func (s *stage) observing(u *Usage, what string, d time.Duration) step {
	return func(ctx context.Context) (err error) {
		*u, err = s.observe(ctx, what, s.paced(d))
		return err
	}
}

// observe watches app-offload for a while, twice a second, and prints its state from time to time.
func (s *stage) observe(ctx context.Context, what string, d time.Duration) (Usage, error) {
	var u Usage
	var sum, first, sent int64
	begin := time.Now()
	for n := int64(1); ; n++ {
		published := s.publisher.sent.Load()
		st, err := s.ask(ctx)
		if err != nil {
			return u, fmt.Errorf("asking app-offload while %s: %w", what, err)
		}
		rss, err := resident(s.edge.Load().Edge.PID())
		if err != nil {
			return u, err
		}
		if n == 1 {
			first, sent, begin = int64(st.Events.Received), published, time.Now()
		}
		sum += rss
		u.RSS, u.Mean = max(u.RSS, rss), sum/n
		u.Goroutines = max(u.Goroutines, st.Process.Goroutines)
		u.Behind = max(u.Behind, rounded(float64(published-int64(st.Events.Received))/s.rate))
		u.Spooled = st.Counts.Spooled
		if n%20 == 1 {
			s.say("%s: RSS %.1f MiB, %d goroutines, %d events in, %d tasks spooled, %d batches with %d KiB in flight, link up %t", what,
				float64(rss)/(1<<20), st.Process.Goroutines, int64(st.Events.Received), st.Counts.Spooled,
				st.Export.Inflight, st.Export.InflightBytes>>10, st.Link.Up)
		}
		if past := time.Since(begin); past >= d {
			u.Rate = rounded(float64(int64(st.Events.Received)-first) / past.Seconds())
			u.Published = rounded(float64(published-sent) / past.Seconds())
			return u, nil
		}
		select {
		case <-time.After(s.paced(500 * time.Millisecond)):
		case <-ctx.Done():
			return u, ctx.Err()
		}
	}
}

// resident is the resident memory of a process in bytes.
func resident(pid int) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the memory of app-offload, which needs Linux: %w", err)
	}
	_, rest, found := bytes.Cut(raw, []byte("\nVmRSS:"))
	fields := bytes.Fields(rest)
	if !found || len(fields) == 0 {
		return 0, fmt.Errorf("%s has no VmRSS", path)
	}
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: VmRSS %q: %w", path, fields[0], err)
	}
	return kib << 10, nil
}
