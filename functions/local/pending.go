package local

import (
	"fmt"
	"time"
)

// pending holds results of windows until the bus takes them, oldest first.
type pending struct {
	results []Result
	since   int64 // when the next attempt is due
}

// patience is the pause between attempts to publish what is pending.
const patience = int64(time.Second)

// drop forgets the oldest n.
func (q *pending) drop(n int) {
	rest := copy(q.results, q.results[n:])
	clear(q.results[rest:])
	q.results = q.results[:rest]
}

// due is when to try again, 0 for never.
func (q *pending) due() int64 {
	if len(q.results) == 0 {
		return 0
	}
	return q.since
}

// hold publishes a window's result, after those that wait already so that their order holds. What the bus does not
// take waits; beyond the configured number the oldest is dropped.
func (w *worker) hold(r Result) {
	q := &w.pending
	if len(q.results) == 0 {
		if w.try(r) == nil {
			return
		}
		q.since = w.p.now() + patience
	}
	q.results = append(q.results, r)
	w.p.counts.pending.Add(1)
	if n := len(q.results) - w.rules.limits.pending; n > 0 {
		q.drop(n)
		w.p.counts.pending.Add(int64(-n))
		w.p.counts.dropped.add(dropFull, n)
	}
}

// retry publishes pending results until one fails again.
func (w *worker) retry(now int64) {
	q := &w.pending
	sent := 0
	for sent < len(q.results) && !w.p.aborted() && w.try(q.results[sent]) == nil {
		sent++
	}
	q.drop(sent)
	w.p.counts.pending.Add(int64(-sent))
	q.since = now + patience
}

// publish tries, and tries again after a pause while the bus seemed well before: a bus that is gone costs this
// patience once, and not once a result.
func (w *worker) publish(r Result) error {
	well := w.well
	err := w.try(r)
	for n := 0; err != nil && well && n < w.rules.limits.retries && w.pause(); n++ {
		err = w.try(r)
	}
	if err != nil {
		w.p.counts.dropped.add(dropPublish, 1)
		return &PublishError{Device: r.Device, Source: r.Source, Err: err}
	}
	return nil
}

// pause waits before a retry and reports false when the processor is to stop at once.
func (w *worker) pause() bool {
	began := time.Now()
	defer func() { w.published += time.Since(began) }()
	timer := time.NewTimer(w.rules.limits.wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-w.p.abort:
		return false
	}
}

// try publishes once. A publisher that panics has failed.
func (w *worker) try(r Result) (err error) {
	began := time.Now()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the publisher panicked: %v", v)
		}
		w.published += time.Since(began)
		w.well = err == nil
		if err == nil {
			w.p.counts.results.add(r.Operator, 1)
		}
	}()
	return w.p.pub.Publish(r)
}
