// Package track keeps the order of each device and class where its tasks take different paths.
//
// A task may have to change its path: local work fails and the task goes to the cloud, or the spool is full and the task is processed
// locally. So a task for the cloud waits while earlier tasks of its track are processed locally, and every task waits behind one that
// waits. A track of which all tasks take one path never waits. Where parked tasks keep their order, a task that is not parked itself waits
// for those before it that are, unless it is free to be processed locally before them.
package track

import (
	"maps"
	"slices"
	"sync"
)

// Key names a track.
type Key struct{ Device, Class string }

// Item is a task on its track.
type Item interface {
	Track() Key
	Leaves() bool // it is for the cloud
	Free() bool   // it may be processed locally before an earlier task that is parked
}

// Tracks are all tracks with anything under way; its zero value has none. Their number is bounded by the gate, as a track is the work
// of an event under way, and by the pool of parked tasks. The methods are safe for concurrent use and do not block.
type Tracks[T Item] struct {
	mu      sync.Mutex
	all     map[Key]line[T]
	blocked map[Key]string // those of which a task was refused, and the id of its event, until its sender offers that again
}

// line is one track.
type line[T Item] struct {
	local  int  // tasks with the local workers
	held   []T  // in order
	moving bool // a goroutine takes them from the front
	parked int  // tasks that are parked, or bound and not on their way yet
	queued bool // they keep their order
}

// waits reports whether what is held waits for parked tasks.
func (on *line[T]) waits() bool { return on.parked > 0 && on.queued }

// Pass is what may become of a task on its track.
type Pass uint8

// What Admit answers.
const (
	Goes    Pass = iota // at once
	Waits               // until Next returns it
	Blocked             // a task before it was refused, and has not come again
)

// Admit lets a task onto its track.
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

// Block keeps a track for the event of its first refused task, whose sender has promised to offer it again.
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

// Unblock opens the tracks that wait for an event for which again holds.
func (t *Tracks[T]) Unblock(again func(event string) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.blocked, func(_ Key, event string) bool { return again(event) })
}

// Enter counts tasks that are to be processed locally after all.
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

// Leave counts a task off that the local workers are done with, and reports whether the caller must take from Next what waited for it.
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

// at is the track of that key. The lock is held.
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

// Next takes the tasks from the front that take one path, none where moving ends.
func (t *Tracks[T]) Next(k Key) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	n := 0
	for !on.waits() && n < len(on.held) && on.held[n].Leaves() == on.held[0].Leaves() {
		n++
	}
	if n > 0 && on.held[0].Leaves() && on.local > 0 {
		n = 0 // Leave brings it here again
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

// Ahead says of the tasks on a track whether one is parked, whether one waits, be it for its sender, and whether one is processed locally.
func (t *Tracks[T]) Ahead(k Key) (parked, waits, here bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	_, refused := t.blocked[k]
	return on.parked > 0, refused || on.moving || len(on.held) > 0, on.local > 0
}

// Hold holds a task that could not be parked before the first one for which later holds. Where it reports true, the caller must take from Next
// once it has called Unpark for each such task.
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

// Park counts a task that is parked. queued is whether those that come after it wait for it.
func (t *Tracks[T]) Park(k Key, queued bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.at(k)
	on.parked++
	on.queued = queued
	t.all[k] = on
}

// Unpark counts a parked task off that is on its way, and reports whether the caller must take from Next what waited for it.
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

// Empty takes all that is held.
func (t *Tracks[T]) Empty(k Key) []T {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	held := on.held
	on.held = nil
	t.put(k, on)
	return held
}
