package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"app-offload/cmd/offload-lab/internal/stack"
)

// subject is the measured process.
type subject interface {
	PID() int
	Done() <-chan struct{}
	Err() error
}

// rig is the running set-up of a case.
type rig struct {
	o        Options
	c        Case
	broker   *broker // the MessageBus, and, except in a drain, the link
	tally    *tally
	consumer *consumer
	floor    *child // or
	peer     *stack.Process
	service  *service // the measured service
	load     *child
	stops    []func() error
}

// measure runs one case from the start of its broker to the exit of its last process.
func measure(ctx context.Context, o Options, c Case, log io.Writer) (r Result, err error) {
	dir, err := os.MkdirTemp(o.Dir, "case-")
	if err != nil {
		return r, fmt.Errorf("creating a folder for the case: %w", err)
	}
	defer os.RemoveAll(dir)
	g := &rig{o: o, c: c, tally: newTally(o.Events)}
	defer func() { err = errors.Join(err, g.stop()) }()
	if o.procs > 0 {
		o.Env = append(slices.Clip(o.Env), "GOMAXPROCS="+strconv.Itoa(o.procs))
		g.o = o
	}
	if err := g.start(ctx, dir, log); err != nil {
		return r, err
	}
	if o.quota > 0 {
		lift, err := throttle(g.subject().PID(), o.quota)
		if err != nil {
			return r, err
		}
		g.stops = slices.Insert(g.stops, 0, lift) // after the process has exited
	}
	return g.run(ctx, log)
}

// start starts everything except the load.
func (g *rig) start(ctx context.Context, dir string, log io.Writer) (err error) {
	addr, err := stack.FreeAddr()
	if err != nil {
		return err
	}
	if g.broker, err = startBroker(ctx, g.c.Broker, g.o.Mosquitto, addr, dir, log); err != nil {
		return err
	}
	g.onStop(g.broker.stop)
	link := g.broker.addr
	if g.drains() {
		g.tally.passes = true
		if link, err = stack.FreeAddr(); err != nil {
			return err
		}
	} else if err := g.startConsumer(link); err != nil {
		return err
	}
	if g.c.Subject == "floor" {
		if g.floor, err = startChild(ctx, log, g.o.Env, partFloor, "-broker", g.broker.addr, "-qos", strconv.Itoa(g.c.QoS)); err != nil {
			return err
		}
		g.onStop(g.floor.stop)
		return nil
	}
	if g.c.Subject == peer {
		if g.peer, err = startPeer(ctx, g.o, g.c.QoS, g.broker.addr, dir, log); err == nil {
			g.onStop(func() error { return g.peer.Stop(10 * time.Second) })
		}
		return err
	}
	if g.service, err = startService(ctx, g.o, g.c, g.broker.addr, link, dir, log); err != nil {
		return err
	}
	g.onStop(g.service.stop)
	if g.drains() {
		return g.fill(ctx, link, dir, log)
	}
	return nil
}

// drains reports whether the case measures a backlog.
func (g *rig) drains() bool { return g.o.Drain && g.c.Subject == "service" }

func (g *rig) startConsumer(broker string) (err error) {
	if g.consumer, err = startConsumer(broker, g.tally); err == nil {
		g.onStop(func() error { g.consumer.stop(); return nil })
	}
	return err
}

// fill publishes all events while the link is down, waits until they are in the spool, and restores the link.
func (g *rig) fill(ctx context.Context, link, dir string, log io.Writer) error {
	if err := g.startLoad(ctx, log); err != nil {
		return err
	}
	for n, began := 0, time.Now(); n < g.o.Events; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.load.Done():
			return g.load.Err()
		case <-time.After(20 * time.Millisecond):
		}
		c, err := g.service.counts(ctx)
		if err != nil {
			return err
		}
		if int(c.Spooled) > n {
			n, began = int(c.Spooled), time.Now()
			fmt.Fprintln(g.load.in, min(n, g.o.Events-1)) // the last line is the end
		} else if time.Since(began) > quiet {
			return fmt.Errorf("only %d of %d events reached the spool", n, g.o.Events)
		}
	}
	bus := g.broker
	uplink, err := startMosquitto(ctx, mosquittoSettings[g.c.Broker], g.o.Mosquitto, link, dir, log)
	if err != nil {
		return err
	}
	g.onStop(uplink.stop)
	g.broker = &broker{uplink.addr, func() time.Duration { return bus.used() + uplink.used() }, nil} // stopped above
	return g.startConsumer(link)
}

