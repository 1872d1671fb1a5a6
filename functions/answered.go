package functions

import (
	"context"

	"app-offload/functions/answer"
	"app-offload/functions/answer/desk"
	"app-offload/functions/local"
	"app-offload/functions/seal"
)

// openAnswers comes before the exporter, which brings the results, and stops after it.
func (s *Service) openAnswers() (err error) {
	bus := s.kinship.sign(s.deps.Publisher)
	s.desk, err = desk.Open(desk.Deps{
		Dir: s.cfg.Spool.Directory, Log: s.log,
		Publish: func(a *answer.Answer) error { return bus.Publish(local.Answered(a)) },
		Confirm: func(results []seal.ConfirmedResult) { s.exporter.Confirm(results) },
	})
	if err != nil {
		return err
	}
	s.life.onStop("answers", func(ctx context.Context) error { return s.desk.Close(ctx) })
	return nil
}

// answered takes a result of the cloud: it settles the decision at once, and its answer goes to the bus.
func (s *Service) answered(r seal.Result) {
	s.feedback.Resulted(r)
	s.desk.Take(r)
}
