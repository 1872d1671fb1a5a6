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

// Store holds the models of a node.
type Store struct {
	cfg      Config
	root     *os.Root
	trust    Trust
	clock    *clock.Clock
	limit    int64
	sessions int

	turn     chan struct{} // held during a wait for memory; a channel is fair
	changing sync.Mutex    // held during a change of versions

	mu       sync.Mutex
	waiting  int           // goroutines that wait for changed
	changed  chan struct{} // closed and replaced at each release
	models   map[string]*model
	problems []problem // folders that are not versions of a model
	state    map[string]choice
	used     int64 // reserved bytes
	releases uint64
	counts   Counts
	closed   bool
}

// Open reads the folder, determines the version of each model in force, and loads the pinned and preloaded models. A model that cannot be loaded is
// not an error: the status reports why. Open fails if the configuration, the folder or the saved state is invalid.
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

// Root returns the folder, for deliveries. Names that begin with a dot are not models.
func (s *Store) Root() *os.Root { return s.root }

// Scan reads the folder again. It finds new names and versions. A version newer than all versions that were in force is loaded and replaces the
// version in force. If it fails, the old version stays in force. The error is about the folder, never about a model.
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

// adopt registers the versions in the folder, and returns the models.
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

// keep finds the version in force among the versions in the folder, and clears a problem whose cause is gone. The caller holds the lock.
func (s *Store) keep(m *model) {
	if !slices.ContainsFunc(m.versions, func(v *version) bool { return v.digest == m.failed }) {
		m.problem, m.failed = nil, "" // the version that failed was removed, or the problem is one of the folder and is found again
	}
	want := s.state[m.name].Version
	at := slices.IndexFunc(m.versions, func(v *version) bool { return v.Version == want })
	switch {
	case m.now == nil && at >= 0:
		m.now = m.versions[at]
	case m.now == nil:
	case at < 0 && m.loaded == nil && about(m.now.folder, s.problems) == nil:
		m.now = nil // its folder was removed, not just unreadable
	case at >= 0 && m.versions[at].digest == m.now.digest:
		m.now = m.versions[at] // the folder may have been renamed
	case at >= 0:
		m.problem = fmt.Errorf("the manifest of version %s was changed in its folder; keeping the previous manifest: give a changed model a new version", want)
	}
}

// advance puts in force the newest loadable version that is newer than all previous ones. If no version is in force, such as after a removal of its
// folder, any version qualifies. The caller holds changing.
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

// use puts a version in the folder in force. If it is not newer than all versions that were in force, use refuses it unless rollback is set; then it
// stays in force until a newer version than all arrives. The caller holds changing.
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

// bringIn puts a new version in force, or makes it a canary if canaries are configured and another version is in force. The caller holds changing.
func (s *Store) bringIn(ctx context.Context, m *model, v *version) error {
	s.mu.Lock()
	trial := s.cfg.Canary && m.now != nil && m.now.Version != v.Version
	same := trial && m.canary != nil && m.canary.Version == v.Version
	crowded := trial && m.crowded == v.digest && s.used-s.idle(m)+v.memory() > s.limit
	s.mu.Unlock()
	switch {
	case same, crowded: // it would be evicted again immediately
		return nil
	case trial:
		return s.propose(ctx, m, v)
	}
	return s.swap(ctx, m, v)
}

// swap loads a version beside the one in force, records the choice on disk, and then replaces the version. The caller holds changing.
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
		kept := "no version is in force"
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

// choose records on disk that a version is in force.
func (s *Store) choose(m *model, v *version) error {
	return s.record(m.name, choice{Version: v.Version, Newest: v.Version})
}

// record records a choice on disk. The newest version never becomes older. The caller holds changing.
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
		return fmt.Errorf("saving the state of the models: %w", err)
	}
	if err := WriteFile(root, stateFile, append(b, '\n')); err != nil {
		return fmt.Errorf("saving the state of the models: %w", err)
	}
	return nil
}

// discard removes a loaded version that is not used.
func (s *Store) discard(l *loaded) {
	s.mu.Lock()
	l.retired = true
	s.mu.Unlock()
	s.leave(l)
}

// Close refuses new users, waits for the present ones, and removes all models from memory. It fails if ctx ends first; then models in use stay in
// memory until their users leave.
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

// Status returns the status of all models, by name, and the folders that are not versions of a model.
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

// Counts returns sums since the store was opened.
func (s *Store) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.Used, c.Limit = s.used, s.limit
	return c
}

// With Config.Canary, a new version for a model with a version in force is first a canary: it is loaded beside that version and computes only
// RunCanary, until Settle promotes or rejects it. Without a Settle, such as after a crash, the version becomes a canary again. A canary without users
// is evicted, and its trial ends undecided, if a model in use needs the memory. It becomes a canary again once idle models leave enough room for it.

// propose loads a version as the canary of its model, in place of an earlier canary. The caller holds changing.
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
		m.measured(m.loaded) // the status shows the figures of the version in force
	}
	s.wake()
	return nil
}

// retire removes a canary; its memory is released after its last user. The caller holds the lock.
func (s *Store) retire(m *model) {
	if l := m.canary; l != nil {
		l.retired, m.canary = true, nil
		if l.users == 0 {
			s.drop(l)
		}
		s.wake()
	}
}

// Canary returns the version of a model's canary, false without one.
func (s *Store) Canary(name string) (Version, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.models[name]; m != nil && m.canary != nil {
		return m.canary.Version, true
	}
	return "", false
}

// RunCanary runs the canary of a model on a task, like Inference.Run. Without a canary it fails with ErrUnknown.
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

// Settle ends the trial of a canary of that version. With promote, the canary replaces the version in force. Without it, the version can be put in
// force only by a rollback. The error is ErrUnknown if that version is no longer a canary.
func (s *Store) Settle(name string, of Version, promote bool) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.mu.Lock()
	m := s.models[name]
	var l *loaded
	if m != nil && m.canary != nil && m.canary.Version == of && m.now != nil {
		l = m.canary
		l.users++ // prevents an eviction during the write to disk: nothing would load the version again before the next start
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
	case m.canary != l: // the store was closed meanwhile; the next start applies the recorded choice
	case promote:
		m.canary = nil
		s.put(m, l)
		m.measured(l)
	default:
		s.retire(m)
	}
	return nil
}

// idleFor is the time without users after which a model can make room for an evicted canary.
const idleFor = int64(10 * time.Minute)

// idle returns the memory of such models, without that of own. The caller holds the lock.
func (s *Store) idle(own *model) (bytes int64) {
	for _, m := range s.models {
		if l := m.loaded; m != own && l != nil && l.users == 0 && !m.pinned && s.clock.Now()-l.left >= idleFor {
			bytes += l.reserved
		}
	}
	return bytes
}
