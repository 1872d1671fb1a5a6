package models

import (
	"context"
	"fmt"
	"time"

	"app-offload/functions/task"
)

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

// idleCanary is a model whose canary has no user, nil without one. The lock is held.
func (s *Store) idleCanary() *model {
	for _, m := range s.models {
		if m.canary != nil && m.canary.users == 0 {
			return m
		}
	}
	return nil
}
