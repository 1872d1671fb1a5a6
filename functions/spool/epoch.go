package spool

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// Epoch names the life of the spool, within which no sequence is given twice: a new one when the spool is new or NewEpoch was called,
// the same after a restart.
func (s *Spool) Epoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Session names this opening of the spool: a copy of its directory, opened elsewhere, has the same epoch and another session.
func (s *Spool) Session() string { return s.session }

// NewEpoch begins a new epoch, and returns it once it is durable. It is for a spool whose sequences somebody else has used under the
// same epoch, such as a copy of its directory. Records, their sequences and what became of earlier ones stay as they are. Every lease
// ends but those of Hold: what was taken is to be taken again, and the caller forgets what it has taken so far. After an error
// nothing has changed.
func (s *Spool) NewEpoch() (string, error) {
	s.house.Lock()
	defer s.house.Unlock()
	fresh := newEpoch()
	if err := s.writeStateOf(fresh); err != nil {
		return "", fmt.Errorf("beginning epoch %s: %w", fresh, err)
	}
	s.mu.Lock()
	s.epoch = fresh
	s.endLeases()
	s.mu.Unlock()
	s.signal()
	s.report(s.writeState()) // the other slot follows with the next state in any case
	return fresh, nil
}

// endLeases takes back what is in flight. The lock is held.
func (s *Spool) endLeases() {
	s.leases++
	for l := range s.lanes {
		for _, g := range s.lanes[l].segs {
			for i := range g.entries {
				switch e := &g.entries[i]; {
				case e.parked:
				case e.state == leasedLive:
					s.move(g, i, live)
				case e.state == leased:
					s.move(g, i, backlog)
				}
			}
		}
	}
}

func newEpoch() string {
	b := make([]byte, epochSize/2)
	rand.Read(b) // never fails: it ends the process rather than give weak bytes
	return hex.EncodeToString(b)
}
