package functions

import (
	"fmt"
	"maps"
	"sync"

	"app-offload/functions/decision"
	"app-offload/functions/task"
)

// tracks keep the order of each device and class where its tasks take different paths. A task may have to change its path: local work
// fails and the task goes to the cloud, or the spool is full and the task is processed here. So a task for the cloud waits while earlier
// tasks of its track are processed here, and every task waits behind one that waits. A track of which all tasks take one path never
// waits.
//
// The gate bounds the tracks, as each is the work of an event under way. The methods are safe for concurrent use and do not block.
type tracks struct {
	mu      sync.Mutex
	all     map[trackKey]track  // those with anything under way
	blocked map[trackKey]string // those of which a task was refused, and the id of its event, until its sender offers that again
}

type trackKey struct{ device, class string }

type track struct {
	here   int    // tasks with the local workers
	held   []*job // in order
	moving bool   // a goroutine takes them from the front
}

func (j *job) track() trackKey { return trackKey{j.Task.Device, j.Task.Class.Name} }

// pass is what may become of a task on its track.
type pass uint8

const (
	goes    pass = iota // at once
	waits               // until moveOn sends it on
	blocked             // a task before it was refused, and has not come again
)

// admit lets a task onto its track.
func (t *tracks) admit(j *job) pass {
	k := j.track()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.blocked[k]; known {
		return blocked
	}
	if t.all == nil {
		t.all = map[trackKey]track{}
	}
	on, leaves := t.all[k], j.Decision.Target == decision.Cloud
	if on.moving || len(on.held) > 0 || leaves && on.here > 0 {
		on.held = append(on.held, j)
		t.all[k] = on
		return waits
	}
	if !leaves {
		on.here++
		t.all[k] = on
	}
	return goes
}

// block keeps a track for the event of its first refused task, if the sender has promised to offer that again.
func (t *tracks) block(j *job) {
	if !j.event.run.again {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.blocked == nil {
		t.blocked = map[trackKey]string{}
	}
	if _, known := t.blocked[j.track()]; !known {
		t.blocked[j.track()] = j.Task.EventID
	}
}

// unblock opens the tracks that wait for one of the events.
func (t *tracks) unblock(events []*task.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.blocked) == 0 {
		return
	}
	for _, ev := range events {
		maps.DeleteFunc(t.blocked, func(_ trackKey, id string) bool { return id == ev.ID })
	}
}

// enter counts tasks that are to be processed here after all.
func (t *tracks) enter(jobs []*job) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, j := range jobs {
		on := t.all[j.track()]
		on.here++
		t.all[j.track()] = on
	}
}

// leave counts a task off that the local workers are done with, and reports whether the caller must have moveOn called.
func (t *tracks) leave(k trackKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	on.here--
	move := !on.moving && on.here == 0 && len(on.held) > 0
	on.moving = on.moving || move
	t.put(k, on)
	return move
}

func (t *tracks) put(k trackKey, on track) {
	if on.here == 0 && len(on.held) == 0 && !on.moving {
		delete(t.all, k)
		return
	}
	t.all[k] = on
}

// next takes the tasks from the front that go one way, none where moving ends.
func (t *tracks) next(k trackKey) []*job {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	n := 0
	for n < len(on.held) && on.held[n].Decision.Target == on.held[0].Decision.Target {
		n++
	}
	if n > 0 && on.held[0].Decision.Target == decision.Cloud && on.here > 0 {
		n = 0 // leave brings it here again
	}
	run := on.held[:n:n]
	on.held = on.held[n:]
	on.moving = n > 0
	for _, j := range run {
		if j.state = sending; j.Decision.Target == decision.Local {
			j.state = working
			on.here++
		}
	}
	t.put(k, on)
	return run
}

// empty takes all that is held.
func (t *tracks) empty(k trackKey) []*job {
	t.mu.Lock()
	defer t.mu.Unlock()
	on := t.all[k]
	held := on.held
	on.held = nil
	t.put(k, on)
	return held
}

// leaveTrack follows local work, and sends on what waited for it.
func (p *Pipeline) leaveTrack(j *job) { p.leaveTrackOf(j.track()) }

func (p *Pipeline) leaveTrackOf(k trackKey) {
	if p.tracks.leave(k) {
		p.afterwards(func() { p.moveOn(k) }) // it may have to wait for room
	}
}

// moveOn sends the held tasks of a track on their ways, as far as they go.
func (p *Pipeline) moveOn(k trackKey) {
	for {
		run := p.tracks.next(k)
		if len(run) == 0 {
			return
		}
		if run[0].state == sending {
			run, _ = p.store(run)
			p.tracks.enter(run)
		}
		p.operate(run)
	}
}

// refuseTrack gives a task back, and those that are held behind it: they would pass it.
func (p *Pipeline) refuseTrack(j *job, err error) {
	k := j.track()
	p.tracks.block(j) // before the sender knows, as it may be sending
	p.refuse(j, err)
	for _, held := range p.tracks.empty(k) {
		p.dispatch(held, behind, errBehind)
	}
}

var errBehind = fmt.Errorf("%w: an earlier task of its device and class was", ErrRefused)

// Again is the Pipeline for a sender that offers again what was refused, in order and before anything new. Until it has done so, what
// comes after a refused task of a device and class is refused as well, also where the sender could not know yet.
type Again struct{ *Pipeline }

// Submit is that of the Pipeline.
func (p Again) Submit(events []*task.Event, done func(i int, err error)) {
	p.tracks.unblock(events)
	r := p.begin(events, done)
	r.again = true
	p.pass(r)
}
