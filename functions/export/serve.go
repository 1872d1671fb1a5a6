package export

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/batch"
	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
)

// round is the life of one connection: the goroutines that feed and write it.
type round struct {
	x    *Exporter
	s    *mqtt.Session
	life uint64
	jobs chan job
	want chan struct{} // asks the feeder for one batch
	fed  chan fed
	wg   sync.WaitGroup

	flights chan flight // from the writer to the goroutine that awaits acknowledgements

	open     atomic.Int32 // messages written whose acknowledgement has not come, whatever the window knows of them
	began    time.Time
	progress atomic.Int64 // ns since began: the latest acknowledgement, or the first message since all had come

	asked     bool
	probed    time.Time
	acked     bool // the broker acknowledged something in this life
	published bool // something was published in this life, and perhaps not acknowledged; of the goroutine that writes
	dialing   bool
	again     bool        // a rotation was asked for while one was under way
	next      chan dialed // the successor of a rotation
	retry     time.Time   // when a failed rotation is tried again
}

// fed is the feeder's answer.
type fed struct {
	batch *batch.Batch
	err   error
	epoch string // of the spool when the feeder began to take it
}

// serve works on one connection until it ends, and returns the successor if there is one. It has ended all that it
// started when it returns.
func (x *Exporter) serve(ctx context.Context, s *mqtt.Session) (successor *mqtt.Session) {
	inner, cancel := context.WithCancel(ctx)
	r := &round{
		x: x, s: s, life: x.link.Open(), probed: time.Now(), began: time.Now(),
		jobs: make(chan job, x.cfg.MaxInflight+8), want: make(chan struct{}, 1), fed: make(chan fed, 1),
		next: make(chan dialed, 1), flights: make(chan flight),
	}
	x.window.connected(s.Remembered)
	x.deps.Spool.Flows(true)
	x.stats.do(func(st *Stats) { st.Connected, st.Problem = true, "" })
	x.flow++
	r.wg.Go(func() { r.feed(inner) })
	r.wg.Go(r.write)
	r.wg.Go(r.await)
	successor = r.loop(inner)
	cancel()
	grace := disconnectGrace
	if !r.s.Alive() {
		grace = 0 // the connection is gone
	}
	s.End(mqtt.ErrStopped, grace)
	r.finish(successor != nil || r.dialing)
	if successor == nil && r.dialing {
		// The dial was told to stop; what it still brings is not wanted.
		if late := <-r.next; late.session != nil {
			late.session.End(mqtt.ErrStopped, disconnectGrace)
		}
	}
	return successor
}

// finish books the end of the connection. What the broker has acknowledged until then counts. replaced says that the
// broker may have ended it in favour of the successor.
func (r *round) finish(replaced bool) {
	x := r.x
	r.wg.Wait()
	for len(x.events) > 0 {
		(<-x.events)()
	}
	select {
	case f := <-r.fed:
		r.take(f)
	default:
	}
	hung := errors.Is(r.s.Cause(), errHung)
	if hung {
		x.window.hung()
		x.link.Stalled()
	}
	closed := mqtt.ClosedByPeer(r.s.Cause()) && !replaced
	if closed && !x.window.suspected() {
		x.rival(r.acked || !r.published, time.Since(r.began), r.s.Cause())
	}
	x.window.lostConnection(closed, time.Now())
	x.link.Close()
	x.deps.Spool.Flows(false)
	x.setAside()
	if r.acked || time.Since(r.probed) > x.times.backoffMax {
		x.backoff.Reset()
	}
	x.gone = time.Now()
	x.stats.do(func(st *Stats) { st.Connected = false })
	if !errors.Is(r.s.Cause(), mqtt.ErrStopped) && !replaced {
		err := fmt.Errorf("connection to %s lost: %w", x.cfg.Broker, r.s.Cause())
		x.stats.do(func(st *Stats) { st.Problem = err.Error() })
		x.complain("connection", err)
	}
	x.report()
}

