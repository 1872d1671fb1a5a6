package models

import (
	"context"
	"fmt"
	"time"

	"app-offload/functions/engine"
)

// loaded is a version in memory, or being loaded.
type loaded struct {
	*version
	ready chan struct{} // closed when p or err is set
	p     *program
	err   error
	free  chan engine.Session // idle sessions, with capacity for all sessions

	// Under the lock of the store:
	users    int    // leases and waiters for a session
	made     int    // sessions
	reserved int64  // bytes
	used     uint64 // count of releases at the last release
	left     int64  // stamp of the last release, or of the reservation
	retired  bool   // dropped after its last user
}

// Lease is the right to run a model until Close. It belongs to one goroutine.
type Lease struct {
	Manifest *Manifest
	Info     *engine.Info
	Session  engine.Session
	s        *Store
	l        *loaded
}

// Acquire waits for a session of a model, and loads the model if it is not in memory. It fails when ctx ends, and if the model is unknown or its file
// cannot be loaded.
func (s *Store) Acquire(ctx context.Context, name string) (*Lease, error) {
	l, mine, err := s.take(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("using model %.64q: %w", name, err)
	}
	if mine {
		s.load(l)
	}
	session, err := s.session(ctx, l)
	if err != nil {
		s.leave(l)
		return nil, fmt.Errorf("using model %s %s: %w", name, l.Version, err)
	}
	return &Lease{Manifest: l.Manifest, Info: &l.p.info, Session: session, s: s, l: l}, nil
}

// Close returns the session to the store, with the variables of the model at their initial values.
func (l *Lease) Close() {
	if l.Session == nil {
		return
	}
	l.Session.Reset()
	l.l.free <- l.Session
	l.Session = nil
	l.s.leave(l.l)
}

// take registers the caller as a user of the version in force. If the version is not in memory, take reserves its memory and reports that the caller
// must load it. The caller holds the turn while it waits for memory, so later callers queue behind it.
func (s *Store) take(ctx context.Context, name string) (l *loaded, mine bool, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, false, err
	}
	defer s.exit()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		m := s.models[name]
		switch {
		case s.closed:
			return nil, false, ErrClosed
		case m == nil || m.now == nil && m.problem == nil:
			return nil, false, ErrUnknown
		case m.now == nil:
			return nil, false, m.problem
		case m.loaded != nil:
			m.loaded.users++
			return m.loaded, false, nil
		case m.failed == m.now.digest && s.clock.Since(m.failedAt) < retryAfter:
			return nil, false, m.problem
		}
		if l, err = s.reserve(m.now); err != nil {
			return nil, false, err
		}
		if l != nil {
			m.loaded = l
			return l, true, nil
		}
		if err := s.wait(ctx); err != nil {
			return nil, false, err
		}
	}
}

// enter waits for the turn, in the order of the calls. It fails for an ended context even if the turn is free.
func (s *Store) enter(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Store) exit() { <-s.turn }

// wait waits for a change. The caller holds the lock, which wait releases meanwhile.
func (s *Store) wait(ctx context.Context) error {
	changed := s.changed
	s.waiting++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.waiting--
	}()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for memory for models: %w", context.Cause(ctx))
	}
}

