package functions

import "app-offload/functions/models/delivery"

// modelTopics is the topic on which models come, where they are taken.
func (s *Service) modelTopics() map[string]func([]byte) {
	if s.cfg.Models.Directory == "" || !s.cfg.Models.Delivery {
		return nil
	}
	return map[string]func([]byte){delivery.Topic(s.cfg.Node): func(message []byte) {
		if d := s.deliveries.Load(); d != nil {
			d.Take(message)
		}
	}}
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
