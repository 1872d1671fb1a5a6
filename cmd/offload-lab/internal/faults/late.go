package faults

import (
	"context"
	"errors"
	"time"
)

// few is how many events are published while the consumer is away, and again when it is back: many batches, but fewer than make
// app-offload take them for a backlog, which fresh events may pass.
const few = 40

func (s *system) trickle(ctx context.Context) error {
	for range few {
		s.publisher.publish(ctx)
		if err := s.rest(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// lateConsumer starts the consumer after the events, as compose does at every start. What the broker accepted without a subscriber has to come
// again, in order.
func (s *system) lateConsumer(ctx context.Context) error {
	if err := s.link.Heal(); err != nil {
		return err
	}
	return s.publisher.rest(ctx, func() error {
		if err := s.arrived(ctx); err != nil {
			return err
		}
		s.database.forget()
		from := s.publisher.accepted()
		if err := s.consumerGone(ctx); err != nil {
			return err
		}
		if err := errors.Join(s.trickle(ctx), s.pause(ctx, 3*time.Second), s.startCloud(ctx), s.trickle(ctx)); err != nil {
			return err
		}
		if err := errors.Join(s.publisher.settled(ctx), s.arrived(ctx)); err != nil {
			return err
		}
		s.inOrder(from, 2*few)
		return nil
	})
}

// consumerGone ends the consumer, and mostly the broker's memory of it as well.
func (s *system) consumerGone(ctx context.Context) error {
	if err := s.endCloud(); err != nil {
		return err
	}
	if s.random.IntN(4) == 0 {
		return nil
	}
	s.broker.process.Kill()
	return s.broker.start(ctx)
}
