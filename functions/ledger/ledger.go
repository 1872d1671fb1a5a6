package ledger

import (
	"maps"
	"sync"

	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// SpoolCounts are the spool's own counters, which survive a crash.
type SpoolCounts struct {
	Appended, Done, Held int64
	Dropped              map[string]int64
}

// Of returns the counters in a spool's statistics.
func Of(st spool.Stats) SpoolCounts {
	c := SpoolCounts{Appended: int64(st.Appended), Done: int64(st.Done), Held: int64(st.Held), Dropped: map[string]int64{}}
	for reason, n := range st.Dropped {
		c.Dropped[reason] = int64(n)
	}
	return c
}

// Ledger keeps the account. Each method moves tasks from one column to another under one lock, so that every snapshot adds up. It is safe for
// concurrent use.
type Ledger struct {
	mu       sync.Mutex
	inFlight int64
	accepted int64
	local    int64
	spooled  int64
	dropped  map[string]int64
	written  *account // last written by Save, nil before the first
}

// New opens the account from the state of an earlier run: the saved counts of tasks done locally and dropped before the spool, and the spool's own
// durable counters.
func New(saved Saved, s SpoolCounts) *Ledger {
	l := &Ledger{local: saved.Local, spooled: s.Appended, dropped: map[string]int64{}}
	l.accepted = saved.Local + s.Appended
	for reason, n := range saved.Dropped {
		l.dropped[reason] += n
		l.accepted += n
	}
	return l
}

// Saved is the part of the account that the spool does not keep. A crash loses the local tasks since the last save, in Accepted and Local alike, so
// the sum still holds.
type Saved struct {
	Local   int64            `json:"local"`
	Dropped map[string]int64 `json:"dropped"`
}

// Saved returns the state to save for the next start.
func (l *Ledger) Saved() Saved {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Saved{Local: l.local, Dropped: maps.Clone(l.dropped)}
}

// Enter counts n tasks as in flight.
func (l *Ledger) Enter(n int) {
	l.mu.Lock()
	l.inFlight += int64(n)
	l.mu.Unlock()
}

// Leave removes n tasks that were never accepted, because their event was refused.
func (l *Ledger) Leave(n int) { l.Enter(-n) }

// Local counts n tasks in flight as done locally.
func (l *Ledger) Local(n int) {
	l.mu.Lock()
	l.inFlight -= int64(n)
	l.accepted += int64(n)
	l.local += int64(n)
	l.mu.Unlock()
}

// Spooled counts n tasks in flight as durable in the spool.
func (l *Ledger) Spooled(n int) {
	l.mu.Lock()
	l.inFlight -= int64(n)
	l.accepted += int64(n)
	l.spooled += int64(n)
	l.mu.Unlock()
}

// Dropped counts n tasks in flight as accepted and dropped for a reason.
func (l *Ledger) Dropped(reason string, n int) {
	l.mu.Lock()
	l.inFlight -= int64(n)
	l.accepted += int64(n)
	l.dropped[reason] += int64(n)
	l.mu.Unlock()
}

// InFlight returns the number of tasks in memory that are not accepted yet.
func (l *Ledger) InFlight() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inFlight
}

// Counts compares a snapshot with the spool. Tasks committed between reading the spool's counters and taking the snapshot are in motion, not lost, so
// it repeats until both agree.
func (l *Ledger) Counts(counts func() SpoolCounts) status.Counts {
	var c status.Counts
	for range 20 {
		if c = l.snapshot(counts()); c.Balance == 0 {
			break
		}
	}
	return c
}

func (l *Ledger) snapshot(s SpoolCounts) status.Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := status.Counts{
		Accepted: l.accepted, Local: l.local, Receipted: s.Done, Spooled: s.Held, InFlight: l.inFlight,
		Dropped: maps.Clone(l.dropped),
	}
	for reason, n := range s.Dropped {
		if reason == spool.ReasonHere {
			c.Local += n // not a loss, and durable in the spool's counters
			continue
		}
		c.Dropped[reason] += n
	}
	// The spool counts a commit before it calls back the tasks' owners. Those tasks are durable, hence accepted, and no longer in flight; but only
	// tasks that were in flight can be among them.
	unheard := min(max(s.Appended-l.spooled, 0), l.inFlight)
	c.Accepted, c.InFlight = c.Accepted+unheard, c.InFlight-unheard
	c.Balance = c.Accepted - c.Local - c.Receipted - c.Spooled
	for _, n := range c.Dropped {
		c.Balance -= n
	}
	return c
}
