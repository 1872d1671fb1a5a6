package functions

import (
	"fmt"
	"slices"

	"app-offload/functions/decision"
	"app-offload/functions/task"
	"app-offload/functions/track"
)

// Track is that of the job's task.
func (j *job) Track() track.Key { return trackOf(j.Task) }

func trackOf(t *task.Task) track.Key { return track.Key{Device: t.Device, Class: t.Class.Name} }

// Leaves reports whether the job's task is for the cloud.
func (j *job) Leaves() bool { return j.Decision.Target == decision.Cloud }

// Free reports whether it may be processed locally before an earlier task that is parked: its operators need no order.
func (j *job) Free() bool { return j.free }

// leaveTrack follows local work, and sends on what waited for it.
func (p *Pipeline) leaveTrack(j *job) { p.leaveTrackOf(j.Track()) }

func (p *Pipeline) leaveTrackOf(k track.Key) {
	if p.tracks.Leave(k) {
		p.afterwards(func() { p.moveOn(k) }) // it may have to wait for room
	}
}

// moveOn sends the held tasks of a track on their ways, as far as they go.
func (p *Pipeline) moveOn(k track.Key) {
	for {
		run := p.tracks.Next(k)
		if len(run) == 0 {
			return
		}
		state := working
		if run[0].Leaves() {
			state = sending
		}
		for _, j := range run {
			j.state = state
		}
		if state == sending {
			run, _ = p.store(run)
			p.tracks.Enter(run)
		}
		p.operate(run)
	}
}

// refuseTrack gives a task back, and those that are held behind it: they would pass it.
func (p *Pipeline) refuseTrack(j *job, err error) {
	k := j.Track()
	if j.event.run.again {
		p.tracks.Block(k, j.Task.EventID) // before the sender knows, as it may be sending
	}
	p.refuse(j, err)
	for _, held := range p.tracks.Empty(k) {
		p.dispatch(held, behind, errBehind)
	}
}

var errBehind = fmt.Errorf("%w: an earlier task of its device and class was", ErrRefused)

// Again is the Pipeline for a sender that offers again what was refused, in order and before anything new. Until it has done so, what
// comes after a refused task of a device and class is refused as well, also where the sender could not know yet.
type Again struct{ *Pipeline }

// Submit is that of the Pipeline.
func (p Again) Submit(events []*task.Event, done func(i int, err error)) {
	p.tracks.Unblock(func(id string) bool {
		return slices.ContainsFunc(events, func(ev *task.Event) bool { return ev.ID == id })
	})
	r := p.begin(events, done)
	r.again = true
	p.pass(r)
}
