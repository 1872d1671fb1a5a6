package sim

import (
	"math"

	"app-offload/functions/batch"
	"app-offload/functions/export"
	"app-offload/functions/host"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// outbox simulates the part of the service between a decision for the cloud and the link: its own batch scheduler on the clock of the episode, and
// the exporter's rule for taking a batch. Records wait for a larger batch and for room on the link, and all records of a message arrive at its end.
type outbox struct {
	env     *Env
	batches *batch.Scheduler
	waiting []posted // in order of arrival
	leased  []posted // records of the batch being taken
	asked   bool     // a batch was requested; the exporter requests one at a time
	wake    float64  // s, time of the next check unless an acknowledgement comes first
	trails  []trail  // of sent records, in order of time
}

// trail is a message that the gateway sends when a record has been received.
type trail struct{ at, bytes float64 }

// posted is a record to be sent.
type posted struct {
	job  int
	then func(Info)
}

const fillsAhead = export.Ahead(linkAhead)

// openOutbox begins an episode with an empty outbox.
func (e *Env) openOutbox(c *batch.Config) (err error) {
	e.outbox = &outbox{env: e, wake: math.Inf(1)}
	e.outbox.batches, err = batch.New(*c, e.outbox, e)
	return err
}

// All returns the classes of the world.
func (e *Env) All() []*task.Class { return e.classes }

// add adds job i at a time.
func (o *outbox) add(i int, now float64, then func(Info)) {
	o.waiting, o.wake = append(o.waiting, posted{i, then}), now
}

// hasten makes waiting records ready to send, as the service does after binding parked tasks.
func (o *outbox) hasten(now float64) {
	o.batches.Hasten()
	o.wake = now
}

// until advances to time t.
func (o *outbox) until(t float64) {
	for {
		next, trails := o.wake, len(o.trails) > 0
		if w := &o.env.watch; len(w.flying) > 0 {
			next = min(next, w.flying[0].acked)
		}
		if trails = trails && o.trails[0].at <= next; trails {
			next = o.trails[0].at
		}
		if next > t || math.IsInf(next, 1) {
			return
		}
		o.env.watch.note(o.env.episode, next)
		if trails {
			o.hand(next, 0, o.trails[0].bytes, o.env.episode.RTT(next))
			o.trails = o.trails[1:]
		}
		o.send(next)
	}
}

// send hands messages to the link as long as it has room.
func (o *outbox) send(now float64) {
	w := &o.env.watch
	o.wake = math.Inf(1)
	for _, s := range w.down {
		if within([]span{s}, now) {
			o.wake = s.to
			return
		}
	}
	for {
		at := timeOf(now)
		if leaving, most := fillsAhead.Room(w.meter, w.unacked(), at); !o.asked && leaving > 0 && leaving >= most {
			if until := fillsAhead.Until(w.meter, at); until > 0 {
				o.wake = now + until.Seconds()
			}
			return
		}
		if !o.asked {
			o.asked = true
			o.batches.SetLimit(fillsAhead.Limit(w.meter))
		}
		b, wait, _ := o.batches.At(at)
		if b == nil {
			if wait >= 0 {
				o.wake = now + max(wait.Seconds(), 1e-6)
			}
			return
		}
		o.asked = false
		o.leave(b, now)
	}
}

// leave hands one message to the link.
func (o *outbox) leave(b *batch.Batch, now float64) {
	ep := o.env.episode
	header, message := ep.Config.HeaderBytes/float64(len(o.leased)), ep.Config.HeaderBytes
	for _, p := range o.leased {
		message += ep.Jobs[p.job].Bytes
	}
	sent := o.hand(now, float64(b.Bytes), message, ep.Jobs[o.leased[0].job].RTT)
	if bytes := ep.Config.TrailBytes * float64(len(o.leased)); bytes > 0 {
		o.trails = append(o.trails, trail{sent + ep.Away(o.leased[0].job), bytes})
	}
	for _, p := range o.leased {
		j := &ep.Jobs[p.job]
		info := Info{Job: p.job, Cloud: true, Took: sent - j.At + ep.Away(p.job), Joules: ep.Joules(p.job, true), Bytes: j.Bytes + header}
		ep.settle(&info)
		p.then(info)
	}
}

// hand puts bytes on the link and returns the time at which they are sent.
func (o *outbox) hand(now, records, bytes, rtt float64) (sent float64) {
	rate, servers := &o.env.episode.Link, &o.env.servers
	servers.Link = max(servers.Link, rate.Done(now)) + bytes
	sent = rate.When(servers.Link)
	o.env.watch.sent(now, sent+rtt, records, bytes)
	return sent
}

// state adds the waiting records.
func (o *outbox) state(l *host.Link) {
	l.BacklogTasks, l.BacklogBytes = int64(len(o.waiting)), 0
	for _, p := range o.waiting {
		l.BacklogBytes += o.size(p)
	}
}

func (o *outbox) size(p posted) int64 { return int64(o.env.episode.Jobs[p.job].size()) }

func (o *outbox) class(p posted) *task.Class { return o.env.classes[o.env.episode.Jobs[p.job].Kind] }

// Queues returns the queues for the scheduler. None of them is a backlog.
func (o *outbox) Queues(dst []spool.Queue) []spool.Queue {
	for _, class := range o.env.classes {
		q := spool.Queue{Lane: class.Priority, Class: class.Name}
		for _, p := range o.waiting {
			if o.class(p) == class {
				q.Live++
				q.LiveBytes += o.size(p)
			}
		}
		if q.Live > 0 {
			dst = append(dst, q)
		}
	}
	return dst
}

// Take works as in the spool.
func (o *outbox) Take(_ int, class string, _ spool.Source, most, bytes int, dst []spool.Record) []spool.Record {
	o.leased = o.leased[:0]
	kept := o.waiting[:0]
	full := false
	for _, p := range o.waiting {
		size := int(o.size(p))
		mine := o.class(p).Name == class
		if full = full || mine && len(dst) > 0 && (size > bytes || len(dst) == most); full || !mine {
			kept = append(kept, p)
			continue
		}
		bytes -= size
		o.leased = append(o.leased, p)
		dst = append(dst, spool.Record{Seq: uint64(p.job), Class: class, Payload: o.env.data[:size]}) //nolint:gosec // not negative
	}
	o.waiting = kept
	return dst
}

// TakeNewest is never called.
func (*outbox) TakeNewest(int, string, int, int, []spool.Record) []spool.Record { return nil }

// Wait is unused, since nothing blocks.
func (*outbox) Wait() <-chan struct{} { return nil }
