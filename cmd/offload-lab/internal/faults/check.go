package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// stretch is how many events are published undisturbed in a check.
const stretch = 150

// check stops the faults and holds the system to its invariants, then publishes a stretch that nothing disturbs.
func (s *system) check(ctx context.Context) error {
	return inTurn(ctx, s.heal, s.quietly(s.arrived, s.inOrder(stretch, s.publishing(stretch, time.Millisecond)), s.compare))
}

// arrived waits until every acknowledged event is in the database and the spool is empty. It gives up when nothing moves
// any more.
func (s *system) arrived(ctx context.Context) error {
	want := s.publisher.accepted()
	err := s.advancing(ctx, func() (bool, int, error) {
		err := s.database.read(ctx)
		return s.database.complete >= want && s.database.awaited() == 0, s.database.rows, err
	})
	s.report.Stored, s.report.Doubled = s.database.rows, s.database.doubled
	if errors.Is(err, errStuck) {
		return s.lost(ctx, want)
	}
	if err != nil {
		return err
	}
	left := int64(0)
	err = s.advancing(ctx, func() (bool, int, error) {
		st, err := s.ask(ctx)
		if err == nil {
			left = st.Counts.Spooled + st.Counts.InFlight
		}
		return err == nil && left == 0, int(left), nil
	})
	if errors.Is(err, errStuck) {
		s.violate("all has arrived, and %d tasks are still in the spool: %s", left, s.status(ctx))
	}
	return errors.Join(err, s.answered(ctx, want))
}

var errStuck = errors.New("nothing moves any more")

// advancing asks until something is done, and gives up when a figure stands still for too long.
func (s *system) advancing(ctx context.Context, ask func() (done bool, figure int, err error)) error {
	last, since := -1, time.Now()
	for {
		done, figure, err := ask()
		if done || err != nil {
			return err
		}
		if figure != last {
			last, since = figure, time.Now()
		}
		if time.Since(since) > patience {
			return errStuck
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lost says which events are missing, and what each part knows of them.
func (s *system) lost(ctx context.Context, want int) error {
	missing := s.database.missing(want)
	s.report.Lost = len(missing) + s.database.awaited()
	shown := missing[:min(len(missing), 20)]
	ids := make([]string, len(shown))
	for i, n := range shown {
		ids[i] = s.publisher.id(n)
	}
	s.violate("%d of %d events are missing, and %d special ones, events %v with ids %v; the consumer knows %s; app-offload says %s",
		len(missing), want, s.database.awaited(), shown, ids, s.stats(ctx), s.status(ctx))
	return fmt.Errorf("%d events are lost", s.report.Lost)
}

// status is all that app-offload says of itself.
func (s *system) status(ctx context.Context) string {
	var raw json.RawMessage
	if err := s.edge.Load().Get(ctx, "/status", &raw); err != nil {
		return err.Error()
	}
	return string(raw)
}

// stats asks the consumer's own command, one line a node.
func (s *system) stats(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, filepath.Join(s.cfg.Bin, "offload-cloud"), "stats", "-json", "-store", s.store).Output() // #nosec G204 -- our own binary
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(out))
}

// leave ends both processes, once all has arrived, and looks at what they leave behind.
func (s *system) leave(ctx context.Context) error {
	s.stopWatch()
	if err := s.stopEdge(ctx); err != nil {
		s.violate("the end of app-offload: %v", err)
	}
	if err := s.stopCloud(ctx); err != nil {
		s.violate("the end of offload-cloud: %v", err)
	}
	if c, err := s.edge.Load().FinalCounts(); err != nil {
		s.violate("the account that app-offload left: %v", err)
	} else {
		s.checkAccount(c)
	}
	return s.inspect(ctx)
}

// checkAccount looks at the account that app-offload left.
func (s *system) checkAccount(c stack.Counts) {
	if c.Balance != 0 || c.InFlight != 0 || c.Spooled != 0 || c.Accepted < s.accepted || (len(c.Dropped) > 0 && !s.drops) {
		s.violate("the account that app-offload left, of at least %d accepted: %s", s.accepted, text(c))
	}
}

func (s *system) stopCloud(context.Context) error {
	begin := time.Now()
	err := s.cloud.Stop(patience / 3)
	s.report.Cloud.Stop = max(s.report.Cloud.Stop, time.Since(begin).Seconds())
	return err
}

// inspect looks at the whole database once more.
func (s *system) inspect(ctx context.Context) error {
	if err := s.database.read(ctx); err != nil {
		return err
	}
	tasks, places, epochs, err := s.database.again(ctx)
	if err != nil {
		return err
	}
	s.report.Stored, s.report.Doubled = s.database.rows, max(s.database.doubled, tasks+places)
	if tasks+places > 0 || epochs < 1 || epochs > 1+s.restored {
		s.violate("the database holds %d tasks and %d sequences twice, and %d epochs", tasks, places, epochs)
	}
	return s.checkStats(strings.NewReader(s.stats(ctx)))
}

// checkStats looks at what the consumer says of each node.
func (s *system) checkStats(lines io.Reader) error {
	for decoder := json.NewDecoder(lines); ; {
		var n struct {
			DuplicateRecords, DuplicateTasks, Gaps, DeadLetters int64
			Gone                                                map[string]int64
		}
		if err := decoder.Decode(&n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading what offload-cloud stats prints: %w", err)
		}
		s.report.Again += n.DuplicateRecords + n.DuplicateTasks
		delete(n.Gone, "skipped") // numbers that a crash left without a record: nothing was ever accepted under them
		if s.restored > 0 {       // what a copy of the spool repeats under other content is set aside, until it comes under a new epoch
			delete(n.Gone, "done")
			n.DeadLetters = 0
		}
		if n.Gaps != 0 || n.DeadLetters > s.garbage || (len(n.Gone) != 0 && !s.drops) {
			s.violate("the consumer has gaps, dead letters or records that are gone: %s", text(n))
		}
	}
}