// loop is the owner of the window while the connection lives.
func (r *round) loop(ctx context.Context) *mqtt.Session {
	x := r.x
	closing := x.closing
	timer := time.NewTimer(0)
	for {
		if closing == nil && x.finished() {
			return nil
		}
		r.pump()
		timer.Reset(r.pause(time.Now()))
		lost := r.s.Lost()
		if r.dialing {
			lost = nil // the successor is on its way, and the broker may have ended this one for it
		}
		select {
		case f := <-x.events:
			f()
		case f := <-r.fed:
			r.asked = false
			r.take(f)
		case <-timer.C:
			r.tick(ctx, time.Now())
		case <-x.rotate:
			r.dialNext(ctx)
		case d := <-r.next:
			if s := r.rotated(ctx, d); s != nil {
				return s
			}
		case <-closing:
			closing = nil
			x.deps.Batches.Drain()
		case <-lost:
			return nil
		case <-ctx.Done():
			return nil
		}
		x.setAside()
		x.report()
	}
}

// finished reports, while closing, whether all that can be confirmed is.
func (x *Exporter) finished() bool {
	now := time.Now()
	return x.window.settled(now) && (x.drained || x.window.silent() || len(x.window.entries) > 0)
}

// pump asks for batches while there is room, and hands over what is to be published.
func (r *round) pump() {
	x := r.x
	now := time.Now()
	x.exclude(now)
	if !r.asked && !x.drained && x.hasRoom(now) {
		r.asked = true
		x.window.regiven = nil
		x.tune()
		r.want <- struct{}{} // never blocks: one question at a time
	}
	if now.Before(x.hold) {
		return
	}
	for len(x.statements) > 0 && len(r.jobs) < cap(r.jobs) {
		r.jobs <- x.statements[0]
		x.statements = x.statements[1:]
	}
	for len(x.letters) > 0 && len(r.jobs) < cap(r.jobs) {
		r.jobs <- x.letters[0]
		x.letters = x.letters[1:]
	}
	if len(x.confirming) > 0 && len(r.jobs) < cap(r.jobs) {
		r.confirm(now)
	}
	for len(r.jobs) < cap(r.jobs) && int(r.open.Load())+len(r.jobs) < cap(r.jobs) {
		e := x.window.next(now)
		if e == nil {
			if x.window.probe() {
				r.jobs <- r.ping()
			}
			return
		}
		r.jobs <- x.job(e, x.window.publish(e, now))
	}
}

// hasRoom reports whether another batch may be taken. A link that is later with its acknowledgements than it promised gets
// none until it shows life: what it already has is all that a broker that hangs keeps in memory.
func (x *Exporter) hasRoom(now time.Time) bool {
	w := &x.window
	unacked := w.unacked()
	return w.room(x.times.ahead.Room(x.link, unacked, now)) && !w.late(now, x.link.Takes(unacked))
}

// tune keeps batches to what link and broker carry.
func (x *Exporter) tune() {
	limit := x.times.ahead.Limit(x.link)
	if x.window.ceiling > 0 {
		limit = min(limit, x.window.ceiling)
	}
	if most := x.consumer.MaxMessage; most > 0 {
		limit = min(limit, x.link.Records(most))
	}
	x.deps.Batches.SetLimit(limit)
}

// exclude keeps the scheduler to the classes that may go on. It may be waiting already.
func (x *Exporter) exclude(now time.Time) {
	if now := x.window.excluded(now); !maps.Equal(now, x.excluded) {
		x.excluded = now
		x.deps.Batches.Exclude(now)
	}
}

// take puts what the feeder brought into the window.
func (r *round) take(f fed) {
	switch {
	case f.batch != nil && (f.epoch != r.x.deps.Spool.Epoch() || r.x.window.regiven[f.batch.Class]):
		// Its leases have ended, or records of its class that come before it have been given back meanwhile.
		r.x.deps.Spool.Release(appendSequences(nil, f.batch.Records))
	case f.batch != nil:
		r.x.window.add(f.batch)
	case errors.Is(f.err, batch.ErrDrained):
		r.x.drained = true
	}
}

// feed asks the scheduler when told to. A batch that comes when the connection has just ended is not lost: finish
// finds it in the channel.
func (r *round) feed(ctx context.Context) {
	for {
		select {
		case <-r.want:
			epoch := r.x.deps.Spool.Epoch()
			b, err := r.x.deps.Batches.Next(ctx)
			r.fed <- fed{b, err, epoch}
		case <-ctx.Done():
			return
		}
	}
}

