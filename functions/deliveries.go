package functions

import (
	"app-offload/functions/models/delivery"
	"app-offload/functions/seal"
)

// topics are those of the link that bring more than receipts and results, as far as the configuration takes any.
func (s *Service) topics() map[string]func([]byte) {
	topics := map[string]func([]byte){}
	if s.cfg.Models.Directory != "" && s.cfg.Models.Delivery {
		topics[delivery.Topic(s.cfg.Node)] = func(message []byte) {
			if d := s.deliveries.Load(); d != nil {
				d.Take(message)
			}
		}
	}
	if s.member.Status() != nil {
		topics[seal.FleetTopic(s.cfg.Node)] = s.member.Take
	}
	if s.rules.Load().Model.Credits() {
		topics[seal.CreditTopic(s.cfg.Node)] = s.teller.take
	}
	return topics
}

// openDeliveries begins to take models, and stops before their store does.
func (s *Service) openDeliveries() error {
	d, err := s.local.Deliveries(s.cfg.Node, s.exporter.Send, s.log)
	if d != nil {
		s.deliveries.Store(d)
		s.life.onStop("deliveries of models", d.Close)
	}
	return err
}
