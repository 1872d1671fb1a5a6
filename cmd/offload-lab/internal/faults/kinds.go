package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/badlink"
)

// kind is a fault.
type kind struct {
	name   string
	what   string
	strike func(s *system, ctx context.Context) error
	apart  bool // drawn only if named
}

// hung is the kind that needs PostgreSQL as the consumer's database.
const hung = "hung"

// kinds lists all kinds.
func kinds() []kind {
	return []kind{
		{name: "kill-edge", what: "kill -9 app-offload, sometimes again during the start", strike: (*system).killEdge},
		{name: "kill-cloud", what: "kill -9 offload-cloud, sometimes again during the start", strike: (*system).killCloud},
		{name: "kill-both", what: "kill -9 both at the same time", strike: (*system).killBoth},
		{name: "term-edge", what: "SIGTERM app-offload and restart it", strike: (*system).termEdge},
		{name: "cut", what: "the link is cut and refuses connections", strike: troubled("cut")},
		{name: "slow", what: "the link is slow, delayed or fragmented", strike: troubled("slow")},
		{name: "stall", what: "the link is half-open: up, and silent in one or both directions", strike: troubled("stall")},
		{name: "reset", what: "connections are reset, immediately or after some bytes", strike: troubled("reset")},
		{name: "puback", what: "the link swallows PUBACKs", strike: troubled("puback")},
		{name: "receipt", what: "the link swallows receipts", strike: troubled("receipt")},
		{name: "broker", what: "kill -9 the broker in the cloud, which loses everything", strike: (*system).killBroker},
		{name: "bus", what: "restart the MessageBus, which persists its sessions", strike: (*system).restartBus},
		{name: "late", what: "the consumer is absent while events arrive, and mostly its session is lost; all events then arrive in order", strike: (*system).lateConsumer},
		{name: "clock", what: "the wall clock steps by an hour, a day or 30 years, sometimes with a reboot", strike: (*system).stepClock},
		{name: "second", what: "a second app-offload on the same MessageBus publishes results", strike: (*system).secondService},
		{name: "acl", what: "the broker denies the consumer one class; all others pass", strike: (*system).denyClass},
		{name: "oversized", what: "an event above the broker's limit, or a message of 70 MB on the MessageBus, to the consumer or as a receipt", strike: (*system).oversized},
		{name: "same-id", what: "different events with the same id, and one event twice", strike: (*system).sameID},
		{name: "restored", what: "the spool is replaced by an earlier copy of itself", strike: (*system).restoreSpool},
		{name: "closing", what: "a load balancer accepts connections and closes them at every PUBLISH", strike: (*system).closing},
		{name: hung, what: "one of two consumers is stopped within a transaction; only if named, since it needs PostgreSQL", strike: (*system).hungWorker, apart: true},
		{name: killsWork, what: "kill -9 worker, offload-cloud and app-offload in any order, while the cloud answers every event; only if named", strike: (*system).killWork, apart: true},
	}
}

// Names lists the kinds with their descriptions for the help.
func Names() string {
	var lines []string
	for _, k := range kinds() {
		lines = append(lines, fmt.Sprintf("%-10s  %s", k.name, k.what))
	}
	return strings.Join(lines, "\n")
}

