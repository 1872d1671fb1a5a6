package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/spool"
)

// With these settings an absence of minutes equals a day's absence under the default ones: quota and time to live are exceeded many times.
const (
	goneQuota = 16 // MiB
	goneTTL   = 15 * time.Second
)

// goneClasses give one device's events a time to live, another one's the lowest lane, where the oldest are dropped first, and all others the same in
// a higher lane.
var goneClasses = []string{
	"OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHDEVICE=pump-0", "OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHPROFILE=",
	"OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHRESOURCE=", "OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHSOURCE=",
	"OFFLOAD_WRITABLE_CLASSES_CAMERA_PRIORITY=7", "OFFLOAD_WRITABLE_CLASSES_CAMERA_TTL=" + goneTTL.String(),
	"OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHDEVICE=pump-1", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHPROFILE=",
	"OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHRESOURCE=", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHSOURCE=",
	"OFFLOAD_WRITABLE_CLASSES_VIBRATION_PRIORITY=3", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_ONFULL=dropOldest",
	"OFFLOAD_WRITABLE_CLASSES_DEFAULT_ONFULL=dropOldest",
}

// gone stops the consumer; the broker stays and acknowledges. Requirements:
//
//  1. Memory and goroutines of app-offload do not grow: in the second half they are within a tenth of the first.
//  2. The spool keeps its quota, and counts each dropped event by reason and class.
//  3. The log states that acknowledgements arrive without receipts, and the remedy.
//  4. When the consumer is back, everything arrives that was not dropped, and each gap is explained to it.
func (s *stage) gone(ctx context.Context) error {
	s.drops = true
	s.env = append([]string{
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", goneQuota),
		"OFFLOAD_WRITABLE_POLICY_BACKLOGLIMIT=1", "OFFLOAD_EXPORT_RECEIPTTIMEOUT=5s",
	}, goneClasses...)
	return inTurn(ctx, s.start, s.observing(&Usage{}, "before", 10*time.Second), s.endCloud, s.halves, s.advised, s.startCloud,
		s.explained, s.emptied, s.leave, s.accountForDropped)
}

// advised checks that the log names the remedy when acknowledgements arrive without receipts.
func (s *stage) advised(context.Context) error {
	log, err := os.ReadFile(filepath.Join(s.cfg.Dir, "edge.log"))
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	if !bytes.Contains(log, []byte("start offload-cloud")) {
		s.violate("the log does not say what to do when acknowledgements come and receipts never do")
	}
	return nil
}

// explained waits, with events still arriving, until the consumer knows the reason of every gap.
func (s *stage) explained(ctx context.Context) error {
	begin := time.Now()
	err := until(ctx, 2*patience, "each gap is explained to the consumer", func() (bool, error) {
		st, err := s.ask(ctx)
		if err != nil || float64(st.Counts.Spooled) > 2*s.rate {
			return false, nil
		}
		var n struct{ Gaps int64 }
		err = json.Unmarshal([]byte(s.stats(ctx)), &n)
		return n.Gaps == 0, err
	})
	s.bounds(figure("s until each gap was explained", time.Since(begin).Seconds()))
	s.say("each gap is explained: %s", s.stats(ctx))
	return err
}

// halves compares two halves of the fault, since the first one fills the bounded buffers.
func (s *stage) halves(ctx context.Context) error {
	err := s.timed(s.observing(&s.result.Before, s.name+", first half", s.duration/2),
		s.observing(&s.result.During, s.name+", second half", s.duration/2))(ctx)
	if err != nil {
		return err
	}
	b, d := s.result.Before, s.result.During
	s.bounds(
		atMost("RSS in the second half, times the first (most)", float64(d.RSS)/float64(b.RSS), 1.1),
		atMost("goroutines in the second half, times the first", float64(d.Goroutines)/float64(b.Goroutines), 1.1),
		atLeast("rate of the intake, times that of the publisher", d.Rate/d.Published, 0.95),
	)
	return nil
}

// emptied stops the traffic and waits until the spool is empty and its events have arrived.
func (s *stage) emptied(ctx context.Context) error {
	begin := time.Now()
	if err := inTurn(ctx, s.disk, then(s.publisher.stop), s.publisher.settled); err != nil {
		return err
	}
	left := int64(0)
	err := s.advancing(ctx, func() (bool, int, error) {
		st, err := s.ask(ctx)
		if err != nil {
			return false, int(left), nil
		}
		left = st.Counts.Spooled + st.Counts.InFlight
		s.counts = st.Counts
		return left == 0 && s.heard+int64(st.Events.Received) >= s.publisher.acked.Load(), int(left), s.database.read(ctx)
	})
	s.result.Drain = rounded(time.Since(begin).Seconds())
	s.report.Stored, s.report.Doubled = s.database.rows, s.database.doubled
	if errors.Is(err, errStuck) {
		s.violate("%d tasks are still in the spool: %s", left, s.status(ctx))
	}
	return err
}

// disk adds the disk space of the spool to the bounds.
func (s *stage) disk(context.Context) error {
	var size int64
	err := filepath.WalkDir(s.edge.Load().Spool(), func(_ string, d os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil // the spool removes files at any time
		}
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("measuring the spool: %w", err)
	}
	s.bounds(atMost("MiB on disk", float64(size)/(1<<20), goneQuota+1)) // it includes the account's files, and states can outgrow their slots
	return nil
}

