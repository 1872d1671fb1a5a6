// Package track keeps the order of each device and class if its tasks take different paths.
//
// A task may have to change its path: local work fails and the task goes to the cloud, or the spool is full and the task is processed locally. So a
// task for the cloud waits while earlier tasks of its track are processed locally, and every task waits behind a waiting one. A track whose tasks all
// take one path never waits. If parked tasks keep their order, a task that is not parked waits for earlier parked ones, unless it may be processed
// locally before them.
package track

import (
	"maps"
	"slices"
	"sync"
)

// Key identifies a track.
type Key struct{ Device, Class string }

// Item is a task on its track.
type Item interface {
	Track() Key
	Leaves() bool // it is for the cloud
	Free() bool   // it may be processed locally before an earlier parked task
}

// Tracks holds all tracks with tasks in flight; its zero value is empty. The gate and the pool of parked tasks bound their number. The methods are
// safe for concurrent use and do not block.
type Tracks[T Item] struct {
	mu      sync.Mutex
	all     map[Key]line[T]
	blocked map[Key]string // tracks with a refused task, and the id of its event, until the sender retries it
}

// line is one track.
type line[T Item] struct {
	local  int  // tasks at the local workers
	held   []T  // in order
	moving bool // a goroutine takes them from the front
	parked int  // parked tasks, including bound ones not yet dispatched
	queued bool // parked tasks keep their order
}

// waits reports whether held tasks wait for parked ones.
func (on *line[T]) waits() bool { return on.parked > 0 && on.queued }

// Pass is the answer of Admit.
type Pass uint8

// The answers of Admit.
const (
	Goes    Pass = iota // immediately
	Waits               // until Next returns it
	Blocked             // an earlier task was refused and not retried yet
)

// Admit puts a task on its track.
func (t *Tracks[T]) Admit(item T) Pass {
	k := item.Track()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.blocked[k]; known {
		return Blocked
	}
	on, leaves := t.at(k), item.Leaves()
	if on.moving || len(on.held) > 0 || leaves && on.local > 0 || on.waits() && (leaves || !item.Free()) {
		on.held = append(on.held, item)
		t.all[k] = on
		return Waits
	}
	if !leaves {
		on.local++
		t.all[k] = on
	}
	return Goes
}

// Block blocks a track until the sender retries the event of its first refused task, as it has promised.
func (t *Tracks[T]) Block(k Key, event string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocked == nil {
		t.blocked = map[Key]string{}
	}
	if _, known := t.blocked[k]; !known {
		t.blocked[k] = event
	}
}

// Unblock opens the tracks blocked for an event for which again returns true.
func (t *Tracks[T]) Unblock(again func(event string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.blocked, func(_ Key, event string) bool { return again(event) })
}

// Enter counts tasks that are processed locally after all.
func (t *Tracks[T]) Enter(items []T) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, item := range items {
		k := item.Track()
		on := t.all[k]
		on.local++
		t.all[k] = on
	}
}

// Leave counts down a task that the local workers finished, and reports whether the caller must take the waiting tasks from Next.
func (t *Tracks[T]) Leave(k Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	on.local--
	move := !on.moving && on.local == 0 && len(on.held) > 0
	on.moving = on.moving || move
	t.put(k, on)
	return move
}

// at returns the track of a key. The caller holds the lock.
func (t *Tracks[T]) at(k Key) line[T] {
	if t.all == nil {
		t.all = map[Key]line[T]{}
	}
	return t.all[k]
}

func (t *Tracks[T]) put(k Key, on line[T]) {
	if on.local == 0 && on.parked == 0 && len(on.held) == 0 && !on.moving {
		delete(t.all, k)
		return
	}
	t.all[k] = on
}

// Next removes and returns the front tasks that share a path, or none when the move ends.
func (t *Tracks[T]) Next(k Key) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	n := 0
	for !on.waits() && n < len(on.held) && on.held[n].Leaves() == on.held[0].Leaves() {
		n++
	}
	if n > 0 && on.held[0].Leaves() && on.local > 0 {
		n = 0 // after Leave they are moved again
	}
	front := on.held[:n:n]
	on.held = on.held[n:]
	on.moving = n > 0
	if n > 0 && !front[0].Leaves() {
		on.local += n
	}
	t.put(k, on)
	return front
}

// Ahead reports about the tasks on a track: whether one is parked, whether one waits or was refused, and whether one is processed locally.
func (t *Tracks[T]) Ahead(k Key) (parked, waits, here bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	_, refused := t.blocked[k]
	return on.parked > 0, refused || on.moving || len(on.held) > 0, on.local > 0
}

// Hold holds a task that could not be parked before the first held task for which later returns true. If Hold returns true, the caller must take
// tasks from Next after it has called Unpark for each such task.
func (t *Tracks[T]) Hold(item T, later func(T) bool) bool {
	k := item.Track()
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.at(k)
	at := slices.IndexFunc(on.held, later)
	if at < 0 {
		at = len(on.held)
	}
	on.held = slices.Insert(on.held, at, item)
	move := !on.moving
	on.moving = true
	t.all[k] = on
	return move
}

// Park counts a parked task. queued means that later tasks wait for it.
func (t *Tracks[T]) Park(k Key, queued bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.at(k)
	on.parked++
	on.queued = queued
	t.all[k] = on
}

// Unpark counts down a parked task that was dispatched, and reports whether the caller must take the waiting tasks from Next.
func (t *Tracks[T]) Unpark(k Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	on.parked--
	move := !on.moving && !on.waits() && len(on.held) > 0
	on.moving = on.moving || move
	t.put(k, on)
	return move
}

// Empty removes and returns all held tasks.
func (t *Tracks[T]) Empty(k Key) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	held := on.held
	on.held = nil
	t.put(k, on)
	return held
}
