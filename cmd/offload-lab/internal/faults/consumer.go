package faults

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"app-offload/cmd/internal/postgres"
	"app-offload/cmd/offload-lab/internal/stack"
)

// consumer is one process of offload-cloud.
type consumer struct {
	*stack.Process
	web string // address of its web server
}

// openStore selects the consumer's database and starts its server if necessary.
func (s *system) openStore(ctx context.Context) (err error) {
	s.store = "sqlite:" + filepath.Join(s.cfg.Dir, "cloud.db")
	if !s.cfg.postgres {
		return nil
	}
	// No test cuts the power here, so nothing needs to reach the disk.
	if s.postgres, err = postgres.Start(ctx, s.files["postgres"], "fsync=off", "synchronous_commit=off"); err != nil {
		return err
	}
	s.store, err = s.postgres.Database(ctx, "cloud")
	return err
}

// startCloud starts the consumer and waits until it has subscribed.
func (s *system) startCloud(ctx context.Context) error {
	if err := s.launchCloud(ctx); err != nil {
		return err
	}
	begin := time.Now()
	err := s.awaiting(s.cloud)(ctx)
	s.report.Cloud.Start = max(s.report.Cloud.Start, time.Since(begin).Seconds())
	return err
}

// awaiting waits until a consumer has subscribed.
func (s *system) awaiting(c *consumer) step {
	return func(ctx context.Context) error {
		return until(ctx, patience, "offload-cloud is ready", func() (bool, error) {
			if ended(c.Process) {
				return false, unexpected("offload-cloud", c.Process)
			}
			return c.answers(ctx, "/ready"), nil
		})
	}
}

// launchCloud starts the consumer without waiting for it.
func (s *system) launchCloud(context.Context) error {
	c, err := s.launch("cloud", s.store, append([]string{"-id", "consumer"}, s.work.args()...)...)
	if err != nil {
		return err
	}
	s.follow(c)
	return nil
}

// follow makes a consumer the one that is watched.
func (s *system) follow(c *consumer) {
	s.asking.Lock()
	defer s.asking.Unlock()
	s.cloud = c
}

func (s *system) launch(log, store string, args ...string) (*consumer, error) {
	web, err := stack.FreeAddr()
	if err != nil {
		return nil, err
	}
	p, err := stack.StartProgram("offload-cloud", s.files[log], nil, filepath.Join(s.cfg.Bin, "offload-cloud"),
		append([]string{"-from", "mqtt://" + s.broker.addr, "-store", store, "-user", consumerUser, "-listen", web}, args...)...)
	return &consumer{p, "http://" + web}, err
}

func (c *consumer) answers(ctx context.Context, path string) bool {
	return stack.Get(ctx, c.web+path, nil) == nil
}

// The session limits of the consumers in this kind: like the defaults, but shorter.
const (
	lockTime = "&lock_timeout=500ms"
	idleTime = "&idle_in_transaction_session_timeout=3s"
)

// frozenName is the name of the hanging consumer's database sessions.
const frozenName = "frozen"

// hungWorker stops one of two consumers with SIGSTOP within a transaction that holds the node's row. Both have the same database, and share the
// messages or each receive all of them. The other consumer must store and receipt while the first one hangs. The first one is then resumed or killed.
func (s *system) hungWorker(ctx context.Context) error {
	if err := inTurn(ctx, s.heal, s.stopCloud); err != nil {
		return err
	}
	var share []string
	if s.random.IntN(2) == 0 {
		share = []string{"-share", "workers"}
	}
	frozen, err := s.launch("worker", s.store+lockTime+idleTime+"&application_name="+frozenName, append(share, "-id", "worker-1")...)
	if err != nil {
		return err
	}
	s.workers = append(s.workers[:0], frozen)
	other, err := s.launch("cloud", s.store+lockTime+idleTime, append(share, "-id", "worker-2")...)
	if err != nil {
		return err
	}
	s.follow(other)
	return inTurn(ctx, s.awaiting(frozen), s.awaiting(other), func(ctx context.Context) error { return s.freeze(ctx, frozen) },
		s.pausing(2*time.Second), s.passing("one of two consumers hangs in a transaction, and events wait for it", everyone),
		func(ctx context.Context) error { return s.thaw(ctx, frozen) })
}

// freeze stops a consumer while one of its sessions holds a row of the nodes.
func (s *system) freeze(ctx context.Context, c *consumer) error {
	return s.database.with(func(db *sql.DB) error {
		return until(ctx, patience, "the consumer is stopped within a transaction", func() (bool, error) {
			for range 100 { // a transaction takes a millisecond or two: poll often
				if began, _, err := transaction(ctx, db); err != nil || !began {
					if err != nil {
						return false, err
					}
					continue
				}
				if err := c.Signal(syscall.SIGSTOP); err != nil {
					return false, fmt.Errorf("stopping the consumer: %w", err)
				}
				time.Sleep(50 * time.Millisecond) // by then the server has processed everything that the consumer had sent
				if _, idle, err := transaction(ctx, db); err != nil || idle {
					return idle, err
				}
				if err := c.Signal(syscall.SIGCONT); err != nil {
					return false, fmt.Errorf("resuming the consumer: %w", err)
				}
			}
			return false, nil
		})
	})
}

// transaction reports whether a session of the hanging consumer has begun to lock rows of the nodes, and whether the server waits for its next
// statement with them locked.
func transaction(ctx context.Context, db *sql.DB) (began, idle bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT count(*) > 0, count(*) FILTER (WHERE state = 'idle in transaction') > 0
		FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE application_name = $1 AND relation = 'nodes'::regclass AND mode = 'RowShareLock'`, frozenName).Scan(&began, &idle)
	if err != nil {
		err = fmt.Errorf("looking for the consumer's transaction: %w", err)
	}
	return began, idle, err
}

// thaw resumes or kills the stopped consumer, and restores the usual consumer.
func (s *system) thaw(ctx context.Context, frozen *consumer) error {
	if s.random.IntN(2) == 0 {
		frozen.Kill()
		s.report.Kills.Cloud++
	} else {
		if err := frozen.Signal(syscall.SIGCONT); err != nil {
			return fmt.Errorf("resuming the consumer: %w", err)
		}
		err := inTurn(ctx, s.pausing(2*time.Second), s.awaiting(frozen), func(context.Context) error { return frozen.Stop(patience / 3) })
		if err != nil {
			return err
		}
	}
	s.workers = s.workers[:0]
	return inTurn(ctx, s.stopCloud, s.startCloud)
}
