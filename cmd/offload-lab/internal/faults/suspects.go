package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"app-offload/functions/badlink"
)

// The device whose events are a class of their own, by its number and its name.
const (
	ownDevice = 4
	ownClass  = "pump-4"
)

// denyClass keeps one class from the consumer. The broker acknowledges its batches and delivers none of them.
func (s *system) denyClass(ctx context.Context) error {
	others := func(n int) bool { return n%devices != ownDevice }
	return inTurn(ctx, s.heal, s.denying("offload/v1/+/batch/camera"), s.resting(2*time.Second), s.pausing(5*time.Second),
		s.passing("the consumer may not read one class, and others wait behind it", others), s.denying(""))
}

func (s *system) denying(topic string) step {
	return func(context.Context) error { return s.broker.deny(topic) }
}

// everyone is the selection of all events.
func everyone(int) bool { return true }

// passing waits until all events of a selection that are acknowledged now have arrived, while the trouble lasts.
func (s *system) passing(trouble string, selected func(n int) bool) step {
	return func(ctx context.Context) error { return s.pass(ctx, trouble, selected) }
}

func (s *system) pass(ctx context.Context, trouble string, selected func(n int) bool) error {
	want := s.publisher.accepted()
	var left []int
	err := s.advancing(ctx, func() (bool, int, error) {
		if err := s.database.read(ctx); err != nil {
			return false, 0, err
		}
		left = left[:0]
		for _, n := range s.database.missing(want) {
			if selected(n) {
				left = append(left, n)
			}
		}
		return len(left) == 0, len(left), nil
	})
	if errors.Is(err, errStuck) {
		s.violate("%s: %d events, such as %v; app-offload says %s", trouble, len(left), left[:min(len(left), 5)], s.status(ctx))
		return nil
	}
	return err
}

// Sizes that are too large: of an event, for a broker that limits packets, and of a message, for anything.
const (
	packetLimit = 200_000
	eventBytes  = 300_000
	hugeBytes   = 70 << 20
)

func (s *system) oversized(ctx context.Context) error {
	if err := s.heal(ctx); err != nil {
		return err
	}
	switch s.random.IntN(4) {
	case 0:
		return s.throw(ctx, s.bus.addr, "edgex/events/device/faults/Pump/pump-0/State")
	case 1:
		return s.throw(ctx, s.broker.addr, "offload/v1/lab/receipt")
	case 2:
		s.garbage++
		return s.throw(ctx, s.broker.addr, "offload/v1/lab/batch/default")
	}
	e := s.specialEvent(0)
	e.Readings[0].Type, e.Readings[0].Value = "String", strings.Repeat("x", eventBytes)
	return inTurn(ctx, s.harming(badlink.Closing(packetLimit)),
		func(ctx context.Context) error { return s.publisher.deliver(ctx, s.database, e) },
		s.resting(time.Second), s.pausing(5*time.Second),
		s.passing("one event is above the broker's limit, and others wait behind it", everyone), s.heal)
}

// throw publishes a huge message that is nothing.
func (s *system) throw(ctx context.Context, addr, topic string) error {
	c, err := connected(addr, "thrower")
	if err != nil {
		return err
	}
	defer c.Disconnect(100)
	if err := done(c.Publish(topic, 1, false, bytes.Repeat([]byte{0x7f}, hugeBytes))); err != nil {
		return fmt.Errorf("publishing a huge message on %s: %w", topic, err)
	}
	return s.pausing(3 * time.Second)(ctx)
}

// closing is a balancer without a broker behind it.
func (s *system) closing(ctx context.Context) error {
	return inTurn(ctx, s.harming(badlink.Closing(0)), s.pausing(10*time.Second), s.heal)
}
