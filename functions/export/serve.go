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

// round is the life of one connection, with the goroutines that feed and write it.
type round struct {
	x    *Exporter
	s    *mqtt.Session
	life uint64
	jobs chan job
	want chan struct{} // requests one batch from the feeder
	fed  chan fed
	wg   sync.WaitGroup

	flights chan flight // from the writer to the goroutine that awaits acknowledgements

	open     atomic.Int32 // messages written and not acknowledged, including those the window no longer has
	began    time.Time
	progress atomic.Int64 // ns since began: the latest acknowledgement, or the first message after all were acknowledged

	asked     bool
	probed    time.Time
	acked     bool // the broker acknowledged a message on this connection
	published bool // a message was published on this connection, possibly unacknowledged; owned by the writer
	dialing   bool
	again     bool        // a rotation was requested during a rotation
	next      chan dialed // the result of dialNext
	retry     time.Time   // when a failed rotation is retried
}

// fed is the feeder's answer.
type fed struct {
	batch *batch.Batch
	err   error
	epoch string // of the spool when the feeder began to take the batch
}

// serve works on one connection until it ends, and returns its successor, if any. Everything it started has ended when it returns.
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
		// The dial was cancelled; its session is not needed.
		if late := <-r.next; late.session != nil {
			late.session.End(mqtt.ErrStopped, disconnectGrace)
		}
	}
	return successor
}

// finish processes the end of the connection. Acknowledgements received until then count. replaced means that the broker may have ended it in favour
// of the successor.
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
		x.rival((r.acked || !r.published) && !r.s.Away(), time.Since(r.began), r.s.Cause())
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

// loop owns the window while the connection lives.
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
			lost = nil // the successor is being dialled, and the broker may have ended this connection for it
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

// finished reports, while closing, whether everything that can be confirmed is. While publishing pauses for lack of a key, batches that have not left
// cannot be.
func (x *Exporter) finished() bool {
	now := time.Now()
	return x.window.settled(now, now.Before(x.hold)) && (x.drained || x.window.silent() || len(x.window.entries) > 0)
}

// pump requests batches while there is room, and passes jobs to the writer.
func (r *round) pump() {
	x := r.x
	now := time.Now()
	x.exclude(now)
	if !r.asked && !x.drained && x.hasRoom(now) {
		r.asked = true
		x.window.regiven = nil
		x.tune()
		r.want <- struct{}{} // never blocks: at most one request is open
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

// hasRoom reports whether another batch may be taken. A link whose acknowledgements are later than predicted gets none until it acknowledges again,
// which bounds the memory of a broker that hangs.
func (x *Exporter) hasRoom(now time.Time) bool {
	w := &x.window
	unacked := w.unacked()
	return w.room(x.times.ahead.Room(x.link, unacked, now)) && !w.late(now, x.link.Takes(unacked))
}

// tune limits the size of batches to what the link, the broker and the consumer allow.
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

// exclude sets the classes that the scheduler withholds. The scheduler may be waiting already.
func (x *Exporter) exclude(now time.Time) {
	if now := x.window.excluded(now); !maps.Equal(now, x.excluded) {
		x.excluded = now
		x.deps.Batches.Exclude(now)
	}
}

// take adds the feeder's batch to the window.
func (r *round) take(f fed) {
	switch {
	case f.batch != nil && (f.epoch != r.x.deps.Spool.Epoch() || r.x.window.regiven[f.batch.Class]):
		// Its leases have ended, or earlier records of its class were returned meanwhile.
		r.x.deps.Spool.Release(appendSequences(nil, f.batch.Records))
	case f.batch != nil:
		r.x.window.add(f.batch)
	case errors.Is(f.err, batch.ErrDrained):
		r.x.drained = true
	}
}

// feed takes batches from the scheduler on request. A batch that arrives just after the connection ended is not lost: finish finds it in the channel.
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

// stuck reports whether messages are out and acknowledgements are overdue. The window does not see all such messages: a receipt removes a batch whose
// acknowledgement was lost.
func (r *round) stuck(now time.Time) bool { return r.open.Load() > 0 && !now.Before(r.patienceEnds()) }

func (r *round) patienceEnds() time.Time {
	return r.began.Add(time.Duration(r.progress.Load()) + r.x.window.ackPatience())
}

// pause returns how long loop may sleep.
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

// wake returns when tick must be called at the latest; zero means never.
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

// tick processes the passing of time.
func (r *round) tick(ctx context.Context, now time.Time) {
	x := r.x
	// Events that have arrived count before a connection is judged hung, however late this goroutine runs.
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

// probe measures the round trip with an empty message if no other message did recently.
func (r *round) probe(now time.Time) {
	p := r.x.times.probe
	if p <= 0 || r.x.link.Stale(now) < p || now.Sub(r.probed) < p {
		return
	}
	r.probed = now
	if len(r.jobs) == cap(r.jobs) {
		return // the connection is busy; the next probe may fit
	}
	r.jobs <- r.ping()
}

func (r *round) ping() job { return job{topic: seal.TopicRoot + r.x.deps.Node + "/ping"} }

// dialNext dials the successor of this connection with the current secrets.
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

// rotated processes the result of dialNext. It returns the successor, or nil if the old connection must continue.
func (r *round) rotated(ctx context.Context, d dialed) *mqtt.Session {
	r.dialing = false
	if r.again {
		r.x.Rotate() // the secrets changed while they were in use
	}
	if r.x.connected(ctx, d) == nil {
		r.retry = time.Now().Add(r.x.backoff.Next())
	}
	return d.session
}

// post passes an event to the owner of the window while the connection lives.
func (r *round) post(f func()) {
	select {
	case r.x.events <- f:
	case <-r.s.Lost():
	}
}
