package models

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/clock"
	"app-offload/functions/task"
)

// Store is the models of a node.
type Store struct {
	cfg      Config
	root     *os.Root
	trust    Trust
	clock    *clock.Clock
	limit    int64
	sessions int

	turn     chan struct{} // held while waiting for memory; channels are fair
	changing sync.Mutex    // one change of versions at a time

	mu       sync.Mutex
	waiting  int           // for changed
	changed  chan struct{} // closed and replaced at each release
	models   map[string]*model
	problems []problem // of folders that are no version of a model
	state    map[string]choice
	used     int64 // bytes reserved
	releases uint64
	counts   Counts
	closed   bool
}

// Open reads the folder, decides which version of each model is in force, and loads what is to be loaded at the start. A model that cannot
// be loaded is no error: the status says why. Opening fails where the configuration, the folder or the kept state is bad.
func Open(ctx context.Context, cfg Config, c *clock.Clock) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	trust, err := ParseTrust(cfg.Keys)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o750); err != nil {
		return nil, fmt.Errorf("opening the store of models: %w", check.Access(err))
	}
	root, err := os.OpenRoot(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the store of models: %w", check.Access(err))
	}
	s := &Store{
		cfg: cfg, root: root, trust: trust, clock: c.Or(), limit: int64(cfg.MemoryMiB) << 20, sessions: cfg.sessions(),
		turn: make(chan struct{}, 1), changed: make(chan struct{}), models: map[string]*model{},
	}
	if s.state, err = loadState(root); err == nil {
		err = s.Scan(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	for _, name := range slices.Concat(cfg.Pin, cfg.Preload) {
		if lease, err := s.Acquire(ctx, name); err == nil {
			lease.Close()
		}
	}
	return s, nil
}

// Root is the folder, for deliveries. Names that begin with a dot are not read as models.
func (s *Store) Root() *os.Root { return s.root }

// Scan reads the folder again: new names and versions are found, and a version that is newer than all that were in force is loaded and takes
// its model's place. A version that fails leaves the old one in force. The error is that of the folder, never that of a model.
func (s *Store) Scan(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	found, problems, err := s.read()
	if err != nil {
		return fmt.Errorf("reading the folder of models: %w", check.Access(err))
	}
	for _, m := range s.adopt(found, problems) {
		s.advance(ctx, m)
	}
	return ctx.Err()
}

// adopt takes the versions that were found, and returns the models.
func (s *Store) adopt(found map[string][]*version, problems []problem) []*model {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.problems = problems
	for name, list := range found {
		m := s.models[name]
		if m == nil {
			m = &model{name: name, newest: s.state[name].Newest, pinned: slices.Contains(s.cfg.Pin, name)}
			s.models[name] = m
		}
		m.versions = list
		s.keep(m)
	}
	for name, m := range s.models {
		if _, ok := found[name]; !ok && m.loaded == nil {
			s.retire(m)
			delete(s.models, name)
		}
	}
	return slices.SortedFunc(maps.Values(s.models), func(a, b *model) int { return cmp.Compare(a.name, b.name) })
}

// keep finds the version in force among those that the folder has now. The lock is held.
func (s *Store) keep(m *model) {
	want := s.state[m.name].Version
	at := slices.IndexFunc(m.versions, func(v *version) bool { return v.Version == want })
	switch {
	case m.now == nil && at >= 0:
		m.now = m.versions[at]
	case m.now == nil:
	case at < 0 && m.loaded == nil && about(m.now.folder, s.problems) == nil:
		m.now = nil // its folder was removed, and not only unreadable for a while
	case at >= 0 && m.versions[at].digest == m.now.digest:
		m.now = m.versions[at] // the folder may have another name
	case at >= 0:
		m.problem = fmt.Errorf("the manifest of version %s was changed in its folder; keeping the one that was read before: give a changed model a new version", want)
	}
}

// advance puts the newest version in force that can be loaded, among those newer than all before. Where no version is in force at all, as
// after the folder of the chosen one was removed, any will do. The lock changing is held.
func (s *Store) advance(ctx context.Context, m *model) {
	for _, v := range slices.Backward(m.versions) {
		s.mu.Lock()
		better := m.now == nil || v.Version.Compare(m.newest) > 0
		s.mu.Unlock()
		if !better || s.bringIn(ctx, m, v) == nil || ctx.Err() != nil {
			return
		}
	}
}

// Use puts a version in force that lies in the folder. An older one than was ever in force is refused unless rollback is asked for; then it
// stays in force until a version comes that is newer than all.
func (s *Store) Use(ctx context.Context, name string, want Version, rollback bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	return s.use(ctx, name, want, rollback)
}

func (s *Store) use(ctx context.Context, name string, want Version, rollback bool) error {
	s.mu.Lock()
	m := s.models[name]
	var v *version
	if m != nil {
		if at := slices.IndexFunc(m.versions, func(v *version) bool { return v.Version.Compare(want) == 0 }); at >= 0 {
			v = m.versions[at]
		}
	}
	refused := v != nil && !rollback && (m.now == nil || v.Version.Compare(m.now.Version) != 0) && v.Version.Compare(m.newest) <= 0
	s.mu.Unlock()
	switch {
	case v == nil:
		return fmt.Errorf("using model %.64q %.64s: %w", name, want, ErrUnknown)
	case refused:
		return fmt.Errorf("using model %s %s: %w", name, want, ErrOlder)
	}
	if rollback {
		return s.swap(ctx, m, v)
	}
	return s.bringIn(ctx, m, v)
}

// bringIn puts a new version in force, or on trial where that is wanted and another one is in force. The lock changing is held.
func (s *Store) bringIn(ctx context.Context, m *model, v *version) error {
	s.mu.Lock()
	trial := s.cfg.Canary && m.now != nil && m.now.Version != v.Version
	same := trial && m.canary != nil && m.canary.Version == v.Version
	crowded := trial && m.crowded == v.digest && s.used-s.idle(m)+v.memory() > s.limit
	s.mu.Unlock()
	switch {
	case same, crowded: // it would make room again at once
		return nil
	case trial:
		return s.propose(ctx, m, v)
	}
	return s.swap(ctx, m, v)
}

// swap loads a version beside the one in force, keeps the choice on disk, and lets it take the place. The lock changing is held.
func (s *Store) swap(ctx context.Context, m *model, v *version) error {
	l, err := s.bring(ctx, v)
	if err == nil {
		err = s.choose(m, v)
		if err != nil {
			s.discard(l)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		m.fail(v, err, s.clock.Now())
		kept := "none is in force"
		if m.now != nil {
			kept = "keeping version " + string(m.now.Version)
		}
		return fmt.Errorf("loading model %s %s, %s: %w", m.name, v.Version, kept, err)
	}
	s.put(m, l)
	m.newest = s.state[m.name].Newest
	l.users--
	return nil
}

// choose keeps on disk that a version is in force.
func (s *Store) choose(m *model, v *version) error {
	return s.record(m.name, choice{Version: v.Version, Newest: v.Version})
}

// record keeps a choice on disk. What is the newest never becomes older. The lock changing is held.
func (s *Store) record(name string, next choice) error {
	s.mu.Lock()
	if s.state[name].Newest.Compare(next.Newest) > 0 {
		next.Newest = s.state[name].Newest
	}
	state := maps.Clone(s.state)
	s.mu.Unlock()
	if state[name] == next {
		return nil
	}
	state[name] = next
	if err := saveState(s.root, state); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
	return nil
}

func saveState(root *os.Root, state map[string]choice) error {
	b, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("keeping the state of the models: %w", err)
	}
	if err := WriteFile(root, stateFile, append(b, '\n')); err != nil {
		return fmt.Errorf("keeping the state of the models: %w", err)
	}
	return nil
}

// discard takes a version out of memory that was loaded for nothing.
func (s *Store) discard(l *loaded) {
	s.mu.Lock()
	l.retired = true
	s.mu.Unlock()
	s.leave(l)
}

// Close refuses new users, waits for those there are, and takes all models out of memory. It fails when ctx ends before; then the models that
// are in use stay until their users leave.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.wake()
	var late error
	for _, m := range s.models {
		s.retire(m)
		for late == nil && m.loaded != nil && m.loaded.users > 0 {
			late = s.wait(ctx)
		}
		if m.loaded != nil {
			m.loaded.retired = true
		}
		if m.loaded != nil && m.loaded.users == 0 {
			s.drop(m.loaded)
		}
		m.loaded = nil
	}
	return errors.Join(late, s.root.Close())
}

