package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sync"
	"time"

	"app-offload/functions/check"
)

// afterLoss is how far the sequence skips ahead after the state was lost: far enough that no sequence is assigned again.
const afterLoss = 1 << 40

// Open opens the spool in dir, and creates it if it is missing. It repairs what a crash left: it cuts torn ends, quarantines damage, and corrects the
// counts. All held records are Backlog then.
func Open(dir string, cfg Config, opts ...Option) (*Spool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	s := newSpool(path.Clean(dir), cfg, opts)
	if cfg.Encrypt && s.opts.keys == nil {
		return nil, fmt.Errorf("opening spool in %s: Spool.Encrypt is set, but no keys are configured", dir)
	}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("opening spool in %s: %w", dir, check.Access(err))
	}
	s.comm.Add(1)
	go s.committer()
	s.group.Add(1)
	go s.keeper(s.durable <= 2 && s.limits.Sync == SyncAlways && !s.opts.rescan)
	return s, nil
}

func newSpool(dir string, cfg Config, opts []Option) *Spool {
	s := &Spool{
		dir: dir, opts: options{fs: osFS{}}, byName: map[string]*class{}, next: 1, nextID: 1, session: newEpoch(), urgent: make(chan struct{}, 1),
		wake: make(chan struct{}, 1), kick: make(chan struct{}, 1), stop: make(chan struct{}),
	}
	for _, o := range opts {
		o(&s.opts)
	}
	s.fs, s.opts.clock = s.opts.fs, s.opts.clock.Or()
	s.opened = s.opts.clock.Booted()
	s.work, s.space = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	s.limits = cfg.limits()
	if s.opts.resize != nil {
		s.opts.resize(&s.limits)
	}
	s.fates.max = cfg.History + historyBurst
	s.ring = ring{max: s.limits.ring, recs: map[uint64]ringRecord{}}
	return s
}

// limits converts a valid configuration to the units of the code.
func (c Config) limits() limits {
	l := limits{Config: c, slot: slotSize, quota: int64(c.QuotaMiB) << 20, segment: int64(c.SegmentMiB) << 20}
	if l.segment == 0 {
		l.segment = min(max(l.quota/64, 1<<20), 64<<20)
	}
	l.spare = int64(c.SpareMiB) << 20
	l.ring, l.pending = int64(c.RingMiB)<<20, int64(c.PendingMiB)<<20
	l.quarantine = min(int64(c.QuarantineMiB)<<20, l.quota/16)
	l.syncEvery, _ = time.ParseDuration(c.SyncInterval) // Validate has parsed all three durations
	if l.commitEvery, _ = time.ParseDuration(c.CommitInterval); c.Sync != SyncAlways {
		l.commitEvery = 0 // a commit does not sync then
	}
	l.ackEvery, _ = time.ParseDuration(c.AckInterval)
	return l
}

func (s *Spool) open() (err error) {
	if err := s.makeDir(); err != nil {
		return err
	}
	if err := s.takeLock(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.closeFiles())
		}
	}()
	if s.folder, err = s.fs.Open(s.dir, false); err != nil {
		return fmt.Errorf("opening the folder: %w", err)
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	st, _, err := readState(s.fs, s.dir)
	if err != nil {
		return err
	}
	if err := s.openSlots(names); err != nil {
		return err
	}
	s.disk = 2 * s.limits.slot
	r := &recovery{Spool: s, st: st, saved: map[uint64]*savedSegment{}}
	if err := r.run(names); err != nil {
		return err
	}
	for l := range s.lanes {
		for _, q := range s.lanes[l].queues {
			if q != nil {
				q.old = q.bytes[1] > s.limits.ring // more than could wait without an outage
			}
		}
	}
	if err := s.openHistory(); err != nil {
		return err
	}
	if err := s.writeBoth(); err != nil {
		return err
	}
	return s.bury()
}

// takeLock retries briefly, since tools that inspect the spool take the lock for a moment to see whether it is in use.
func (s *Spool) takeLock() (err error) {
	for range 5 {
		if s.lock, err = s.fs.Lock(s.path("lock")); !errors.Is(err, ErrLocked) {
			return err
		}
		time.Sleep(40 * time.Millisecond)
	}
	return err
}

// makeDir creates the directory. Its name, and those of the parents created with it, must be durable before anything in it can be.
func (s *Spool) makeDir() error {
	parents := []string{path.Dir(s.dir)}
	for p := parents[0]; !s.exists(p) && path.Dir(p) != p; {
		p = path.Dir(p)
		parents = append(parents, p)
	}
	if err := s.fs.MkdirAll(s.dir); err != nil {
		return err
	}
	for _, p := range parents {
		err := s.syncDir(syncParent, p)
		if err != nil && !errors.Is(err, fs.ErrPermission) { // an unreadable parent was not created here
			return err
		}
	}
	return nil
}

func (s *Spool) exists(name string) bool {
	f, err := s.fs.Open(name, false)
	if err == nil {
		_ = f.Close() // nothing was written
	}
	return err == nil || errors.Is(err, fs.ErrPermission)
}

// closeFiles closes all open files, at the end or if Open fails.
func (s *Spool) closeFiles() error {
	var errs []error
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			errs = append(errs, g.h.Close())
		}
	}
	for _, d := range s.dying {
		errs = append(errs, d.g.h.Close())
	}
	for _, sp := range s.spares {
		errs = append(errs, sp.h.Close())
	}
	for _, f := range append(s.slots[:], s.history.f, s.folder) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

func (s *Spool) openSlots(names []string) error {
	for i, name := range slotNames {
		var err error
		if slices.Contains(names, name) {
			s.slots[i], err = s.fs.Open(s.path(name), true)
		} else {
			s.slots[i], err = s.fs.Create(s.path(name))
		}
		if err != nil {
			return fmt.Errorf("opening state %s: %w", name, err)
		}
		if err := s.slots[i].Preallocate(s.limits.slot); err != nil {
			return fmt.Errorf("making room for state %s: %w", name, err)
		}
	}
	return nil
}

// readState returns the newer of the intact slots, and whether a slot is damaged. It fails if a slot has a later format.
func readState(fsys FS, dir string) (best *savedState, damaged bool, later error) {
	for _, name := range slotNames {
		f, err := fsys.Open(dir+"/"+name, false)
		if err != nil {
			continue // missing; if it is unreadable, opening it for writing will fail
		}
		var b []byte
		size, err := f.Size()
		if err == nil {
			b, err = readUpTo(f, size)
		}
		_ = f.Close() // read only
		var st *savedState
		if err == nil {
			st, err = decodeState(b)
		}
		if errors.Is(err, errLater) {
			later = fmt.Errorf("reading state %s: %w", name, err)
		} else if err != nil {
			damaged = true
		} else if best == nil || st.gen > best.gen {
			best = st
		}
	}
	return best, damaged, later
}

// fileID is the lane and number in a segment's name.
type fileID struct {
	lane int
	id   uint64
}
