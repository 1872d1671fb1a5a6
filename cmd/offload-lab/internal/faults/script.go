package faults

import (
	"context"
	"fmt"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/badlink"
)

// step is one thing that a fault or a scenario does.
type step = func(ctx context.Context) error

// inTurn does the steps one after the other, until one fails.
func inTurn(ctx context.Context, steps ...step) error {
	for _, do := range steps {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// script makes one step of several.
func script(steps ...step) step {
	return func(ctx context.Context) error { return inTurn(ctx, steps...) }
}

// then makes a step of what cannot fail.
func then(do func()) step {
	return func(context.Context) error {
		do()
		return nil
	}
}

// hurry is by how much quick rounds are shorter.
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

// paced is a time of the script as it is played: tests play faster.
func (s *system) paced(d time.Duration) time.Duration { return d / max(s.cfg.pace, 1) }

// quietly does the steps while the traffic is held back and all that was sent is acknowledged.
func (s *system) quietly(steps ...step) step {
	return func(ctx context.Context) error {
		return s.publisher.rest(ctx, func() error { return inTurn(ctx, steps...) })
	}
}

// publishing publishes further events, so far apart.
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

// inOrder does steps that publish so many events, waits until all have arrived, and checks the order of these.
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

// harming makes trouble on the link.
func (s *system) harming(t badlink.Trouble) step {
	return func(context.Context) error { return s.link.Harm(t) }
}

// cut is the trouble of a link that refuses connections.
func (s *system) cut(context.Context) error { return s.link.Harm(badlink.Troubles["cut"][0]) }

// heal takes the link's trouble away.
func (s *system) heal(context.Context) error { return s.link.Heal() }

// unexpected is the error for a process that exited unexpectedly.
func unexpected(name string, p *stack.Process) error {
	return fmt.Errorf("%s exited unexpectedly: %w", name, p.Err())
}