// chosen finds the kinds of a list; an empty list means all kinds drawn by default.
func chosen(names []string) ([]kind, error) {
	all := kinds()
	if len(names) == 0 {
		return slices.DeleteFunc(all, func(k kind) bool { return k.apart }), nil
	}
	var list []kind
	for _, name := range names {
		i := slices.IndexFunc(all, func(k kind) bool { return k.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no kind %q; the kinds are:\n%s", name, Names())
		}
		list = append(list, all[i])
	}
	return list, nil
}

// quickKinds lists two kills for every other kind.
func quickKinds() (names []string) {
	for _, k := range kinds() {
		if k.apart {
			continue
		}
		copies := map[string]int{"kill-edge": 11, "kill-cloud": 6, "kill-both": 3}[k.name]
		names = append(names, slices.Repeat([]string{k.name}, max(copies, 1))...)
	}
	return names
}

// away is the maximum absence of a process.
const away = 500 * time.Millisecond

// orAgain runs the step on, or in one of four cases the step restart.
func (s *system) orAgain(on, restart step) step {
	return func(ctx context.Context) error {
		if s.random.IntN(4) == 0 {
			return restart(ctx)
		}
		return on(ctx)
	}
}

func (s *system) killEdge(ctx context.Context) error {
	return inTurn(ctx, s.endEdge, s.pausing(away), s.startEdge, s.orAgain(s.awaitEdge, script(s.pausing(3*time.Second), s.killEdge)))
}

func (s *system) endEdge(context.Context) error {
	if e := s.edge.Load().Edge; !e.Kill() {
		return unexpected("app-offload", e)
	}
	s.report.Kills.Edge++
	return nil
}

func (s *system) killCloud(ctx context.Context) error {
	return inTurn(ctx, s.endCloud, s.pausing(away), s.orAgain(s.startCloud, script(s.launchCloud, s.pausing(time.Second), s.killCloud)))
}

func (s *system) endCloud(context.Context) error {
	if !s.cloud.Kill() {
		return unexpected("offload-cloud", s.cloud.Process)
	}
	s.report.Kills.Cloud++
	return nil
}

func (s *system) killBoth(ctx context.Context) error {
	return inTurn(ctx, s.endCloud, s.killEdge, s.startCloud)
}

func (s *system) termEdge(ctx context.Context) error {
	return inTurn(ctx, s.stopEdge, s.pausing(away), s.startEdge, s.awaitEdge)
}

// stopEdge stops app-offload. Its own limit is seven seconds; a busy machine gets more. If it does not stop, its log gets its stacks.
func (s *system) stopEdge(context.Context) error {
	begin := time.Now()
	e := s.edge.Load().Edge
	if ended(e) {
		return unexpected("app-offload", e)
	}
	late := time.AfterFunc(stopTime, func() { e.Abort() })
	defer late.Stop()
	err := e.Stop(2 * stopTime)
	took := time.Since(begin)
	s.report.Edge.Stop = max(s.report.Edge.Stop, took.Seconds())
	if took > stopTime {
		return fmt.Errorf("app-offload did not stop within %v, its stacks are at the end of edge.log: %w", stopTime, err)
	}
	return err
}

const stopTime = 20 * time.Second

// troubled applies one of the link's faults for a while; sometimes the fault stays until the end of the next round.
func troubled(name string) func(*system, context.Context) error {
	return func(s *system, ctx context.Context) error {
		list := badlink.Troubles[name]
		err := inTurn(ctx, s.harming(list[s.random.IntN(len(list))]), s.pausing(5*time.Second))
		if err != nil || s.random.IntN(3) == 0 {
			return err
		}
		return s.link.Heal()
	}
}

func (s *system) killBroker(ctx context.Context) error {
	return inTurn(ctx, s.broker.kill, s.pausing(3*time.Second), s.broker.start)
}

func (s *system) restartBus(ctx context.Context) error {
	return inTurn(ctx, s.bus.stop, s.pausing(3*time.Second), s.bus.start)
}

// The device whose events are a separate class, by number and name.
const (
	ownDevice = 4
	ownClass  = "pump-4"
)

// denyClass denies the consumer one class. The broker acknowledges its batches and delivers none of them.
func (s *system) denyClass(ctx context.Context) error {
	others := func(n int) bool { return n%devices != ownDevice }
	return inTurn(ctx, s.heal, s.denying("offload/v1/+/batch/camera"), s.resting(2*time.Second), s.pausing(5*time.Second),
		s.passing("the consumer may not read one class, and others wait behind it", others), s.denying(""))
}

func (s *system) denying(topic string) step {
	return func(context.Context) error { return s.broker.deny(topic) }
}

// everyone selects all events.
func everyone(int) bool { return true }

// passing waits until all acknowledged events of a selection have arrived, while the fault lasts.
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

// Sizes that are too large: an event for a broker with a packet limit, and a message for every part.
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

// throw publishes a huge message without meaning.
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

// closing is a load balancer without a broker behind it.
func (s *system) closing(ctx context.Context) error {
	return inTurn(ctx, s.harming(badlink.Closing(0)), s.pausing(10*time.Second), s.heal)
}

// specialEvent creates an event of a device that is not numbered.
func (s *system) specialEvent(device int) feed.Event {
	s.specials++
	e := s.publisher.event(device)
	e.ID = fmt.Sprintf("%08x-0001-4000-8000-%012x", uint32(s.cfg.Seed), s.specials) // a part of the seed suffices
	e.Readings = e.Readings[:1]
	e.Readings[0].ID, e.Readings[0].Resource = e.ID, "Special"
	e.Origin = time.Now().UnixNano()
	e.Readings[0].Origin = e.Origin
	return e
}

// deliver publishes an event that is not numbered once, and expects it in the database.
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

// sameID publishes different events of several devices with one id, as device services with a poor source of ids do, and one of them twice. The
// different events must arrive, the repeated one once.
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

// restoreSpool replaces the spool by an earlier copy, as a restored disk image does. All later events have arrived before, so nothing may be lost:
// sequences are reused for other records.
func (s *system) restoreSpool(ctx context.Context) error {
	spool, copied := stack.SpoolIn(s.cfg.Dir), filepath.Join(s.cfg.Dir, "spool.copy")
	return inTurn(ctx, s.heal, s.quietly(
		s.arrived, s.stopEdge, copying(copied, spool), s.startEdge, s.awaitEdge,
		s.publishing(stretch, time.Millisecond), s.publisher.settled, s.arrived, s.endEdge, copying(spool, copied),
		then(func() {
			s.asking.Lock()
			s.accepted = 0 // the account is that of the copy
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

// few is the number of events published during the consumer's absence, and again after it: many batches, but too few for app-offload to treat them as
// a backlog, which fresh events may overtake.
const few = 40

// lateConsumer starts the consumer after the events, as compose does at every start. Messages that the broker accepted without a subscriber must be
// sent again, in order.
func (s *system) lateConsumer(ctx context.Context) error {
	trickle := s.publishing(few, 20*time.Millisecond)
	return inTurn(ctx, s.heal, s.quietly(s.arrived,
		s.inOrder(2*few, s.consumerGone, trickle, s.pausing(3*time.Second), s.startCloud, trickle)))
}

// consumerGone stops the consumer, and mostly makes the broker lose its session as well.
func (s *system) consumerGone(ctx context.Context) error {
	if err := s.endCloud(ctx); err != nil || s.random.IntN(4) == 0 {
		return err
	}
	return inTurn(ctx, s.broker.kill, s.broker.start)
}

// secondService runs another app-offload on the same MessageBus for a while. It processes everything locally and publishes results. The first one
// must not take them for events: they would appear in the database.
func (s *system) secondService(ctx context.Context) error {
	dir := filepath.Join(s.cfg.Dir, "second")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making a folder for the second app-offload: %w", err)
	}
	second, err := stack.StartEdge(stack.Config{
		Bin: s.cfg.Bin, Res: s.cfg.Res, Dir: dir, Log: s.files["second"], Bus: stack.Bus{Type: "mqtt", Addr: s.bus.addr}, Cloud: s.broker.addr,
		Args: []string{"-sk=app-offload-2"},
		Env:  []string{"OFFLOAD_NODE=lab-2", "OFFLOAD_WRITABLE_POLICY_DEFAULT=edge", "OFFLOAD_WRITABLE_CLASSES_DEFAULT_OPERATORS=summary window=1s"},
	})
	if err != nil {
		return err
	}
	defer second.Edge.Kill()
	err = until(ctx, patience, "the second app-offload is ready", func() (bool, error) {
		if ended(second.Edge) {
			return false, unexpected("the second app-offload", second.Edge)
		}
		return second.Get(ctx, "/ready", nil) == nil, nil
	})
	if err != nil {
		return err
	}
	if err := s.pausing(5 * time.Second)(ctx); err != nil {
		return err
	}
	st, err := second.Status(ctx)
	if err != nil {
		return fmt.Errorf("asking the second app-offload: %w", err)
	}
	if st.Counts.Balance != 0 {
		s.violate("the balance of the second app-offload is %d: %s", st.Counts.Balance, text(st.Counts))
	}
	if err := second.Edge.Stop(stopTime); err != nil {
		s.violate("the end of the second app-offload: %v", err)
	}
	return nil
}
