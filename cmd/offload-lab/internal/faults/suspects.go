package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"app-offload/functions/badlink"
)

// The device whose events are a class of their own, by its number and its name.
const (
	ownDevice = 4
	ownClass  = "pump-4"
)

// denyClass keeps one class from the consumer. The broker acknowledges its batches and delivers none of them.
func (s *system) denyClass(ctx context.Context) error {
	if err := errors.Join(s.link.Heal(), s.broker.deny("offload/v1/+/batch/camera")); err != nil {
		return err
	}
	if err := errors.Join(s.rest(ctx, 2*time.Second), s.pause(ctx, 5*time.Second)); err != nil {
		return err
	}
	err := s.pass(ctx, "the consumer may not read one class, and others wait behind it", func(n int) bool { return n%devices != ownDevice })
	return errors.Join(err, s.broker.deny(""))
}

// pass waits until all events of a selection that are acknowledged now have arrived, while the trouble lasts.
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
	if err := s.link.Heal(); err != nil {
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
	if err := s.link.Harm(badlink.Closing(packetLimit)); err != nil {
		return err
	}
	e := s.specialEvent(0)
	e.Readings[0].Type, e.Readings[0].Value = "String", strings.Repeat("x", eventBytes)
	if err := s.publisher.deliver(ctx, s.database, e); err != nil {
		return err
	}
	if err := errors.Join(s.rest(ctx, time.Second), s.pause(ctx, 5*time.Second)); err != nil {
		return err
	}
	err := s.pass(ctx, "one event is above the broker's limit, and others wait behind it", func(int) bool { return true })
	return errors.Join(err, s.link.Heal())
}

// throw publishes a huge message that is nothing.
func (s *system) throw(ctx context.Context, addr, topic string) error {
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID("thrower").SetCleanSession(true)
	c := mqtt.NewClient(o)
	if t := c.Connect(); !t.WaitTimeout(patience) || t.Error() != nil {
		return fmt.Errorf("connecting to %s to throw a message: %w", addr, t.Error())
	}
	defer c.Disconnect(100)
	if t := c.Publish(topic, 1, false, bytes.Repeat([]byte{0x7f}, hugeBytes)); !t.WaitTimeout(patience) || t.Error() != nil {
		return fmt.Errorf("publishing a huge message on %s: %w", topic, t.Error())
	}
	return s.pause(ctx, 3*time.Second)
}

// closing is a balancer without a broker behind it.
func (s *system) closing(ctx context.Context) error {
	if err := s.link.Harm(badlink.Closing(0)); err != nil {
		return err
	}
	if err := s.pause(ctx, 10*time.Second); err != nil {
		return err
	}
	return s.link.Heal()
}