// wake wakes all waiters. The caller holds the lock.
func (s *Store) wake() {
	if s.waiting == 0 {
		return
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// reserve reserves memory for a version, and evicts idle models if necessary. It returns nil if the memory is in use. The caller holds the lock.
func (s *Store) reserve(v *version) (*loaded, error) {
	need := v.memory()
	fixed := need
	for _, other := range s.models {
		if other.pinned && other.loaded != nil {
			fixed += other.loaded.reserved
		}
	}
	if fixed > s.limit {
		return nil, fmt.Errorf("%w: it may take %d bytes, which with the loaded pinned models makes %d of %d; raise MemoryMiB or lower memory in the manifest", ErrTooBig, need, fixed, s.limit)
	}
	for s.used+need > s.limit {
		victim := s.idlest()
		if c := s.idleCanary(); victim == nil && c != nil {
			s.counts.Evictions++
			c.crowded = c.canary.digest
			s.retire(c)
			continue
		}
		if victim == nil {
			return nil, nil //nolint:nilnil // all in use
		}
		s.counts.Evictions++
		s.drop(victim.loaded)
		victim.loaded = nil
	}
	s.used += need
	return &loaded{version: v, ready: make(chan struct{}), free: make(chan engine.Session, s.sessions), users: 1, reserved: need, left: s.clock.Now()}, nil
}

// idleCanary returns a model whose canary has no user, nil without one. The caller holds the lock.
func (s *Store) idleCanary() *model {
	for _, m := range s.models {
		if m.canary != nil && m.canary.users == 0 {
			return m
		}
	}
	return nil
}

// idlest returns the loaded model without users that was released longest ago, nil if all are in use or pinned.
func (s *Store) idlest() *model {
	var victim *model
	for _, m := range s.models {
		if m.loaded == nil || m.loaded.users > 0 || m.pinned {
			continue
		}
		if victim == nil || m.loaded.used < victim.loaded.used {
			victim = m
		}
	}
	return victim
}

// load loads a version with reserved memory, and corrects the reservation to the measured size.
func (s *Store) load(l *loaded) {
	p, err := prepare(s.root, l.version, s.cfg.Runtime)
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[l.Name]
	if err != nil {
		l.err = err
		s.used -= l.reserved
		l.reserved = 0
		s.counts.Failures++
		if m != nil {
			m.fail(l.version, err, s.clock.Now())
			if m.loaded == l {
				m.loaded = nil
			}
		}
	} else {
		s.used += p.bytes - l.reserved
		l.p, l.reserved, l.made = p, p.bytes, 1
		l.free <- p.first
		s.counts.Loads++
		if m != nil {
			m.measured(l)
		}
	}
	close(l.ready)
	s.wake()
}

// session waits for an idle session of a version, or creates one if the limits on sessions and memory allow it.
func (s *Store) session(ctx context.Context, l *loaded) (engine.Session, error) {
	select {
	case <-l.ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if l.err != nil {
		return nil, l.err
	}
	select {
	case one := <-l.free:
		return one, nil
	default:
	}
	if one := s.another(l); one != nil {
		return one, nil
	}
	select {
	case one := <-l.free:
		return one, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for a session: %w", context.Cause(ctx))
	}
}

// another creates a session, or returns nil if that is not possible. It evicts no other model.
func (s *Store) another(l *loaded) engine.Session {
	size := l.p.info.Session
	s.mu.Lock()
	ok := l.made < cap(l.free) && s.used+size <= s.limit
	if ok {
		l.made++
		l.reserved += size
		s.used += size
	}
	s.mu.Unlock()
	if !ok {
		return nil
	}
	one, err := l.p.NewSession()
	if err == nil {
		return one
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l.made--
	l.reserved -= size
	s.used -= size
	return nil
}

// leave removes a user of a version.
func (s *Store) leave(l *loaded) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.users--
	s.releases++
	l.used, l.left = s.releases, s.clock.Now()
	if l.retired && l.users == 0 {
		s.drop(l)
	}
	s.wake()
}

// drop removes a version without users from memory. The caller holds the lock.
func (s *Store) drop(l *loaded) {
	s.used -= l.reserved
	l.reserved = 0
	for range len(l.free) {
		release(<-l.free)
	}
	if l.p != nil {
		release(l.p.Program)
		l.p.Program, l.p.first = nil, nil
	}
}

// put replaces the version in force by a loaded version. The caller holds the lock.
func (s *Store) put(m *model, l *loaded) {
	if old := m.loaded; old != nil {
		old.retired = true
		if old.users == 0 {
			s.drop(old)
		}
	}
	m.now, m.loaded, m.problem, m.failed = l.version, l, nil, ""
	s.counts.Swaps++
	s.wake()
}

// bring loads a version that is not in force, and registers the caller as its user.
func (s *Store) bring(ctx context.Context, v *version) (*loaded, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	var l *loaded
	err := error(nil)
	for l == nil && err == nil {
		if s.closed {
			err = ErrClosed
		} else if l, err = s.reserve(v); l == nil && err == nil {
			err = s.wait(ctx)
		}
	}
	s.mu.Unlock()
	s.exit()
	if err != nil {
		return nil, err
	}
	s.load(l)
	return l, l.err
}

func (m *model) fail(v *version, err error, now int64) {
	m.problem = fmt.Errorf("version %s: %w", v.Version, err)
	m.failed, m.failedAt = v.digest, now
}

func (m *model) measured(l *loaded) {
	m.bytes, m.macs, m.took = l.p.bytes, l.p.info.MACs, l.p.took
	if m.failed == l.digest {
		m.problem, m.failed = nil, ""
	}
}

// model is the state of a model, by name.
type model struct {
	name     string
	versions []*version // oldest first
	now      *version   // in force
	newest   Version    // newest that was ever in force
	loaded   *loaded    // the version in force in memory, nil if it is not loaded
	crowded  string     // digest of a canary that was evicted for a model in use
	canary   *loaded    // a newer version on trial, nil without one
	pinned   bool
	problem  error  // of the last load or swap
	failed   string // digest of the version that failed, "" if none did
	failedAt int64
	bytes    int64
	macs     int64
	took     time.Duration
}

// version is the folder of a version.
type version struct {
	*Manifest
	folder string
	signed string // trusted comment of the signature
	digest string // of the manifest's bytes
}
