package faults

import (
	"context"
	"fmt"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/badlink"
)

// step is an action of a fault or a scenario.
type step = func(ctx context.Context) error

// inTurn runs the steps in order until one fails.
func inTurn(ctx context.Context, steps ...step) error {
	for _, do := range steps {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// script combines several steps into one.
func script(steps ...step) step {
	return func(ctx context.Context) error { return inTurn(ctx, steps...) }
}

// then turns a function that cannot fail into a step.
func then(do func()) step {
	return func(context.Context) error {
		do()
		return nil
	}
}

// hurry is the factor by which quick rounds are shorter.
const hurry = 2

// pausing waits for a random part of a time.
func (s *system) pausing(most time.Duration) step {
	return func(ctx context.Context) error {
		most := most
		if s.cfg.Quick {
			most /= hurry
		}
		return s.resting(time.Duration(s.random.Int64N(int64(most))))(ctx)
	}
}

// resting waits for a time.
func (s *system) resting(d time.Duration) step {
	return func(ctx context.Context) error {
		select {
		case <-time.After(s.paced(d)):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// paced is the scaled duration of a step: tests run faster.
func (s *system) paced(d time.Duration) time.Duration { return d / max(s.cfg.pace, 1) }

// quietly runs the steps while the traffic is paused and all sent events are acknowledged.
func (s *system) quietly(steps ...step) step {
	return func(ctx context.Context) error {
		return s.publisher.rest(ctx, func() error { return inTurn(ctx, steps...) })
	}
}

// publishing publishes further events at an interval.
func (s *system) publishing(events int, apart time.Duration) step {
	return func(ctx context.Context) error {
		for range events {
			s.publisher.publish(ctx)
			if err := s.resting(apart)(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// inOrder runs steps that publish a number of events, waits until all have arrived, and checks their order.
func (s *system) inOrder(events int, steps ...step) step {
	return func(ctx context.Context) error {
		s.database.forget()
		from := s.publisher.accepted()
		if err := inTurn(ctx, append(steps, s.publisher.settled, s.arrived)...); err != nil {
			return err
		}
		s.database.overtaken(from)
		s.report.Ordered += events
		s.report.OutOfOrder = s.database.late
		s.database.forget()
		return nil
	}
}

// harming applies a fault to the link.
func (s *system) harming(t badlink.Trouble) step {
	return func(context.Context) error { return s.link.Harm(t) }
}

// cut makes the link refuse connections.
func (s *system) cut(context.Context) error { return s.link.Harm(badlink.Troubles["cut"][0]) }

// heal removes the link's fault.
func (s *system) heal(context.Context) error { return s.link.Heal() }

// unexpected returns the error of a process that exited unexpectedly.
func unexpected(name string, p *stack.Process) error {
	return fmt.Errorf("%s exited unexpectedly: %w", name, p.Err())
}