// accountForDropped compares the missing events with those counted as dropped, by reason and class.
func (s *stage) accountForDropped(ctx context.Context) error {
	cfg := spool.DefaultConfig()
	cfg.QuotaMiB = goneQuota
	sp, err := spool.Open(s.edge.Load().Spool(), cfg)
	if err != nil {
		return err
	}
	st := sp.Stats()
	if err := sp.Close(); err != nil {
		return err
	}
	s.result.Dropped = map[string]int64{}
	dropped := int64(0)
	for name, class := range st.Classes {
		for why, n := range class.Dropped {
			s.result.Dropped[name+" "+why] = int64(n)
			dropped += int64(n)
		}
	}
	all := int64(0)
	for _, n := range s.counts.Dropped {
		all += n
	}
	if all > dropped {
		s.result.Dropped["before the spool"] = all - dropped // newcomers dropped before the spool
	}
	missing := int64(s.publisher.accepted() - s.database.complete)
	s.bounds(
		atLeast("events of class camera that expired", float64(s.result.Dropped["camera expired"]), 1),
		atLeast("events of class vibration that made room", float64(s.result.Dropped["vibration full"]), 1),
		atLeast("events of class default that made room", float64(s.result.Dropped["default full"]), 1),
	)
	s.reasons(ctx, st)
	if missing != all+s.counts.Local {
		s.report.Lost = int(max(missing-all-s.counts.Local, 0))
		s.violate("%d events did not arrive, of which %d are counted as dropped and %d as done on the node", missing, all, s.counts.Local)
	}
	return nil
}

// reasons compares the reasons known to the consumer with those counted by the spool.
func (s *stage) reasons(ctx context.Context, st spool.Stats) {
	var told struct{ Gone map[string]int64 }
	if err := json.Unmarshal([]byte(s.stats(ctx)), &told); err != nil {
		s.violate("the consumer's figures cannot be read: %v", err)
		return
	}
	for _, why := range []string{spool.ReasonExpired, spool.ReasonFull} {
		off := told.Gone[why] - int64(st.Dropped[why])
		s.bounds(atMost("gaps explained as "+why+" that are none, or the other way round", math.Abs(float64(off)), 0))
	}
	s.bounds(atMost("gaps whose reason was forgotten", float64(told.Gone["unknown"]), 0))
}

// disk is a small file system in a file, for the spool. It requires root.
type disk struct{ image, dir string }

// diskSize is small, so that filling it is quick.
const diskSize = 64 << 20

// newDisk creates the file system and mounts it.
func newDisk(ctx context.Context, dir, at string) (*disk, error) {
	d := &disk{image: filepath.Join(dir, "disk.img"), dir: at}
	if err := os.MkdirAll(at, 0o750); err != nil {
		return nil, fmt.Errorf("creating the mount point: %w", err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, fmt.Errorf("creating the disk's image: %w", err)
	}
	if err := os.Truncate(d.image, diskSize); err != nil {
		return nil, fmt.Errorf("creating the disk's image: %w", err)
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

// fail makes the disk read-only immediately, as the kernel does on errors.
func (d *disk) fail(ctx context.Context) error {
	return program(ctx, "mount", "-o", "remount,abort", d.dir)
}

func (d *disk) unmount(ctx context.Context) error { return program(ctx, "umount", d.dir) }

// fill fills the disk with a foreign file, except for leave bytes.
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

// withDisk runs play on a separate disk, and removes the disk when no process uses it any more.
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

// fullDisk cuts the link on a disk filled by other files, so that the spool runs out of space long before its quota. Requirements:
//
//  1. The service continues: tasks without space are done locally, as the class configures, and counted; the account balances.
//  2. Memory and goroutines do not grow.
//  3. With space on the disk and the link restored, the spool drains; every event has arrived or was done locally.
func (s *stage) fullDisk(ctx context.Context) error {
	return s.withDisk(ctx, func(d *disk) error {
		return inTurn(ctx, func(ctx context.Context) error { return d.fill(ctx, 8<<20) }, s.cut, s.fallenBack, s.halves,
			func(context.Context) error { return os.Remove(d.filler()) }, s.roomAgain, s.repaired)
	})
}

func (s *stage) fallenBack(ctx context.Context) error {
	return until(ctx, patience, "the disk is full and events are done on the node", func() (bool, error) {
		st, err := s.ask(ctx)
		return err == nil && st.Counts.Local > 0, nil
	})
}

// roomAgain checks that the spool accepts tasks again.
func (s *stage) roomAgain(ctx context.Context) error {
	var u Usage
	err := s.observing(&u, "with room again", 10*time.Second)(ctx)
	s.bounds(atLeast("tasks that the spool took once there was room", float64(u.Spooled-s.result.During.Spooled), 1))
	return err
}

// repaired restores the link and waits until the spool is empty. By then every event must have arrived or been done locally.
func (s *stage) repaired(ctx context.Context) error {
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

// readOnly makes the spool's disk fail, as the kernel does on errors. Requirements:
//
//  1. The service continues, reports that it is not ready and why, and does tasks locally where possible.
//  2. After the disk is repaired and the service restarted, the spool drains; every event has arrived or was done locally.
func (s *stage) readOnly(ctx context.Context) error {
	return s.withDisk(ctx, func(d *disk) error {
		return inTurn(ctx, s.cut, s.observing(&Usage{}, "before", 10*time.Second), d.fail, s.halves, s.unready,
			s.quietly(func(ctx context.Context) error { return s.restartOn(ctx, d) }), s.repaired)
	})
}

func (s *stage) unready(ctx context.Context) error {
	if s.edge.Load().Get(ctx, "/ready", nil) == nil {
		s.violate("the disk is read-only, and app-offload says that it is ready")
	}
	return nil
}

// restartOn stops app-offload on the failed disk, repairs the disk, and starts it again. The service cannot persist, and so loses, the counts since
// the failure, which it has reported. Refused events are delivered again.
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
