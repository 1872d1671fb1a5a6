package export

import "time"

// class is the window's state of one class. Brokers apply their rules by topic, and each class has its own topic, so a class that passes proves
// nothing for another.
type class struct {
	heard    bool // the consumer has receipted a batch of it, so it can read the topic
	trusted  bool // heard, and no later receipt is overdue
	acks     uint64
	receipts uint64
	heardAt  time.Time     // of the latest receipt
	delay    time.Duration // smoothed time from acknowledgement to receipt
	silent   time.Time     // since when receipts are missing while other classes get theirs; zero if they are not
	isolated int           // isolated records of it

	// Set by the latest call of look.
	first  *entry    // its first entry in the window that is not swallowed
	oldest time.Time // earliest acknowledgement without a receipt
	count  int       // its entries
	former bool      // an entry was acknowledged on an earlier connection and has no receipt
}

// maxClasses bounds the classes remembered after they left the configuration.
const maxClasses = 1024

func (w *window) class(name string) *class {
	if c := w.classes[name]; c != nil {
		return c
	}
	if w.classes == nil {
		w.classes = map[string]*class{}
	}
	if len(w.classes) >= maxClasses {
		w.look()
		for old, c := range w.classes {
			if c.count+c.isolated == 0 {
				delete(w.classes, old)
			}
		}
	}
	c := &class{}
	w.classes[name] = c
	return c
}

// look summarizes the window's entries by class.
func (w *window) look() {
	for _, c := range w.classes {
		c.first, c.oldest, c.count, c.former = nil, time.Time{}, 0, false
	}
	for _, e := range w.entries {
		c := w.class(e.class)
		c.count++
		if c.first == nil && !e.swallowed() {
			c.first = e
		}
		if e.phase == acked && (c.oldest.IsZero() || e.ackedAt.Before(c.oldest)) {
			c.oldest = e.ackedAt
		}
		c.former = c.former || e.phase == acked && e.attempt <= w.former
	}
}

// swallowed reports whether a single record was published so often without a receipt that the next entry is tried before it.
func (e *entry) swallowed() bool { return len(e.records) == 1 && e.vain >= silentTries }

// silentTries is the number of repetitions after which a batch itself may be the reason that no receipts arrive: some brokers acknowledge messages
// they discard.
const silentTries = 5

// may reports whether the consumer's state allows to publish a batch. Of a class that it has not receipted yet, or no longer receipts, only the first
// batch is published: the broker discards messages from before the subscription, and later batches would arrive first. The caller has called look.
func (w *window) may(e *entry, now time.Time) bool {
	c := w.class(e.class)
	switch {
	case !w.confirmReceipt:
		return true
	case !c.trusted:
		return c.first == e || e.swallowed()
	case c.former && now.Before(w.handover):
		return false
	}
	return e.attempt > 0 || !c.late(now) && !w.owes(c)
}

// owes reports whether an announcement asks for batches of the class that are not repeated yet: new batches would overtake them.
func (w *window) owes(c *class) bool {
	return !w.repeat.asked.IsZero() && !c.oldest.IsZero() && !c.oldest.After(w.repeat.asked)
}

// late reports whether the consumer may be gone: a receipt takes long, and no other has arrived meanwhile. New batches wait then, so that they do not
// arrive before those to be repeated.
func (c *class) late(now time.Time) bool {
	since := c.oldest
	if c.heardAt.After(since) {
		since = c.heardAt
	}
	return !c.oldest.IsZero() && now.Sub(since) > max(leastLate, 4*c.delay)
}

const leastLate = time.Second

// quiet reports whether no receipt of the class is expected soon.
func (w *window) quiet(name string, now time.Time) bool {
	c := w.class(name)
	return c.late(now)
}

// classShare is the share of the window that one class may fill.
const classShare = 0.75

// excluded returns the classes of which no further batch may be taken.
func (w *window) excluded(now time.Time) map[string]bool {
	w.look()
	out := map[string]bool{}
	most := max(1, int(classShare*float64(w.size(w.batches))))
	for name, c := range w.classes {
		switch {
		case c.isolated >= maxRefused, len(w.isolated) >= maxIsolated, c.count >= most:
			out[name] = true
		case c.count > 0 && w.confirmReceipt && (!c.trusted || c.late(now) || w.owes(c)):
			out[name] = true
		}
	}
	for _, e := range w.entries {
		if e.suspect {
			out[e.class] = true
		}
	}
	return out
}

// receipted records a receipt of a class.
func (c *class) receipted(e *entry, now time.Time) {
	if e.phase == acked {
		c.delay += (now.Sub(e.ackedAt) - c.delay) / 8
	}
	c.heard, c.trusted, c.heardAt, c.silent = true, true, now, time.Time{}
	c.receipts++
}

// giveBack removes entries from the window and returns their records to the spool.
func (w *window) giveBack(which func(*entry) bool) {
	kept := w.entries[:0]
	for _, e := range w.entries {
		if !which(e) {
			kept = append(kept, e)
			continue
		}
		w.given = appendSequences(w.given, e.records)
		if w.regiven == nil {
			w.regiven = map[string]bool{}
		}
		w.regiven[e.class] = true
		w.bytes -= e.bytes
	}
	clear(w.entries[len(kept):])
	w.entries = kept
}

// repeat is the state of repetitions that announcements ask for.
type repeat struct {
	asked time.Time // when the latest announcement arrived that is not followed yet; zero without one
	due   time.Time
	last  time.Time
	pause time.Duration
}

const (
	repeatPause = 2 * time.Second // each repetition doubles it, so twice this is between the first two
	repeatMost  = time.Minute
)

// announced records that a consumer has subscribed. All batches published before are published again, in order: immediately, or when the latest
// repetition is long enough ago.
func (w *window) announced(now time.Time) {
	r := &w.repeat
	if now.Sub(r.last) > 2*r.pause {
		r.pause = repeatPause // there was no announcement for a while
	}
	r.asked, r.due = now, r.last.Add(r.pause)
	w.follow(now)
}

// follow repeats the batches that an announcement asks for, once it is due.
func (w *window) follow(now time.Time) {
	r := &w.repeat
	if r.asked.IsZero() || now.Before(r.due) {
		return
	}
	for _, c := range w.classes {
		c.trusted = c.heard
	}
	for _, e := range w.entries {
		switch {
		case e.sentAt.After(r.asked):
		case e.phase == acked:
			e.phase, e.resends = waiting, 0
			w.resent++
		case e.phase == sent:
			e.stale = true
		}
	}
	w.firstAck, w.warned = time.Time{}, false
	r.asked, r.last, r.pause = time.Time{}, now, min(2*r.pause, repeatMost)
}

// aside is a record to be dropped, with the reason.
type aside struct {
	seqs   []uint64
	class  string
	bytes  int
	reason string
	detail string // with sizes and limits
}
