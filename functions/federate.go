package functions

import (
	"time"

	"app-offload/functions/decide"
	"app-offload/functions/fleet"
	"app-offload/functions/pool"
	"app-offload/functions/say"
	"app-offload/functions/score"
	"app-offload/functions/seal"
)

// learners are the parts that learn from outcomes and can do so together with other nodes: the predictions and the policies.
type learners struct{ *Pipeline }

func (l learners) Layout() string { return l.rules.Load().PoolLayout() }

func (l learners) Statistics(atLeast int64) pool.Parts {
	r := l.rules.Load()
	parts := r.Model.Statistics(atLeast)
	for _, p := range r.Pooled() {
		parts.Add(p.Statistics(atLeast))
	}
	return parts
}

func (l learners) Prior(parts pool.Parts) {
	r := l.rules.Load()
	r.Model.Prior(parts)
	for _, p := range r.Pooled() {
		p.Prior(parts)
	}
}

// openFleet makes the node's member of the fleet, whether or not it takes part.
func (s *Service) openFleet(sealer *seal.Sealer) {
	opener := seal.NewOpener(s.keys, seal.Limits{MaxMessageKiB: linkMaxKiB})
	s.member = fleet.NewMember(s.cfg.Node, sealer, opener, learners{s.Pipeline}, func(topic string, message []byte) { s.exporter.Send(topic, message) }, s.log)
	s.member.Set(s.cfg.Writable.Federate)
	s.teller = &teller{node: s.cfg.Node, opener: opener, publish: func(p score.Prices) { s.rules.Load().Model.Publish(p) }, log: s.log, said: say.NewEvery(time.Minute)}
}

// join applies a configuration while the service runs. A new subscription needs a new connection.
func (s *Service) join(cfg fleet.Config, begins bool) {
	s.member.Set(cfg)
	if begins {
		s.exporter.Rotate()
	}
}

// follow puts rules in force. If the layout of the statistics changes, the node shares nothing it learned before, and forgets what other nodes taught
// it.
func (s *Service) follow(r *decide.Rules) {
	if r.PoolLayout() == s.rules.Load().PoolLayout() {
		s.rules.Store(r)
		return
	}
	s.member.Set(fleet.Config{}) // until join
	s.rules.Store(r)
	r.StatisticsAnew()
}
