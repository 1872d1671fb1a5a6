package spool

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// Epoch returns the identifier of the spool's life, within which no sequence is assigned twice. It is new when the spool is new or NewEpoch was
// called, and the same after a restart.
func (s *Spool) Epoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epoch
}

// Session identifies this opening of the spool: a copy of its directory that is opened elsewhere has the same epoch and another session.
func (s *Spool) Session() string { return s.session }

// NewEpoch begins a new epoch and returns it once it is durable. It is for a spool whose sequences were also used elsewhere under the same epoch,
// such as by a copy of its directory. Records, their sequences and the fates of earlier ones stay. Every lease ends except those of Hold: leased
// records must be taken again, and the caller forgets what it took before. After an error nothing has changed.
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
	s.report(s.writeState()) // in any case the next state updates the other slot
	return fresh, nil
}

// endLeases ends all leases but those of Hold. The caller holds the lock.
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
	rand.Read(b) // never fails: it ends the process instead of returning weak bytes
	return hex.EncodeToString(b)
}
