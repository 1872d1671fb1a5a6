package faults

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// secondService runs another app-offload on the same MessageBus for a while. It processes all on the node and publishes results,
// which the first one must not take for events: they would be in the database, where nothing of them belongs.
func (s *system) secondService(ctx context.Context) error {
	dir := filepath.Join(s.cfg.Dir, "second")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making a folder for the second app-offload: %w", err)
	}
	second, err := stack.StartEdge(stack.Config{
		Bin: s.cfg.Bin, Res: s.cfg.Res, Dir: dir, Log: s.files["second"], Bus: stack.Bus{Type: "mqtt", Addr: s.bus.addr}, Cloud: s.broker.addr,
		Args: []string{"-sk=app-offload-2"},
		Env:  []string{"OFFLOAD_NODE=lab-2", "OFFLOAD_WRITABLE_POLICY_DEFAULT=edge", "OFFLOAD_WRITABLE_CLASSES_DEFAULT_OPERATORS=summary window=1s"},
	})
	if err != nil {
		return err
	}
	defer second.Edge.Kill()
	err = until(ctx, patience, "the second app-offload is ready", func() (bool, error) {
		if ended(second.Edge) {
			return false, unexpected("the second app-offload", second.Edge)
		}
		return second.Get(ctx, "/ready", nil) == nil, nil
	})
	if err != nil {
		return err
	}
	if err := s.pausing(5 * time.Second)(ctx); err != nil {
		return err
	}
	st, err := second.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking the second app-offload: %w", err)
	}
	if st.Counts.Balance != 0 {
		s.violate("the balance of the second app-offload is %d: %s", st.Counts.Balance, text(st.Counts))
	}
	if err := second.Edge.Stop(stopTime); err != nil {
		s.violate("the end of the second app-offload: %v", err)
	}
	return nil
}
