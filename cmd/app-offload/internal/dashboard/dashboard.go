// Package dashboard is the page that shows what the service does and why: one HTML document that carries its own style
// and script, and the numbers that the script asks for every few seconds.
//
// The document is one request, because in secure mode every request wants a token that a browser adds to none of those it
// makes by itself. The token of that request is written into the document, and the script brings it along. Nothing
// is fetched from anywhere else; the Content-Security-Policy allows this one style and script by their hashes.
//
// The history is kept here, in a ring of fixed size, so that a page that is opened now shows the last ten minutes.
package dashboard

import (
	"sync"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/quarantine"
	"app-offload/functions/status"
)

// Every is the time between two points of the history, and between two questions of the page.
const Every = 2 * time.Second

// Points is the length of the history: ten minutes.
const Points = 300

// Source is what the page shows; *functions.Service is one.
type Source interface {
	Status() status.Status
	Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry
	Decision(id uint64) (decision.Entry, bool)
	Quarantined() []quarantine.Rejected
}

// Dashboard keeps what the page shows besides the present. It is safe for concurrent use.
type Dashboard struct {
	source Source

	mu      sync.Mutex
	ring    history
	last    seen
	changes []Change // newest last
	times   sampler
}

// seen is the status before, and since when things are as they are.
type seen struct {
	at      time.Time
	status  status.Status
	link    time.Time // since when the link is up or down
	event   time.Time // when an event last came in
	drop    time.Time // when a task was last dropped
	spooled bool      // the spool is over its limit
}

// New makes the page's memory.
func New(source Source) *Dashboard { return &Dashboard{source: source} }

// Observe takes in the status of this moment, which is to be given every two seconds, and returns what has changed since
// the one before, or by the first one since the start.
func (d *Dashboard) Observe(now time.Time, st *status.Status, backlogLimit float64) []Change {
	completion := nothing
	if st.Events.Received > 0 { // a ring that is still empty would be looked through to its end
		completion = d.times.sample(d.source, now)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.last
	first := before.at.IsZero()
	d.last.at, d.last.status = now, *st
	if first || before.status.Link.Up != st.Link.Up {
		d.last.link = now
	}
	if first {
		before.status = atStart(st)
		d.changes = missing(now, st)
	}
	if st.Events.Received > before.status.Events.Received {
		d.last.event = now
	}
	if status.Sum(st.Counts.Dropped) > status.Sum(before.status.Counts.Dropped) {
		d.last.drop = now
	}
	changes := d.compare(now, &before.status, st, backlogLimit)
	d.changes = append(d.changes, changes...)
	if over := len(d.changes) - maxChanges; over > 0 {
		d.changes = append(d.changes[:0], d.changes[over:]...)
	}
	if !first { // a rate needs two moments
		d.ring.add(pointBetween(before.at, &before.status, now, st, completion))
	}
	return changes
}
