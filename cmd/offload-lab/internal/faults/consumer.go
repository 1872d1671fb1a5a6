package faults

import (
	"context"
	"path/filepath"
	"time"

	"app-offload/cmd/internal/postgres"
	"app-offload/cmd/offload-lab/internal/stack"
)

// consumer is one process of offload-cloud.
type consumer struct {
	*stack.Process
	web string // its own address
}

// openStore chooses the consumer's database, and starts the server that it needs.
func (s *system) openStore(ctx context.Context) (err error) {
	s.store = "sqlite:" + filepath.Join(s.cfg.Dir, "cloud.db")
	if !s.cfg.postgres {
		return nil
	}
	// No power fails here, so that nothing needs to reach the disk.
	if s.postgres, err = postgres.Start(ctx, s.files["postgres"], "fsync=off", "synchronous_commit=off"); err != nil {
		return err
	}
	s.store, err = s.postgres.Database(ctx, "cloud")
	return err
}

// databaseHere reports whether a PostgreSQL server can be started on this machine.
func databaseHere() bool {
	_, err := postgres.Programs()
	return err == nil
}

// startCloud starts the consumer and waits until it is subscribed.
func (s *system) startCloud(ctx context.Context) error {
	if err := s.launchCloud(ctx); err != nil {
		return err
	}
	begin := time.Now()
	err := s.awaiting(s.cloud)(ctx)
	s.report.Cloud.Start = max(s.report.Cloud.Start, time.Since(begin).Seconds())
	return err
}

// awaiting waits until a consumer is subscribed.
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

// launchCloud starts the consumer and does not wait for it.
func (s *system) launchCloud(context.Context) error {
	c, err := s.launch("cloud", s.store, append([]string{"-id", "consumer"}, s.work.args()...)...)
	if err != nil {
		return err
	}
	s.follow(c)
	return nil
}

// follow makes a consumer the one that is asked how it is.
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
	p, err := stack.StartBinary(s.files[log], "offload-cloud", s.cfg.Bin, nil,
		append([]string{"-from", "mqtt://" + s.broker.addr, "-store", store, "-user", consumerUser, "-listen", web}, args...)...)
	return &consumer{p, "http://" + web}, err
}

func (c *consumer) answers(ctx context.Context, path string) bool {
	return stack.Get(ctx, c.web+path, nil) == nil
}
