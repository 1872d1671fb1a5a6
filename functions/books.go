package functions

import (
	"errors"

	"app-offload/functions/ledger"
	"app-offload/functions/status"
)

// Counts returns the current conservation account.
func (s *Service) Counts() status.Counts {
	return s.ledger.Counts(func() ledger.SpoolCounts { return ledger.Of(s.spool.Stats()) })
}

// saveBooks saves the account and the drops. It saves one even if the other fails.
func (s *Service) saveBooks() error {
	return errors.Join(s.ledger.Save(s.cfg.Spool.Directory, s.Counts()), s.drops.Save())
}

// Acknowledge marks every task dropped so far as known to the operator, and returns how many were new. The mark survives a restart.
func (s *Service) Acknowledge() (uint64, error) {
	s.drops.See(ledger.DroppedByClass(s.spool.Stats().Classes), false)
	n := s.drops.Acknowledge()
	s.log.Infof("dropped tasks acknowledged: tasks=%d", n)
	return n, s.drops.Save()
}
