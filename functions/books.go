package functions

import (
	"errors"

	"app-offload/functions/ledger"
	"app-offload/functions/status"
)

// Counts is the conservation account at this moment.
func (s *Service) Counts() status.Counts {
	return s.ledger.Counts(func() ledger.SpoolCounts { return ledger.Of(s.spool.Stats()) })
}

// saveBooks saves the account and the drops, as far as it can.
func (s *Service) saveBooks() error {
	return errors.Join(s.ledger.Save(s.cfg.Spool.Directory, s.Counts()), s.drops.Save())
}

// Acknowledge says that somebody knows of every task that was dropped so far, and returns how many he did not know of. It outlasts
// a restart.
func (s *Service) Acknowledge() (uint64, error) {
	s.drops.See(ledger.DroppedByClass(s.spool.Stats().Classes), false)
	n := s.drops.Acknowledge()
	s.log.Infof("dropped tasks acknowledged: tasks=%d", n)
	return n, s.drops.Save()
}