// stuck reports whether acknowledgements stay away although messages are out. The window does not see all of these: a
// receipt ends a batch whose acknowledgement was lost.
func (r *round) stuck(now time.Time) bool { return r.open.Load() > 0 && !now.Before(r.patienceEnds()) }

func (r *round) patienceEnds() time.Time {
	return r.began.Add(time.Duration(r.progress.Load()) + r.x.window.ackPatience())
}

// pause is how long loop may sleep.
func (r *round) pause(now time.Time) time.Duration {
	d := time.Minute
	if !r.s.Alive() {
		return d
	}
	until := func(t time.Time) {
		if !t.IsZero() {
			d = min(d, max(0, t.Sub(now)))
		}
	}
	until(r.x.window.wake())
	if r.open.Load() > 0 {
		until(r.patienceEnds())
	}
	until(r.retry)
	if now.Before(r.x.hold) {
		until(r.x.hold)
	}
	if room := r.x.times.ahead.Until(r.x.link, now); room > 0 && !r.asked {
		d = min(d, room) // for the next batch, see hasRoom
	}
	if p := r.x.times.probe; p > 0 {
		d = min(d, max(p-now.Sub(r.probed), p-r.x.link.Stale(now), 0))
	}
	return d
}

// wake is when tick has to be called at the latest; zero is never.
func (w *window) wake() time.Time {
	var t time.Time
	earlier := func(u time.Time) {
		if t.IsZero() || u.Before(t) {
			t = u
		}
	}
	if w.flying() {
		earlier(w.progress.Add(w.ackPatience()))
	}
	if !w.firstAck.IsZero() && !w.warned {
		earlier(w.firstAck.Add(w.receiptTimeout))
	}
	for _, e := range w.entries {
		if e.phase == acked {
			earlier(e.resendAt)
		}
	}
	if !w.repeat.asked.IsZero() {
		earlier(w.repeat.due)
	}
	if !w.handover.IsZero() {
		earlier(w.handover)
	}
	if trial := w.wakeTrial(); !trial.IsZero() {
		earlier(trial)
	}
	return t
}

// tick books the time that went by.
func (r *round) tick(ctx context.Context, now time.Time) {
	x := r.x
	// What has already come counts before anyone is called hung, however late this goroutine had its turn.
	for n := len(x.events); n > 0; n-- {
		(<-x.events)()
	}
	x.rivalry(now.Sub(r.began))
	v := x.window.tick(now)
	if v.hung || r.stuck(now) {
		x.stats.failed("ack_timeout")
		r.s.Fail(errHung)
		return
	}
	if v.silent {
		x.stats.failed("receipts_silent")
		x.deps.Log.Warnf("no receipts: detail=%q", x.silence())
	}
	if v.anew || (!r.retry.IsZero() && !now.Before(r.retry)) {
		r.dialNext(ctx)
	}
	r.probe(now)
}

// probe measures the round trip with an empty message when nothing else has lately.
func (r *round) probe(now time.Time) {
	p := r.x.times.probe
	if p <= 0 || r.x.link.Stale(now) < p || now.Sub(r.probed) < p {
		return
	}
	r.probed = now
	if len(r.jobs) == cap(r.jobs) {
		return // busy enough; the next one may fit
	}
	r.jobs <- r.ping()
}

func (r *round) ping() job { return job{topic: seal.TopicRoot + r.x.deps.Node + "/ping"} }

// dialNext makes the successor of this connection with the secrets as they are now.
func (r *round) dialNext(ctx context.Context) {
	if r.dialing {
		r.again = true
		return
	}
	r.dialing, r.again, r.retry = true, false, time.Time{}
	r.wg.Go(func() {
		s, trip, err := r.x.dialer.dial(ctx)
		r.next <- dialed{s, trip, err}
	})
}

// rotated books the end of dialNext and returns the successor, nil when the old connection has to do for now.
func (r *round) rotated(ctx context.Context, d dialed) *mqtt.Session {
	r.dialing = false
	if r.again {
		r.x.Rotate() // the secrets changed while they were being used
	}
	if r.x.connected(ctx, d) == nil {
		r.retry = time.Now().Add(r.x.backoff.Next())
	}
	return d.session
}

// post hands an event to the owner of the window, as long as the connection lives.
func (r *round) post(f func()) {
	select {
	case r.x.events <- f:
	case <-r.s.Lost():
	}
}
