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

// Sink takes events further. Submit may block, which holds back the source. done is called exactly once for each
// event, from any goroutine, also before Submit returns: with nil when every task of the event is done here or durable,
// with an error when the event was refused. The slice is the sink's from then on.
type Sink interface {
	Submit(events []*task.Event, done func(i int, err error))
}

// Orderer is a Sink that restores the order of each device before another one. The SDK's default trigger runs each
// message in a goroutine of its own, so events overtake each other by some milliseconds: each is held for the window,
// and when its time is up all of its device with an earlier origin go before it. An event later than that goes on as it
// comes and is counted. At most MaxEvents are held; beyond, Submit blocks.
type Orderer struct {
	next   Sink
	window time.Duration
	limit  int

	mu      sync.Mutex
	room    *sync.Cond // broadcast when fewer are held, or at the stop
	wake    chan struct{}
	stop    chan struct{}
	done    chan struct{}
	closed  bool
	waiting []*held // in order of arrival, and so of the time at which they are due
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

// deviceQueue holds the events of one device, the earliest on top, and remembers how far it has got.
type deviceQueue struct {
	events []*held
	last   int64 // origin of the latest event handed on
}

// NewOrderer starts the orderer. With a window of 0 it hands everything on at once, unordered.
func NewOrderer(cfg Config, next Sink) *Orderer {
	o := &Orderer{
		next: next, window: duration(cfg.ReorderWindow), limit: cfg.MaxEvents, devices: map[string]*deviceQueue{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	o.room = sync.NewCond(&o.mu)
	go o.run()
	return o
}

// Submit takes events, and blocks while MaxEvents are held. After Close it refuses with ErrClosed.
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

// run hands on what is due until the stop, and then everything.
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

// idle is how long to sleep while nothing is held.
const idle = time.Hour

// take removes what is due, in the order in which it goes on, or says how long there is to wait.
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

// maxIdleDevices is how many devices without events are remembered, for the count of late events.
const maxIdleDevices = 4096

// forget bounds the memory of devices. The lock is held.
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

// upTo removes the events that go before h, and h.
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

// Late is how many events came after a later one of their device had gone on already.
func (o *Orderer) Late() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.late
}

// Close takes no more, hands on all that is held, and waits for that as long as the context allows.
func (o *Orderer) Close(ctx context.Context) error {
	o.mu.Lock()
	if !o.closed {
		o.closed = true
		close(o.stop)
		o.room.Broadcast()
	}
	o.mu.Unlock()
	select {
	case <-o.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("handing on the events held for their order: %w", ctx.Err())
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
