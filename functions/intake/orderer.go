package intake

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"app-offload/functions/task"
)

// Sink receives events. Submit may block, which holds back the source. done is called exactly once for each event, from any goroutine, possibly
// before Submit returns: with nil when every task of the event is done locally or durable, with an error when the event was refused. The sink owns
// the slice.
type Sink interface {
	Submit(events []*task.Event, done func(i int, err error))
}

// Orderer is a Sink that restores the order of each device's events before another sink. The SDK's default trigger handles each message in its own
// goroutine, so events overtake each other by some milliseconds. The Orderer holds each event for the window; when its time is up, all events of its
// device with an earlier origin are released before it. An event later than that is passed on as it arrives, and counted. At most MaxEvents are held;
// beyond, Submit blocks.
type Orderer struct {
	next   Sink
	window time.Duration
	limit  int

	mu      sync.Mutex
	room    *sync.Cond // broadcast when fewer are held
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}
	closed  bool
	waiting []*held // in order of arrival, and so of due time
	devices map[string]*deviceQueue
	arrived uint64
	late    uint64
}

// held is one event in the orderer.
type held struct {
	event    *task.Event
	arrival  uint64
	due      time.Time
	done     func(error)
	released bool
}

// deviceQueue holds the events of one device, the earliest on top, and its progress.
type deviceQueue struct {
	events []*held
	last   int64 // origin of the latest released event
}

// NewOrderer starts the orderer. With a window of 0 it passes everything on immediately, unordered.
func NewOrderer(cfg Config, next Sink) *Orderer {
	o := &Orderer{
		next: next, window: duration(cfg.ReorderWindow), limit: cfg.MaxEvents, devices: map[string]*deviceQueue{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	o.room = sync.NewCond(&o.mu)
	go o.run()
	return o
}

// Submit accepts events, and blocks while MaxEvents are held. After Close it refuses them with ErrClosed.
func (o *Orderer) Submit(events []*task.Event, done func(i int, err error)) {
	if o.window == 0 {
		o.next.Submit(events, done)
		return
	}
	for i, ev := range events {
		if !o.hold(ev, func(err error) { done(i, err) }) {
			done(i, ErrClosed)
		}
	}
}

func (o *Orderer) hold(ev *task.Event, done func(error)) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.waiting) >= o.limit && !o.closed {
		o.room.Wait()
	}
	if o.closed {
		return false
	}
	o.arrived++
	h := &held{event: ev, arrival: o.arrived, due: time.Now().Add(o.window), done: done}
	o.waiting = append(o.waiting, h)
	d := o.devices[ev.Device]
	if d == nil {
		d = &deviceQueue{}
		o.devices[ev.Device] = d
	}
	if ev.Origin < d.last {
		o.late++
	}
	heap.Push(d, h)
	if len(o.waiting) == 1 {
		o.nudge()
	}
	return true
}

func (o *Orderer) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run releases due events until the stop, and then all events.
func (o *Orderer) run() {
	defer close(o.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		ready, wait := o.take(time.Now())
		if len(ready) > 0 {
			o.release(ready)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-o.wake:
		case <-o.stop:
			if wait == idle {
				return
			}
		}
	}
}

// idle is the time to sleep while nothing is held.
const idle = time.Hour

// take removes and returns the due events in the order of their release, or returns the time to wait.
func (o *Orderer) take(now time.Time) (ready []*held, wait time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, h := range o.waiting {
		if !h.released && !o.closed && h.due.After(now) {
			break
		}
		n++
		if !h.released {
			ready = o.devices[h.event.Device].upTo(h, ready)
		}
	}
	o.waiting = slices.Delete(o.waiting, 0, n)
	if n > 0 {
		o.forget()
		o.room.Broadcast()
	}
	if len(o.waiting) == 0 {
		return ready, idle
	}
	return ready, o.waiting[0].due.Sub(now)
}

// maxIdleDevices is the maximum number of devices without events that are remembered, for the count of late events.
const maxIdleDevices = 4096

// forget bounds the number of devices. The lock is held.
func (o *Orderer) forget() {
	if len(o.devices) <= maxIdleDevices {
		return
	}
	for name, d := range o.devices {
		if len(d.events) == 0 {
			delete(o.devices, name)
		}
	}
}

// upTo removes h and the events to release before it.
func (d *deviceQueue) upTo(h *held, ready []*held) []*held {
	for !h.released {
		first := heap.Pop(d).(*held)
		first.released = true
		d.last = max(d.last, first.event.Origin)
		ready = append(ready, first)
	}
	return ready
}

func (o *Orderer) release(ready []*held) {
	events := make([]*task.Event, len(ready))
	for i, h := range ready {
		events[i] = h.event
	}
	o.next.Submit(events, func(i int, err error) { ready[i].done(err) })
}

// Late returns the number of events that arrived after a later one of their device was released.
func (o *Orderer) Late() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.late
}

// Close accepts no more events, releases all that are held, and waits for that until the context ends.
func (o *Orderer) Close(ctx context.Context) error {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.stop) // run then releases all, and so makes room
	}
	o.mu.Unlock()
	select {
	case <-o.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("releasing the events held for their order: %w", ctx.Err())
	}
}

// The heap of a device is ordered by origin, then by arrival.

func (d *deviceQueue) Len() int      { return len(d.events) }
func (d *deviceQueue) Swap(i, j int) { d.events[i], d.events[j] = d.events[j], d.events[i] }
func (d *deviceQueue) Push(x any)    { d.events = append(d.events, x.(*held)) }

func (d *deviceQueue) Less(i, j int) bool {
	a, b := d.events[i], d.events[j]
	return cmp.Or(cmp.Compare(a.event.Origin, b.event.Origin), cmp.Compare(a.arrival, b.arrival)) < 0
}

func (d *deviceQueue) Pop() any {
	last := len(d.events) - 1
	h := d.events[last]
	d.events[last] = nil
	d.events = d.events[:last]
	return h
}