func (g *rig) onStop(stop func() error) { g.stops = append(g.stops, stop) }

// stop stops all processes in reverse order of start. It may be called again.
func (g *rig) stop() error {
	var errs []error
	for i := len(g.stops) - 1; i >= 0; i-- {
		errs = append(errs, g.stops[i]())
	}
	g.stops = nil
	return errors.Join(errs...)
}

func (g *rig) subject() subject {
	if g.floor != nil {
		return g.floor
	}
	if g.peer != nil {
		return g.peer
	}
	return g.service
}

// run loads the subject, waits until every event is concluded, and takes the figures.
func (g *rig) run(ctx context.Context, log io.Writer) (r Result, err error) {
	pid, others := g.subject().PID(), []func() time.Duration{g.broker.used}
	before, err := usageOf(pid, others...)
	if err != nil {
		return r, err
	}
	disk := newWear(g.o.Dir)
	if g.o.Idle > 0 {
		err = g.rest(ctx)
	} else {
		if g.load == nil {
			err = g.startLoad(ctx, log)
		}
		if err == nil {
			others = append(others, g.load.used)
			err = g.follow(ctx)
		}
	}
	if err != nil {
		return r, err
	}
	after, err := usageOf(pid, others...)
	if err != nil {
		return r, err
	}
	r = Result{Case: g.c, Events: g.events(), Window: g.o.Window, LoadAvg: loadAverage()}
	r.Writes, r.Written = disk.rates()
	r.since(&before, &after)
	if r.Memory, err = peakMemory(pid); err != nil {
		return r, err
	}
	return r, g.settle(ctx, &r)
}

// since computes the usage between two moments.
func (r *Result) since(before, after *usage) {
	spent := after.at.Sub(before.at).Seconds()
	r.CPU = float64((after.cpu - before.cpu).Microseconds()) / float64(max(r.Events, 1))
	r.Load = 100 * (after.cpu - before.cpu).Seconds() / spent
	r.Wakeups = float64(after.wakeups-before.wakeups) / spent
	if r.Foreign = -1; before.machine >= 0 && after.machine >= 0 {
		r.Foreign = max(0, 100*(after.machine-before.machine-(after.bench-before.bench)).Seconds()/spent)
	}
}

// events is the number of events of the load.
func (g *rig) events() int {
	if g.o.Idle > 0 {
		return 0
	}
	return g.o.Events
}

// lead is the time for a fixed-rate load to connect.
const lead = 300 * time.Millisecond

func (g *rig) startLoad(ctx context.Context, log io.Writer) (err error) {
	began := time.Now().Add(lead)
	if g.o.Rate > 0 {
		g.tally.schedule(began, g.o.Rate)
	}
	g.load, err = startChild(ctx, log, nil, partLoad, "-broker", g.broker.addr, "-qos", strconv.Itoa(g.c.QoS), "-began", strconv.FormatInt(began.UnixNano(), 10),
		"-events", strconv.Itoa(g.o.Events), "-window", strconv.Itoa(g.o.Window), "-rate", strconv.Itoa(g.o.Rate),
		"-readings", strconv.Itoa(g.o.readings), "-size", strconv.Itoa(g.o.size))
	if err == nil {
		g.onStop(g.load.stop)
	}
	return err
}

// rest leaves the subject idle.
func (g *rig) rest(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.subject().Done():
		return g.subject().Err()
	case <-time.After(g.o.Idle):
		return nil
	}
}

// quiet is the time without any arrival after which the case ends and missing events count as lost. The broker's keep-alive and the exporter's
// retransmissions are much faster.
const quiet = 45 * time.Second

// follow reports progress to the load until all events are concluded, or nothing has arrived for quiet.
func (g *rig) follow(ctx context.Context) error {
	tick := time.Tick(5 * time.Millisecond)
	last, since := 0, time.Now()
	for polled := since; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.subject().Done():
			return g.subject().Err()
		case <-g.load.Done():
			return g.load.Err()
		case <-tick:
		}
		if now := time.Now(); g.service != nil && g.c.Policy != "cloud" && now.Sub(polled) > 50*time.Millisecond { // a query costs the service a millisecond
			polled = now
			if c, err := g.service.counts(ctx); err == nil { // errors of a busy or exited service show elsewhere
				g.tally.tellLocal(int(c.Local), time.Now())
			}
		}
		n := g.tally.concluded()
		if n > last {
			last, since = n, time.Now()
			fmt.Fprintln(g.load.in, n) // an exited load is detected above
		}
		switch {
		case n >= g.o.Events:
			return g.caughtUp(ctx)
		case time.Since(since) > quiet:
			return nil
		}
	}
}

