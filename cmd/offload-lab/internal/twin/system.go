package twin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/cmd/offload-lab/internal/stack"
	"app-offload/functions/decision"
)

// sent is one task of the experiment before it is run.
type sent struct {
	id      string
	profile string // selects its class, and so its policy
	round   int
	values  int           // in its array
	after   time.Duration // since the previous task
	device  string        // "" means twin
	link    func() error  // change of the link before it; nil means none
}

// The profiles of the classes in the shipped configuration, which route single tasks to the path that they measure.
const (
	hereProfile  = "Twin-Vibration"
	cloudProfile = "Twin-Camera"
	bothProfile  = "Twin"
)

const (
	valueBytes = 4 // of one value of an array on the link
	leastKB    = 8 // of a task on the link
	mostKB     = 80
)

// play starts the system, sends all tasks, and reads their outcomes from the service's own decision log.
func play(ctx context.Context, c *Config) ([]lived, error) {
	broker, err := stack.StartBroker()
	if err != nil {
		return nil, err
	}
	defer broker.Stop()
	way, err := newLink(broker.Addr, c.Rate, c.RTT)
	if err != nil {
		return nil, err
	}
	defer way.Close()
	log := filepath.Join(c.Dir, decisions)
	s, err := stack.Start(ctx, stack.Config{
		Bin: c.Bin, Res: c.Res, Dir: c.Dir, Log: c.Log, Bus: stack.Bus{Type: "mqtt", Addr: broker.Addr}, Cloud: broker.Addr,
		Env: settings(c, way.Addr, log),
	})
	if err != nil {
		return nil, err
	}
	p := &publisher{stack: s, broker: broker, link: way, patience: 2 * time.Minute, passed: map[string]passed{}}
	return p.play(ctx, draw(c), c.Seed, log)
}

// play sends all tasks, stops the system and reads its decision log.
func (p *publisher) play(ctx context.Context, tasks []sent, seed uint64, log string) ([]lived, error) {
	seen := p.link.watch()
	err := p.sendAll(ctx, tasks, seed)
	crowd := seen().bytes
	if err = errors.Join(err, p.stack.Stop()); err != nil {
		return nil, err
	}
	all, err := readLog(filepath.Join(log, "decisions.jsonl"), tasks, p.passed)
	for _, single := range p.passed {
		crowd -= single.bytes
	}
	divide(all, float64(crowd))
	return all, err
}

// divide gives each cloud task of the dense series its share of the bytes that the link carried for all of them.
func divide(all []lived, wire float64) {
	sum := 0.0
	crowd := func(t *lived) bool { return t.cloud && !t.probe }
	for i := range all {
		if crowd(&all[i]) {
			sum += all[i].bytes
		}
	}
	for i := range all {
		if crowd(&all[i]) {
			all[i].wire = wire * all[i].bytes / sum
		}
	}
}

// settings configure the service as the simulator models it: each task is a separate message, sent immediately and in order.
func settings(c *Config, link, log string) []string {
	return []string{
		"OFFLOAD_EXPORT_BROKER=tcp://" + link, "OFFLOAD_DECISIONLOG=" + log, "OFFLOAD_SEAL_FORM=protobuf",
		"OFFLOAD_WRITABLE_BATCH_MAXCOUNT=1", "OFFLOAD_WRITABLE_BATCH_MAXAGE=0s",
		"OFFLOAD_EXPORT_MAXINFLIGHT=1000", "OFFLOAD_EXPORT_LINKAHEAD=1m", "OFFLOAD_SPOOL_QUOTAMIB=256",
		"OFFLOAD_WRITABLE_POLICY_DEFAULT=random", fmt.Sprintf("OFFLOAD_WRITABLE_POLICY_RANDOMSHARE=%g", c.Cloud),
		fmt.Sprintf("OFFLOAD_WRITABLE_POLICY_RANDOMSEED=%d", c.Seed),
		"OFFLOAD_WRITABLE_CLASSES_DEFAULT_CHUNKSIZE=-1", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_CHUNKSIZE=-1",
		"OFFLOAD_WRITABLE_CLASSES_CAMERA_CHUNKSIZE=-1", "OFFLOAD_WRITABLE_CLASSES_VIBRATION_OPERATORS=",
		"OFFLOAD_WRITABLE_CLASSES_VIBRATION_POLICY=edge", "OFFLOAD_WRITABLE_CLASSES_CAMERA_POLICY=cloud",
	}
}

// draw returns the tasks: in each round first single ones on either path, then a dense series.
func draw(c *Config) []sent {
	rng := rand.New(rand.NewPCG(c.Seed, 0x7477696e))
	var all []sent
	add := func(round int, profile string, after time.Duration) {
		values := int((leastKB + (mostKB-leastKB)*rng.Float64()) * 1e3 / valueBytes)
		all = append(all, sent{id: randomID(rng), profile: profile, round: round, values: values, after: after})
	}
	gap := (leastKB + mostKB) / 2 * 1e3 / c.Rate * c.Cloud / c.Load // mean s between two tasks
	for round := range c.Rounds {
		for range c.Probes {
			add(round, hereProfile, 0)
			add(round, cloudProfile, 0)
		}
		for range c.Tasks {
			add(round, bothProfile, time.Duration(gap*rng.ExpFloat64()*1e9))
		}
	}
	return all
}

