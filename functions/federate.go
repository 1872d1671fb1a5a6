package functions

import (
	"time"

	"app-offload/functions/fleet"
	"app-offload/functions/policy"
	"app-offload/functions/pool"
	"app-offload/functions/say"
	"app-offload/functions/score"
	"app-offload/functions/seal"
)

// learners is everything here that learns from outcomes and can do so together with other nodes: the predictions, and policies.
type learners struct{ *Pipeline }

func (l learners) pooled() (all []policy.Pooled) {
	for _, learner := range l.rules.Load().Learners() {
		if p, ok := learner.(policy.Pooled); ok {
			all = append(all, p)
		}
	}
	return all
}

// Layout changes with all on which the meaning of the numbers depends.
func (l learners) Layout() string {
	return policy.PoolLayout + ";" + l.rules.Load().Model.PoolLayout()
}

func (l learners) Statistics(atLeast int64) pool.Parts {
	parts := l.rules.Load().Model.Statistics(atLeast)
	for _, p := range l.pooled() {
		parts.Add(p.Statistics(atLeast))
	}
	return parts
}

func (l learners) Prior(parts pool.Parts) {
	l.rules.Load().Model.Prior(parts)
	for _, p := range l.pooled() {
		p.Prior(parts)
	}
}

// openFleet makes the node's member of the fleet, whether it takes part or not.
func (s *Service) openFleet(sealer *seal.Sealer) {
	opener := seal.NewOpener(s.keys, seal.Limits{MaxMessageKiB: linkMaxKiB})
	s.member = fleet.NewMember(s.cfg.Node, sealer, opener, learners{s.Pipeline}, func(topic string, message []byte) { s.exporter.Send(topic, message) }, s.log)
	s.member.Set(s.cfg.Writable.Federate)
	s.teller = &teller{node: s.cfg.Node, opener: opener, publish: func(p score.Prices) { s.rules.Load().Model.Publish(p) }, log: s.log, said: say.NewEvery(time.Minute)}
}

// join takes over a configuration while the service runs. What begins needs a connection with its subscription; what others have taught a model that
// predicted otherwise is forgotten.
func (s *Service) join(cfg fleet.Config, before, now *score.Model) {
	taking := s.member.Status() != nil
	if before.PoolLayout() != now.PoolLayout() {
		s.member.Set(fleet.Config{})
	}
	s.member.Set(cfg)
	if cfg.On() && !taking || now.Credits() && !before.Credits() {
		s.exporter.Rotate()
	}
}
