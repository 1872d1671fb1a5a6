package mqtt

import "time"

// deliverer hands messages on, in batches and one batch at a time, on a goroutine of its own that begins with the first batch. All methods but
// run belong to the goroutine that reads.
type deliverer struct {
	receive      func([]Message) // must not keep the slice
	batch, spare []Message       // spare has the memory of the batch before
	work         chan []Message  // nil before the first batch
	idle         chan struct{}   // has a token while receive does not run
	ended        chan struct{}
	waits        time.Time // since when receive has still run each time it was waited for; zero if it did not the latest time
	rested       bool      // rests waited, so that flush finds it done
}

// maxBatch is how many messages are handed on together at most.
const maxBatch = 64

func (d *deliverer) full() bool { return len(d.batch) == maxBatch }

// flush hands on what was added. It reports false if receive did not return in time.
func (d *deliverer) flush(within time.Duration) bool {
	if len(d.batch) == 0 {
		return true
	}
	if d.work == nil {
		d.work, d.idle, d.ended = make(chan []Message, 1), make(chan struct{}, 1), make(chan struct{})
		d.idle <- struct{}{}
		go d.run()
	}
	if !d.take(within) {
		return false
	}
	d.rested = false
	d.work <- d.batch
	d.batch, d.spare = d.spare[:0], d.batch
	return true
}

// rests waits until receive does not run, and reports whether that was so in time. Nothing must be left to flush.
func (d *deliverer) rests(within time.Duration) bool {
	if d.work == nil {
		return true
	}
	d.rested = false
	if !d.take(within) {
		return false
	}
	d.rested = d.waits != time.Time{}
	d.idle <- struct{}{}
	return true
}

func (d *deliverer) take(within time.Duration) bool {
	select {
	case <-d.idle:
		if !d.rested {
			d.waits = time.Time{}
		}
		return true
	default:
	}
	if d.waits.IsZero() {
		d.waits = time.Now()
	}
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-d.idle:
		return true
	case <-t.C:
		return false
	}
}

func (d *deliverer) run() {
	defer close(d.ended)
	for batch := range d.work {
		d.receive(batch)
		clear(batch) // it holds the payloads
		d.idle <- struct{}{}
	}
}

// end waits for the goroutine. Nothing may be added or flushed afterwards.
func (d *deliverer) end() {
	if d.work != nil {
		close(d.work)
		<-d.ended
		d.work = nil
	}
}
