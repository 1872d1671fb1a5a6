package functions

import (
	"context"
	"time"

	"app-offload/functions/answer"
	"app-offload/functions/answer/desk"
	"app-offload/functions/forward"
	"app-offload/functions/local"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// openAnswers runs before openExport, since the exporter delivers the results; so the answers stop after the exporter.
func (s *Service) openAnswers() (err error) {
	bus := s.kinship.Sign(s.deps.Publisher)
	deps := desk.Deps{
		Dir: s.cfg.Spool.Directory, Log: s.log,
		Confirm: func(results []seal.ConfirmedResult) { s.exporter.Confirm(results) },
	}
	if !s.deps.NoBus {
		deps.Publish = func(a *answer.Answer) error { return bus.Publish(local.Answered(a)) }
	}
	s.desk, err = desk.Open(deps)
	if err != nil {
		return err
	}
	s.life.onStop("answers", func(ctx context.Context) error { return s.desk.Close(ctx) })
	return nil
}

// answered takes a result from the cloud: it settles the decision immediately, and the desk publishes the answer on the bus.
func (s *Service) answered(r seal.Result) {
	s.feedback.Resulted(r)
	s.desk.Take(r)
}

// results returns the publisher for results of local work.
func (s *Service) results() local.Publisher {
	s.forward = &forward.Forwarder{
		Bus: s.deps.Publisher, Class: func(name string) *task.Class { return s.rules.Load().Class(name) },
		Store: s.keepResult, Now: func() int64 { return time.Now().UnixNano() },
	}
	return s.forward.Named(s.kinship.Sign(s.forward))
}

// keepResult stores the task of a result in the spool, and calls done once it is durable. The account counts it as one more task. No decision is made
// for it.
func (p *Pipeline) keepResult(t *task.Task, done func(error)) error {
	r := record(&job{}, t, t.Append(make([]byte, 0, t.Size()+recordOverhead)))
	r.Score = float32(t.Score)
	p.ledger.Enter(1)
	err := p.offer([]spool.Record{r}, func(err error) {
		if err == nil {
			p.ledger.Spooled(1)
		} else {
			p.ledger.Leave(1)
		}
		done(err)
	})
	if err != nil {
		p.ledger.Leave(1)
	}
	return err
}