// caughtUp waits until the service has processed the receipts: their work belongs to the events.
func (g *rig) caughtUp(ctx context.Context) error {
	for end := time.Now().Add(quiet); g.service != nil && time.Now().Before(end); {
		c, err := g.service.counts(ctx)
		if err != nil {
			return err
		}
		if int(c.Local+c.Receipted) >= g.o.Events && c.InFlight+c.Spooled == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// settle stops the subject and reads the account. Open windows of local work are published at the stop.
func (g *rig) settle(ctx context.Context, r *Result) error {
	if g.service != nil {
		c, err := g.service.counts(ctx)
		if err != nil {
			return err
		}
		r.Imbalance = c.Balance
		if err := g.service.stop(); err != nil {
			return err
		}
		g.awaitResults(int(c.Local))
	}
	if err := g.consumer.problem(); err != nil {
		return err
	}
	t := g.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	if spent := t.last.Sub(t.first).Seconds(); spent > 0 {
		r.Rate = float64(t.arrived+t.local) / spent
	}
	r.Receipted, r.Local = t.arrived, int(g.consumer.sums.Load())
	missing := g.events() - r.Receipted - r.Local
	r.Overtaken, r.P50, r.P99 = t.overtaken, t.quantile(0.5), t.quantile(0.99)
	r.Lost, r.Doubled = max(0, missing), t.repeated+t.foreign+max(0, -missing)
	return nil
}

// awaitResults gives the last windows time to pass the broker.
func (g *rig) awaitResults(local int) {
	for end := time.Now().Add(5 * time.Second); int(g.consumer.sums.Load()) < local && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
}

// tally counts the arrived events individually.
type tally struct {
	mu          sync.Mutex
	seen        []uint8 // count by the event's number
	arrived     int     // distinct events
	repeated    int     // repeated events
	local       int     // events that the service reports as done locally
	foreign     int     // messages that are not events of the load
	overtaken   int     // events after a later event of their device
	latest      [devices]int
	passes      bool // fresh events may overtake the backlog
	backlog     [devices]int
	began       time.Time // of the load; zero without a fixed rate
	every       time.Duration
	late        []uint32 // µs since the due time of the event, regardless of its sending time
	first, last time.Time
}

func newTally(events int) *tally { return &tally{seen: make([]uint8, events)} }

// schedule sets the due time of each event, from which its latency counts: an event delayed in the load by slow earlier events is slow itself.
func (t *tally) schedule(began time.Time, rate int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began, t.every, t.late = began, time.Second/time.Duration(rate), make([]uint32, 0, len(t.seen))
}

// quantile returns a quantile of the latencies in milliseconds; 0 without any.
func (t *tally) quantile(q float64) float64 {
	if len(t.late) == 0 {
		return 0
	}
	slices.Sort(t.late)
	return float64(t.late[int(q*float64(len(t.late)-1))]) / 1000
}

// take records events by their numbers.
func (t *tally) take(numbers []int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range numbers {
		switch {
		case n < 0 || n >= len(t.seen):
			t.foreign++
			continue
		case t.seen[n] > 0:
			t.repeated++
			continue
		}
		t.seen[n]++
		t.arrived++
		t.order(n)
		if t.late != nil {
			t.late = append(t.late, uint32(max(now.Sub(t.began.Add(time.Duration(n)*t.every)), 0).Microseconds()))
		}
		t.at(now)
	}
}

// order checks the event's place in the order of its device. If fresh data may overtake the backlog, each of the two is checked separately.
func (t *tally) order(n int) {
	fresh, backlog := &t.latest[n%devices], &t.backlog[n%devices]
	switch {
	case n >= *fresh:
		*fresh = n
	case t.passes && n >= *backlog:
		*backlog = n
	default:
		t.overtaken++
	}
}

// tellLocal records the number of events done locally so far.
func (t *tally) tellLocal(n int, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n > t.local {
		t.local = n
		t.at(now)
	}
}

func (t *tally) at(now time.Time) {
	if t.first.IsZero() {
		t.first = now
	}
	t.last = now
}

// concluded is the number of concluded events on either path.
func (t *tally) concluded() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.arrived + t.local
}