// Status describes all models, by name, and the folders that are no version of one.
func (s *Store) Status() (list []Status, problems []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.models {
		one := Status{Name: m.name, Newest: m.newest, Pinned: m.pinned, Bytes: m.bytes, MACs: m.macs, Run: float64(m.took.Nanoseconds()) / 1e3}
		for _, v := range m.versions {
			one.Versions = append(one.Versions, v.Version)
		}
		if m.now != nil {
			one.Version, one.Engine, one.Folder, one.Signed = m.now.Version, engineFor(m.now.Manifest, s.cfg.Runtime), m.now.folder, m.now.signed
			one.Classes = m.now.Classes
		}
		if l := m.loaded; l != nil {
			one.Loaded, one.Users, one.Sessions, one.Bytes = true, l.users, l.made, l.reserved
		}
		if m.canary != nil {
			one.Canary = m.canary.Version
		}
		if m.problem != nil {
			one.Problem = m.problem.Error()
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Name, b.Name) })
	return list, texts(s.problems)
}

// Counts are sums since the store was opened.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Used, c.Limit = s.used, s.limit
	return c
}

// A version that comes while another one is in force may be a canary first (Config.Canary): it is loaded beside that version and computes only
// what RunCanary gives it, until Settle lets it take the place or turns it down. Without a Settle, as after a crash, it is a canary again. A
// canary without users leaves memory, and its trial ends undecided, where a model in use needs the room. It is a canary again once there is room for it,
// which models give that have had no user for a while.

