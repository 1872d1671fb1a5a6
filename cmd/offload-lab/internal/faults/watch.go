package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// watch queries both processes several times a second, also during faults.
func (s *system) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(150 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			_, _ = s.ask(ctx) // a stopped or busy process does not answer and is queried again
			if n%7 == 0 {
				_, _ = s.askCloud(ctx)
			}
			<-tick.C
		}
	})
	s.stopWatch = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
}

// The upper limits of both processes.
const (
	maxRSS        = 512 << 20
	maxGoroutines = 250
)

// ask gets app-offload's account and checks it.
func (s *system) ask(ctx context.Context) (stack.Status, error) {
	s.asking.Lock() // so that answers are checked in the order of the queries
	defer s.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	st, err := s.edge.Load().Status(ctx)
	if err != nil {
		return st, err
	}
	s.report.Asked++
	c := st.Counts
	if c.Balance != 0 {
		s.violate("the balance is %d: %s", c.Balance, text(c))
	}
	if c.Accepted < s.accepted {
		s.violate("%d tasks had been accepted, and now it is %d: %s", s.accepted, c.Accepted, text(c))
	}
	s.accepted = max(s.accepted, c.Accepted)
	s.bound("app-offload", &s.report.Edge, st.Process.RSS, st.Process.Goroutines)
	return st, nil
}

// askCloud gets the consumer's usage of resources.
func (s *system) askCloud(ctx context.Context) (Bounds, error) {
	s.asking.Lock()
	defer s.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var b Bounds
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cloud.web+"/metrics", nil)
	if err != nil {
		return b, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return b, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		switch {
		case err != nil:
		case name == "go_goroutines":
			b.Goroutines = int(number)
		case name == "process_resident_memory_bytes":
			b.RSS = int64(number)
		}
	}
	s.bound("offload-cloud", &s.report.Cloud, b.RSS, b.Goroutines)
	return b, nil
}

func (s *system) bound(name string, most *Bounds, rss int64, goroutines int) {
	if rss > maxRSS || goroutines > maxGoroutines {
		s.violate("%s has %d MiB and %d goroutines", name, rss>>20, goroutines)
	}
	most.RSS, most.Goroutines = max(most.RSS, rss), max(most.Goroutines, goroutines)
}

// calm is the usage of the processes at the first rest.
type calm struct{ edge, cloud Bounds }

// The allowed growth of a process over its first rest: caches fill, and memory is not released immediately.
const (
	moreRSS        = 96 << 20
	moreGoroutines = 20
)

// compare compares the usage of both at rest with that at the first rest. It waits a while for effects of a fault to disappear.
func (s *system) compare(ctx context.Context) error {
	var problem string
	err := s.advancing(ctx, func() (bool, int, error) {
		edge, cloud, err := s.atRest(ctx)
		if s.calm == nil {
			s.calm = &calm{edge, cloud}
		}
		problem = grown("app-offload", s.calm.edge, edge) + grown("offload-cloud", s.calm.cloud, cloud)
		return problem == "", 0, err
	})
	if !errors.Is(err, errStuck) {
		return err
	}
	s.violate("%safter %v at rest; the stacks of app-offload are at the end of edge.log", problem, patience)
	s.edge.Load().Edge.Abort()
	return errors.New("a process has grown")
}

func (s *system) atRest(ctx context.Context) (edge, cloud Bounds, err error) {
	st, err := s.ask(ctx)
	if err != nil {
		return edge, cloud, fmt.Errorf("asking app-offload: %w", err)
	}
	if cloud, err = s.askCloud(ctx); err != nil {
		return edge, cloud, fmt.Errorf("asking offload-cloud: %w", err)
	}
	return Bounds{RSS: st.Process.RSS, Goroutines: st.Process.Goroutines}, cloud, nil
}

func grown(name string, from, to Bounds) string {
	if to.RSS <= from.RSS+moreRSS && to.Goroutines <= from.Goroutines+moreGoroutines {
		return ""
	}
	return fmt.Sprintf("%s has %d MiB and %d goroutines, at its first rest it had %d and %d, ", name,
		to.RSS>>20, to.Goroutines, from.RSS>>20, from.Goroutines)
}

func text(v any) string {
	raw, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
