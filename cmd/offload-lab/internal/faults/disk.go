package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// disk is a small file system of its own, in a file, where the spool lies. It needs root.
type disk struct{ image, dir string }

// diskSize is small enough to be filled in no time.
const diskSize = 64 << 20

// newDisk makes the file system and mounts it.
func newDisk(ctx context.Context, dir, at string) (*disk, error) {
	d := &disk{image: filepath.Join(dir, "disk.img"), dir: at}
	if err := os.MkdirAll(at, 0o750); err != nil {
		return nil, fmt.Errorf("making a place for the disk: %w", err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, fmt.Errorf("making the disk's image: %w", err)
	}
	if err := os.Truncate(d.image, diskSize); err != nil {
		return nil, fmt.Errorf("making the disk's image: %w", err)
	}
	if err := program(ctx, "mkfs.ext4", "-q", "-F", "-m", "0", d.image); err != nil {
		return nil, err
	}
	return d, d.mount(ctx)
}

func (d *disk) mount(ctx context.Context) error {
	if err := program(ctx, "mount", "-o", "loop", d.image, d.dir); err != nil {
		return fmt.Errorf("this scenario mounts a disk and needs root and loop devices for it: %w", err)
	}
	return nil
}

// fail makes the disk read-only at once, as the kernel does when it finds errors on one.
func (d *disk) fail(ctx context.Context) error {
	return program(ctx, "mount", "-o", "remount,abort", d.dir)
}

func (d *disk) unmount(ctx context.Context) error { return program(ctx, "umount", d.dir) }

// fill leaves so many bytes of the disk, with a file that has nothing to do with the spool.
func (d *disk) fill(ctx context.Context, leave int64) error {
	return program(ctx, "fallocate", "-l", fmt.Sprint(diskSize*9/10-leave), d.filler())
}

func (d *disk) filler() string { return filepath.Join(d.dir, "filler") }

func program(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput() // #nosec G204 -- the system's own programs
	if err != nil {
		return fmt.Errorf("running %s %v: %w: %s", name, args, err, out)
	}
	return nil
}

// withDisk plays on a disk of its own, and takes it away at the end, when no process uses it any more.
func (s *stage) withDisk(ctx context.Context, play func(d *disk) error) error {
	s.drops = true
	s.env = []string{
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", "OFFLOAD_SPOOL_QUOTAMIB=256", "OFFLOAD_SPOOL_SEGMENTMIB=1",
		"OFFLOAD_EXPORT_BACKOFFMAX=1s", "OFFLOAD_WRITABLE_POLICY_BACKLOGLIMIT=1",
	}
	d, err := newDisk(ctx, s.cfg.Dir, stack.SpoolIn(s.cfg.Dir))
	if err != nil {
		return err
	}
	if err = s.start(ctx); err == nil {
		err = play(d)
	}
	if e := s.edge.Load(); e != nil && e.Edge != nil {
		e.Edge.Kill()
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return errors.Join(err, d.unmount(after))
}

// fullDisk cuts the link on a disk that others have filled, so that the spool has no room long before its quota. What is
// asked:
//
//  1. The service goes on: what finds no room is done on the node, as the class says, and counted; the account balances.
//  2. Memory and goroutines do not grow.
//  3. With room on the disk and the link back all drains; every event has arrived or was done on the node.
func (s *stage) fullDisk(ctx context.Context) error {
	return s.withDisk(ctx, func(d *disk) error {
		return inTurn(ctx, func(ctx context.Context) error { return d.fill(ctx, 8<<20) }, s.cut, s.fallenBack, s.halves,
			func(context.Context) error { return os.Remove(d.filler()) }, s.roomAgain, s.mended)
	})
}

func (s *stage) fallenBack(ctx context.Context) error {
	return until(ctx, patience, "the disk is full and events are done on the node", func() (bool, error) {
		st, err := s.ask(ctx)
		return err == nil && st.Counts.Local > 0, nil
	})
}

// roomAgain asks whether the spool takes tasks again.
func (s *stage) roomAgain(ctx context.Context) error {
	var u Usage
	err := s.observing(&u, "with room again", 10*time.Second)(ctx)
	s.bounds(atLeast("tasks that the spool took once there was room", float64(u.Spooled-s.result.During.Spooled), 1))
	return err
}

// mended gives the link back and waits until the spool is empty. Every event has arrived then, or was done on the node.
func (s *stage) mended(ctx context.Context) error {
	if err := inTurn(ctx, s.heal, s.emptied); err != nil {
		return err
	}
	missing := int64(s.publisher.accepted() - s.database.complete)
	s.result.Dropped = s.counts.Dropped
	s.bounds(figure("events done on the node", float64(s.counts.Local+s.before.Local)))
	if missing > s.counts.Local+s.before.Local {
		s.report.Lost = int(missing - s.counts.Local - s.before.Local)
		s.violate("%d events did not arrive, and only %d were done on the node", missing, s.counts.Local+s.before.Local)
	}
	if len(s.counts.Dropped) > 0 {
		s.violate("tasks were dropped, although the class does them on the node: %s", text(s.counts))
	}
	return s.leave(ctx)
}

// readOnly makes the disk fail under the spool, as the kernel does with one on which it finds errors. What is asked:
//
//  1. The service goes on, says that it is not ready and why, and does what it can on the node.
//  2. After the disk is mended and the service started again all drains; every event has arrived or was done on the node.
func (s *stage) readOnly(ctx context.Context) error {
	return s.withDisk(ctx, func(d *disk) error {
		return inTurn(ctx, s.cut, s.observing(&Usage{}, "before", 10*time.Second), d.fail, s.halves, s.unready,
			s.quietly(func(ctx context.Context) error { return s.restartOn(ctx, d) }), s.mended)
	})
}

func (s *stage) unready(ctx context.Context) error {
	if s.edge.Load().Get(ctx, "/ready", nil) == nil {
		s.violate("the disk is read-only, and app-offload says that it is ready")
	}
	return nil
}

// restartOn ends app-offload on a disk that failed, mends the disk, and starts it again. What it cannot write down it cannot
// know afterwards: what it did since the disk failed, and said so. Events that it had refused come again.
func (s *stage) restartOn(ctx context.Context, d *disk) error {
	var st stack.Status
	err := until(ctx, patience, "all that was published has come in and is done", func() (done bool, err error) {
		st, err = s.ask(ctx)
		return err == nil && int64(st.Events.Received) >= s.publisher.acked.Load() && st.Counts.InFlight == 0, nil
	})
	if err != nil {
		return err
	}
	s.asking.Lock()
	s.before, s.heard, s.accepted = st.Counts, int64(st.Events.Received), 0
	s.asking.Unlock()
	s.say("before the restart: %s", text(st.Counts))
	if err := s.stopEdge(ctx); err != nil {
		s.say("the end of app-offload: %v", err)
	}
	return inTurn(ctx, d.unmount, d.mount, s.startEdge, s.awaitEdge)
}