// propose loads a version as the canary of its model, in place of an earlier one. The lock changing is held.
func (s *Store) propose(ctx context.Context, m *model, v *version) error {
	l, err := s.bring(ctx, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		m.fail(v, err, s.clock.Now())
		return fmt.Errorf("loading model %s %s as a canary, keeping version %s: %w", m.name, v.Version, m.now.Version, err)
	}
	s.retire(m)
	m.canary = l
	l.users--
	if m.loaded != nil && m.loaded.p != nil {
		m.measured(m.loaded) // the figures shown are those of the version in force
	}
	s.wake()
	return nil
}

// retire takes a canary away; its memory is free after its last user. The lock is held.
func (s *Store) retire(m *model) {
	if l := m.canary; l != nil {
		l.retired, m.canary = true, nil
		if l.users == 0 {
			s.drop(l)
		}
		s.wake()
	}
}

// Canary is the version that is a canary of a model, false without one.
func (s *Store) Canary(name string) (Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.models[name]; m != nil && m.canary != nil {
		return m.canary.Version, true
	}
	return "", false
}

// RunCanary is Inference.Run of the canary of a model. It fails with ErrUnknown without one.
func (s *Store) RunCanary(ctx context.Context, name string, t *task.Task) (Answer, error) {
	s.mu.Lock()
	m := s.models[name]
	if s.closed || m == nil || m.canary == nil {
		s.mu.Unlock()
		return Answer{}, fmt.Errorf("the canary of model %.64q: %w", name, ErrUnknown)
	}
	l := m.canary
	l.users++
	s.mu.Unlock()
	session, err := s.session(ctx, l)
	if err != nil {
		s.leave(l)
		return Answer{}, fmt.Errorf("using model %s %s: %w", name, l.Version, err)
	}
	return run(&Lease{Manifest: l.Manifest, Info: &l.p.info, Session: session, s: s, l: l}, t)
}

// Settle ends the trial of a canary of that version: with promote it takes the place of the version in force, without it never does unless it is
// asked for by Use with a rollback. The error is ErrUnknown where that version is no canary any more.
func (s *Store) Settle(name string, of Version, promote bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	m := s.models[name]
	var l *loaded
	if m != nil && m.canary != nil && m.canary.Version == of && m.now != nil {
		l = m.canary
		l.users++ // it makes no room while the disk is awaited: nothing would load it again before the next start
	}
	s.mu.Unlock()
	if l == nil {
		return fmt.Errorf("settling the canary %s of model %.64q: %w", of, name, ErrUnknown)
	}
	defer s.leave(l)
	next := choice{Version: m.now.Version, Newest: l.Version}
	if promote {
		next.Version = l.Version
	}
	if err := s.record(name, next); err != nil {
		return fmt.Errorf("settling the canary %s of model %s: %w", of, name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.newest = s.state[name].Newest
	switch {
	case m.canary != l: // the store was closed meanwhile; the next start does as was recorded
	case promote:
		m.canary = nil
		s.put(m, l)
		m.measured(l)
	default:
		s.retire(m)
	}
	return nil
}

// idleFor is for how long a model must have had no user to make room for a canary that had to make room before.
const idleFor = int64(10 * time.Minute)

// idle is the memory of such models, but for the canary's own. The lock is held.
func (s *Store) idle(own *model) (bytes int64) {
	for _, m := range s.models {
		if l := m.loaded; m != own && l != nil && l.users == 0 && !m.pinned && s.clock.Now()-l.left >= idleFor {
			bytes += l.reserved
		}
	}
	return bytes
}
