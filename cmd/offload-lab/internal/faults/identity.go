package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
)

// specialEvent makes an event that is not numbered, of one device.
func (s *system) specialEvent(device int) feed.Event {
	s.specials++
	e := s.publisher.event(device)
	e.ID = fmt.Sprintf("%08x-0001-4000-8000-%012x", uint32(s.cfg.Seed), s.specials) // a part of it is enough
	e.Readings = e.Readings[:1]
	e.Readings[0].ID, e.Readings[0].Resource = e.ID, "Special"
	e.Origin = time.Now().UnixNano()
	e.Readings[0].Origin = e.Origin
	return e
}

// deliver publishes an event that is not numbered, once, and expects it in the database.
func (p *publisher) deliver(ctx context.Context, d *database, e feed.Event) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("making an event: %w", err)
	}
	d.expect(e.ID, raw)
	return p.hand(ctx, e)
}

// hand publishes an event until the MessageBus acknowledges it.
func (p *publisher) hand(ctx context.Context, e feed.Event) error {
	topic := "edgex/events/device/faults/" + e.Profile + "/" + e.Device + "/" + e.Source
	return until(ctx, patience, "the MessageBus acknowledges a special event", func() (bool, error) {
		token := p.client.Publish(topic, 1, false, p.message(e))
		return token.WaitTimeout(patience/3) && token.Error() == nil, nil
	})
}

// sameID publishes different events of several devices under one id, as device services with a poor source of ids do, and one of
// them twice. The different ones are to arrive, the repeated one once.
func (s *system) sameID(ctx context.Context) error {
	var list []feed.Event
	for device := range 2 + s.random.IntN(devices-1) {
		e := s.specialEvent(device)
		if len(list) > 0 {
			e.ID, e.Readings[0].ID = list[0].ID, list[0].ID
		}
		e.Readings[0].Value = strconv.Itoa(s.random.IntN(1000))
		list = append(list, e)
	}
	for _, e := range list {
		if err := s.publisher.deliver(ctx, s.database, e); err != nil {
			return err
		}
	}
	return s.publisher.hand(ctx, list[s.random.IntN(len(list))])
}

// restoreSpool puts the spool back to a copy, as a restored image of the disk does. All that the copy does not know has arrived
// before, so that nothing may be lost: numbers are given again, to other records.
func (s *system) restoreSpool(ctx context.Context) error {
	spool, copied := stack.SpoolIn(s.cfg.Dir), filepath.Join(s.cfg.Dir, "spool.copy")
	return inTurn(ctx, s.heal, s.quietly(
		s.arrived, s.stopEdge, copying(copied, spool), s.startEdge, s.awaitEdge,
		s.publishing(stretch, time.Millisecond), s.publisher.settled, s.arrived, s.endEdge, copying(spool, copied),
		then(func() {
			s.asking.Lock()
			s.accepted = 0 // the account is the copy's
			s.asking.Unlock()
			s.restored++
		}), s.startEdge, s.awaitEdge))
}

// copying replaces one folder by another.
func copying(to, from string) step {
	return func(context.Context) error {
		if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
			return fmt.Errorf("copying the spool: %w", err)
		}
		return nil
	}
}