func randomID(rng *rand.Rand) string {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(rng.Uint32()) // the low byte
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// publisher sends the tasks.
type publisher struct {
	stack  *stack.Stack
	broker *stack.Broker
	link   *link
	sent   int64

	patience time.Duration     // with tasks in flight
	passed   map[string]passed // by single task
}

// sendAll publishes every task at its time and waits until all are done. Each interval counts from the previous publish, so that a slow publish does
// not make the next tasks denser; before and after a single task nothing is in flight.
func (p *publisher) sendAll(ctx context.Context, tasks []sent, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x76616c756573))
	for i, t := range tasks {
		alone := t.profile != bothProfile
		if i > 0 && alone && tasks[i-1].profile == bothProfile {
			if err := p.settled(ctx); err != nil {
				return err
			}
		}
		seen := p.link.watch()
		if err := p.send(ctx, t, rng); err != nil {
			return err
		}
		if alone {
			if err := p.settled(ctx); err != nil {
				return err
			}
			p.passed[t.id] = seen()
		}
	}
	return p.settled(ctx)
}

func (p *publisher) send(ctx context.Context, t sent, rng *rand.Rand) error {
	payload, topic, err := event(t, rng)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.stack.Edge.Done():
		return errors.New("app-offload exited unexpectedly")
	case <-time.After(t.after):
	}
	if t.link != nil {
		if err := t.link(); err != nil {
			return fmt.Errorf("changing the link: %w", err)
		}
	}
	if err := p.broker.Publish("edgex/"+topic, payload); err != nil {
		return fmt.Errorf("publishing a task: %w", err)
	}
	p.sent++
	return nil
}

// event is the task as published by a device service: an array of incompressible numbers.
func event(t sent, rng *rand.Rand) (payload []byte, topic string, err error) {
	var values strings.Builder
	for i := range t.values {
		if i > 0 {
			values.WriteByte(',')
		}
		fmt.Fprintf(&values, "%.5e", rng.Float32())
	}
	origin, device := time.Now().UnixNano(), cmp.Or(t.device, "twin")
	e := feed.Event{
		APIVersion: "v3", ID: t.id, Device: device, Profile: t.profile, Source: "wave", Origin: origin,
		Readings: []feed.Reading{{
			ID: t.id, Origin: origin, Device: device, Resource: "wave", Profile: t.profile, Type: "Float32Array",
			Value: "[" + values.String() + "]",
		}},
	}
	request, err := e.Request()
	if err != nil {
		return nil, "", err
	}
	payload, err = feed.Envelope(request, "application/json", t.id)
	return payload, fmt.Sprintf("events/device/device-twin/%s/%s/wave", t.profile, device), err
}

// settled waits until every task is done locally or receipted.
func (p *publisher) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	for {
		st, err := p.stack.Status(ctx)
		if err == nil && int64(st.Events.Received) >= p.sent && st.Counts.InFlight+st.Counts.Spooled == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d tasks arrived, %d are still in flight after %v: the link is too slow for the load",
				st.Events.Received, p.sent, st.Counts.InFlight+st.Counts.Spooled, p.patience)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// wasParked reports whether a task with this decision had been parked.
func wasParked(r decision.Reason) bool {
	return r == decision.BoundLocal || r == decision.BoundCloud || r == decision.LongestWait
}

// readLog finds the tasks among the logged decisions.
func readLog(name string, tasks []sent, seen map[string]passed) ([]lived, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("reading the decision log: %w", err)
	}
	defer f.Close()
	byID := map[string]int{}
	for i, t := range tasks {
		byID[t.id] = i
	}
	var all []lived
	var first int64
	for r, err := range decision.ReadRecords(f) {
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		place, ours := byID[r.EventID]
		if !ours || !r.Outcome.Known || r.Outcome.Failed {
			continue
		}
		t, arrived := tasks[place], r.Time-int64(r.Waited)
		if first == 0 {
			first = arrived
		}
		one := lived{
			place: place, waited: r.Waited.Seconds(), parked: wasParked(r.Decision.Reason), down: !r.State.Link.Up, round: t.round, probe: t.profile != bothProfile, cloud: r.Decision.Target == decision.Cloud, at: time.Duration(arrived - first).Seconds(),
			bytes: float64(r.Size), took: r.Waited.Seconds() + r.Outcome.Time, joules: r.Outcome.Energy, deadline: r.Deadline.Seconds(),
		}
		if saw := seen[r.EventID]; one.cloud && saw.entered > 0 {
			one.wire, one.before = float64(saw.bytes), max(time.Duration(saw.entered-arrived).Seconds(), 0)
		}
		all = append(all, one)
	}
	if len(all) < len(tasks) {
		return nil, fmt.Errorf("%s returned %d tasks; %d were sent", name, len(all), len(tasks))
	}
	return all, nil
}
