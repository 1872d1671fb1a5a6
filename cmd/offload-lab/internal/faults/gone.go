package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"app-offload/functions/spool"
)

// The terms under which a consumer that is gone for minutes is gone for as long as one that is gone for a day under the
// usual ones: quota and time to live are used up many times over.
const (
	goneQuota = 16 // MiB
	goneTTL   = 15 * time.Second
)

// goneClasses give one device's events a time to live, another one's the lowest lane, where the oldest make room, and all
// others the same in a higher lane.
var goneClasses = []string{
	"OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHDEVICE=pump-0", "OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHPROFILE=",
	"OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHRESOURCE=", "OFFLOAD_WRITABLE_CLASSES_CAMERA_MATCHSOURCE=",
	"OFFLOAD_WRITABLE_CLASSES_CAMERA_PRIORITY=7", "OFFLOAD_WRITABLE_CLASSES_CAMERA_TTL=" + goneTTL.String(),
	"OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHDEVICE=pump-1", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHPROFILE=",
	"OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHRESOURCE=", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_MATCHSOURCE=",
	"OFFLOAD_WRITABLE_CLASSES_VIBRATION_PRIORITY=3", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_ONFULL=dropOldest",
	"OFFLOAD_WRITABLE_CLASSES_DEFAULT_ONFULL=dropOldest",
}

// gone takes the consumer away; the broker stays and acknowledges. What is asked:
//
//  1. Memory and goroutines of app-offload do not grow: in the second half they are within a tenth of the first.
//  2. The spool keeps to its quota, and each event that it gives up is counted by reason and class.
//  3. The log says that acknowledgements come and receipts do not, and what to do about it.
//  4. When the consumer is back everything arrives that was not given up, and each gap is explained to it.
func (s *stage) gone(ctx context.Context) error {
	s.drops = true
	s.env = append([]string{
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", goneQuota),
		"OFFLOAD_WRITABLE_POLICY_BACKLOGLIMIT=1", "OFFLOAD_EXPORT_RECEIPTTIMEOUT=5s",
	}, goneClasses...)
	return inTurn(ctx, s.start, s.observing(&Usage{}, "before", 10*time.Second), s.endCloud, s.halves, s.advised, s.startCloud,
		s.explained, s.emptied, s.leave, s.accountForDropped)
}

// advised looks into the log for what to do when acknowledgements come and receipts never do.
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

// explained waits, while events go on, until the consumer knows of every gap why it is one.
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

// halves watches two halves of the trouble and compares them, as the first has to fill what is bounded.
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

// emptied stops the traffic and waits until the spool is empty and what it held has arrived.
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

// disk adds what the spool takes on disk to the bounds.
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
	s.bounds(atMost("MiB on disk", float64(size)/(1<<20), goneQuota+1)) // the account lies beside it, and states outgrow their slots
	return nil
}

// accountForDropped holds what is missing against what was counted as given up, by reason and class.
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
		s.result.Dropped["before the spool"] = all - dropped // newcomers that were the first to go
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

// reasons holds what the consumer was told of the gaps against what the spool counted: the reason of each has to be the true one.
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
