package mqtt

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// Keeper keeps one session until its context ends, and dials the next one when it is lost. The goroutine of Run calls the functions, one at a time.
type Keeper struct {
	Options Options
	Backoff Backoff
	// Up is called with each new session. It may block while the session and the context of Run last.
	Up func(*Session)
	// Down is called after the end of a session that was passed to Up, with its duration.
	Down func(s *Session, lived time.Duration)
	// Failed is called for each failed attempt.
	Failed func(error)

	mu      sync.Mutex
	session *Session
	renew   bool // cut the session being dialled, as it may use old secrets
	ended   bool
	changed chan struct{} // closed when there is a session; made by the first waiter
}

// settled is the minimum duration of a session after which the next attempt follows immediately.
const settled = 3 * time.Second

// farewell is the time limit of a DISCONNECT.
const farewell = 250 * time.Millisecond

// Run dials until ctx ends. It leaves the last session to End, so that acknowledgements can still leave.
func (k *Keeper) Run(ctx context.Context) {
	for ctx.Err() == nil {
		s := k.dial(ctx)
		if s == nil {
			if !sleep(ctx, k.Backoff.Next()) {
				return
			}
			continue
		}
		began := time.Now()
		k.Up(s)
		select {
		case <-s.Lost():
		case <-ctx.Done():
			return
		}
		k.set(nil)
		s.End(ErrStopped, 0)
		lived := time.Since(began)
		k.Down(s, lived)
		if lived >= settled {
			k.Backoff.Reset()
		} else if !sleep(ctx, k.Backoff.Next()) {
			return
		}
	}
}

func (k *Keeper) dial(ctx context.Context) *Session {
	k.mu.Lock()
	k.renew = false
	k.mu.Unlock()
	s, err := Dial(ctx, k.Options)
	if err != nil {
		if ctx.Err() == nil {
			k.Failed(err)
		}
		return nil
	}
	k.set(s)
	return s
}

func (k *Keeper) set(s *Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.session = s
	if s != nil && k.changed != nil {
		close(k.changed)
		k.changed = nil
	}
	switch {
	case s == nil:
	case k.ended:
		s.End(ErrStopped, farewell)
	case k.renew:
		s.Cut()
	}
}

// Session returns the current session, nil without a connection.
func (k *Keeper) Session() *Session {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.session == nil || !k.session.Alive() {
		return nil
	}
	return k.session
}

// Await returns the current session, or waits for one until ctx ends.
func (k *Keeper) Await(ctx context.Context) (*Session, error) {
	for {
		k.mu.Lock()
		if k.session != nil && k.session.Alive() {
			defer k.mu.Unlock()
			return k.session, nil
		}
		if k.changed == nil {
			k.changed = make(chan struct{})
		}
		changed := k.changed
		k.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Renew replaces the session: the secrets are read anew, and the broker redelivers unacknowledged messages.
func (k *Keeper) Renew() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.renew = true
	if k.session != nil {
		k.session.Cut()
	}
}

// End disconnects, after the context of Run has ended. A persistent session stays at the broker.
func (k *Keeper) End() {
	k.mu.Lock()
	s := k.session
	k.ended = true
	k.mu.Unlock()
	if s != nil {
		s.End(ErrStopped, farewell)
	}
}

// Backoff spreads the attempts of many clients after an outage of the broker: full jitter, a random part of a bound that doubles from Low to High.
// One goroutine uses it.
type Backoff struct {
	Low, High time.Duration
	bound     time.Duration
}

// Next returns the wait before the next attempt.
func (b *Backoff) Next() time.Duration {
	b.bound = min(max(2*b.bound, b.Low), b.High)
	return rand.N(b.bound) + 1
}

// Reset starts over after a success.
func (b *Backoff) Reset() { b.bound = 0 }

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
