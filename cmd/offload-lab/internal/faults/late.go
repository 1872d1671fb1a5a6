package faults

import (
	"context"
	"time"
)

// few is how many events are published while the consumer is away, and again when it is back: many batches, but fewer than make
// app-offload take them for a backlog, which fresh events may pass.
const few = 40

// lateConsumer starts the consumer after the events, as compose does at every start. What the broker accepted without a subscriber has to come
// again, in order.
func (s *system) lateConsumer(ctx context.Context) error {
	trickle := s.publishing(few, 20*time.Millisecond)
	return inTurn(ctx, s.heal, s.quietly(s.arrived,
		s.inOrder(2*few, s.consumerGone, trickle, s.pausing(3*time.Second), s.startCloud, trickle)))
}

// consumerGone ends the consumer, and mostly the broker's memory of it as well.
func (s *system) consumerGone(ctx context.Context) error {
	if err := s.endCloud(ctx); err != nil || s.random.IntN(4) == 0 {
		return err
	}
	return inTurn(ctx, s.broker.kill, s.broker.start)
}
