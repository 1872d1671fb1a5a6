package faults

import (
	"context"
	"fmt"
	"time"

	"app-offload/functions/badlink"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// backlogShare is the share of the link that Batch.BacklogShare keeps for a backlog unless it is told otherwise.
const backlogShare = 0.3

// busy is the share of the narrow link that fresh events need.
const busy = 0.5

// backlog starts app-offload with a spool full of records and lets them leave beside fresh events. What is asked:
//
//  1. From its start to its readiness app-offload needs less than 2 s.
//  2. While the backlog leaves, 99 of 100 fresh events are receipted within twice the time that they need without one,
//     over the same link, which fresh events alone fill to a half.
//  3. Meanwhile the backlog gets at least its share of the link.
//  4. Afterwards all drains, nothing is lost and nothing is doubled.
func (s *stage) backlog(ctx context.Context) error {
	s.env = []string{
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", fmt.Sprint("OFFLOAD_SPOOL_QUOTAMIB=", s.backlogQuota()),
		"OFFLOAD_EXPORT_BACKOFFMIN=100ms", "OFFLOAD_EXPORT_BACKOFFMAX=500ms",
	}
	var alone, beside float64
	return inTurn(ctx, s.start, s.narrow, s.observing(&s.result.Before, "settling on the narrow link", 5*time.Second),
		s.measuring(&alone, "without a backlog"), s.restartWithBacklog, s.connect, s.timed(s.besideBacklog(&beside)),
		then(func() {
			s.bounds(
				figure("ms, p99 without a backlog", alone*1e3),
				figure("ms, p99 beside the backlog", beside*1e3),
				atMost("p99 beside the backlog, times without", beside/alone, 2),
				atLeast("share of the link that the backlog got", s.left*s.wire/(s.width*s.result.Seconds), backlogShare),
			)
		}), s.heal, s.drain)
}

func (s *stage) backlogQuota() int {
	const record = 1 << 10 // bytes, ample
	return 512 + s.records*record>>20*5/4
}

// narrow measures what an event needs on the wire, and makes the link so narrow that the events fill the half of it.
func (s *stage) narrow(ctx context.Context) error {
	if err := s.observing(&Usage{}, "measuring the wire", 5*time.Second)(ctx); err != nil {
		return err
	}
	st, err := s.ask(ctx)
	if err != nil {
		return err
	}
	s.wire = float64(st.Export.Bytes) / float64(st.Export.Receipted)
	s.width = s.wire * s.rate / busy
	s.say("an event needs %.0f bytes on the wire; the link carries %.0f KB/s", s.wire, s.width/1e3)
	return s.narrowed(ctx)
}

func (s *stage) narrowed(context.Context) error {
	return s.link.Harm(badlink.Trouble{Up: badlink.Flow{Rate: s.width}})
}

// restartWithBacklog ends app-offload, fills its spool, and starts it again while the link is down.
func (s *stage) restartWithBacklog(ctx context.Context) error {
	begin := time.Now()
	err := s.quietly(s.arrived, s.stopEdge, s.fill, s.cut, then(func() { begin = time.Now() }), s.startEdge, s.awaitEdge)(ctx)
	ready := time.Since(begin)
	s.bounds(atMost("s from start to ready", ready.Seconds(), 2))
	s.say("ready after %.2f s with %d records in the spool", ready.Seconds(), s.records)
	return err
}

// fill puts events into the spool as app-offload would have, had they been published while the link was down.
func (s *stage) fill(context.Context) error {
	begin := time.Now()
	cfg := spool.DefaultConfig()
	cfg.QuotaMiB = s.backlogQuota()
	sp, err := spool.Open(s.edge.Load().Spool(), cfg)
	if err != nil {
		return err
	}
	p := s.publisher
	from := p.accepted()
	p.sent.Add(int64(s.records))
	const group = 1000
	class := &task.Class{Name: "default", Priority: 5}
	for n := from; n < from+s.records && err == nil; n += group {
		records := make([]spool.Record, min(group, from+s.records-n))
		for i := range records {
			records[i] = s.record(n+i, class)
		}
		stored := make(chan error, 1)
		sp.Append(records, func(err error) { stored <- err })
		err = <-stored
	}
	if err != nil {
		return fmt.Errorf("filling the spool: %w", err)
	}
	p.acked.Add(int64(s.records))
	s.database.from, s.database.to = from, from+s.records
	s.say("%d records are in the spool after %.1f s", s.records, time.Since(begin).Seconds())
	return sp.Close()
}

func (s *stage) record(n int, class *task.Class) spool.Record {
	e, now := s.publisher.event(n), time.Now().UnixNano()
	t := task.Task{
		EventID: e.ID, Device: e.Device, Profile: e.Profile, Source: e.Source, Origin: e.Origin, Received: now, Of: 1,
		Class: class, Encoding: task.JSON, Data: s.publisher.raw(n), Policy: "cloud",
	}
	return spool.Record{Lane: class.Priority, Class: class.Name, Time: now, Payload: t.Append(nil)}
}

// connect gives the link back, narrow, and waits until app-offload uses it.
func (s *stage) connect(ctx context.Context) error {
	return inTurn(ctx, s.narrowed, func(ctx context.Context) error {
		return until(ctx, patience, "the link is up again", func() (bool, error) {
			st, err := s.ask(ctx)
			return err == nil && st.Link.Up, nil
		})
	})
}

// besideBacklog measures fresh events while the backlog leaves, and how much of it does.
func (s *stage) besideBacklog(p99 *float64) step {
	before := 0
	return script(s.readDatabase, then(func() { before = s.database.inside }), s.measuring(p99, "beside the backlog"), s.readDatabase, then(func() {
		s.left = float64(s.database.inside - before)
		s.say("%.0f records of the backlog have left", s.left)
	}))
}

func (s *stage) readDatabase(ctx context.Context) error { return s.database.read(ctx) }
