// Package dashboard serves the page that shows what the service does and why: one HTML document with its own style and script, and the data that the
// script polls.
//
// The document is a single request: in secure mode every request needs a token, and a browser adds none to the requests for styles and scripts. The
// token of that request is written into the document, and the script sends it along. The page loads nothing from other hosts; the
// Content-Security-Policy allows only this style and script, by their hashes.
//
// The package keeps the history in a ring of fixed size, so that a newly opened page shows the last ten minutes.
package dashboard

import (
	"fmt"
	"sync"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/quarantine"
	"app-offload/functions/status"
)

// Every is the interval between two points of the history, and between two polls by the page.
const Every = 2 * time.Second

// Points is the length of the history: ten minutes.
const Points = 300

// Source provides the data of the page; *functions.Service implements it.
type Source interface {
	Status() status.Status
	Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry
	Decision(id uint64) (decision.Entry, bool)
	Quarantined() []quarantine.Rejected
}

// Dashboard keeps the history and the changes that the page shows. It is safe for concurrent use.
type Dashboard struct {
	source Source

	mu      sync.Mutex
	ring    history
	last    seen
	changes []Change // newest last
	times   sampler
}

// seen is the previous status, with the times of the latest changes.
type seen struct {
	at      time.Time
	status  status.Status
	link    time.Time // since when the link is up or down
	event   time.Time // when an event last came in
	drop    time.Time // when a task was last dropped
	spooled bool      // the spool is over its limit
}

// New returns a Dashboard without history.
func New(source Source) *Dashboard { return &Dashboard{source: source} }

// Observe takes the current status and returns what changed since the previous one. The first call compares with the state at the start. The caller
// calls it every two seconds.
func (d *Dashboard) Observe(now time.Time, st *status.Status, backlogLimit float64) []Change {
	completion := nothing
	if st.Events.Received > 0 { // an empty ring would be searched to its end
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
	if !first { // a rate needs two observations
		d.ring.add(pointBetween(before.at, &before.status, now, st, completion))
	}
	return changes
}

// maxChanges is the number of latest changes that the page shows.
const maxChanges = 30

// Change is a change of state that the page lists.
type Change struct {
	Time  int64  `json:"time"`  // ms since the Unix epoch
	About string `json:"about"` // link, ready, spool, policy, configuration, canary, receipts or account
	Good  bool   `json:"good"`  // an improvement, or a deliberate change
	Text  string `json:"text"`
}

// relaxed is the share of its limit below which the spool no longer counts as over it. The gap keeps a spool at the limit from changing state with
// every batch.
const relaxed = 0.95

// atStart returns the state before the first observation: nothing had arrived. So everything that has arrived by then counts as a change, except what
// the configuration sets and what an earlier process dropped.
func atStart(is *status.Status) (was status.Status) {
	was.Counts.Dropped = is.Counts.Dropped
	was.Policy, was.Policies.Canary, was.Configuration.Version = is.Policy, is.Policies.Canary, is.Configuration.Version
	return was
}

// missing returns what has not come up by the first observation. The page's list begins with it; the log does not report it as a change.
func missing(now time.Time, is *status.Status) (changes []Change) {
	if !is.Link.Up {
		changes = append(changes, Change{now.UnixMilli(), "link", false, "the link to the cloud is not up yet"})
	}
	if !is.Ready {
		changes = append(changes, Change{now.UnixMilli(), "ready", false, "not accepting events yet: " + first(is.NotReady)})
	}
	return changes
}

// compare returns the changes between two statuses. The caller holds the lock.
func (d *Dashboard) compare(now time.Time, was, is *status.Status, backlogLimit float64) (changes []Change) {
	add := func(about string, good bool, format string, args ...any) {
		changes = append(changes, Change{now.UnixMilli(), about, good, fmt.Sprintf(format, args...)})
	}
	flip := func(about string, was, is bool, yes, no string) {
		if is && !was {
			add(about, true, "%s", yes)
		} else if was && !is {
			add(about, false, "%s", no)
		}
	}
	flip("link", was.Link.Up, is.Link.Up, "the link to the cloud is up", "the link to the cloud is down")
	flip("ready", was.Ready, is.Ready, "accepting events", "not accepting events: "+first(is.NotReady))
	flip("receipts", !was.Export.ReceiptsSilent, !is.Export.ReceiptsSilent, "receipts resumed", "the broker acknowledges, but no receipts arrive")
	compareHealth(was.Health, is.Health, add)
	flip("account", was.Counts.Balance == 0, is.Counts.Balance == 0, "the account adds up again", "the account does not add up")
	if was.Policy != is.Policy {
		add("policy", true, "the default policy is now %s", is.Policy)
	}
	if was.Configuration != is.Configuration {
		if p := is.Configuration.Problem; p != "" && p != was.Configuration.Problem {
			add("configuration", false, "%s", p)
		} else if p == "" {
			add("configuration", true, "configuration %s is in force", is.Configuration.Version)
		}
	}
	d.compareSpool(is.Link.BacklogShare, backlogLimit, add)
	compareCanary(was.Policies.Canary, is.Policies.Canary, add)
	return changes
}

// ownTexts are the reasons for which compare has texts of its own.
var ownTexts = map[string]bool{"linkDown": true, "intake": true, "stopping": true, "consumerSilent": true, "account": true, "configuration": true, "canary": true, "spoolFull": true}

// compareHealth adds the reasons that began and those that ended. Notes are not listed.
func compareHealth(was, is status.Health, add func(string, bool, string, ...any)) {
	for _, r := range is.Reasons {
		if !ownTexts[r.Code] && r.Severity > status.Note && was.Severity(r.Code) <= status.Note {
			add(r.Code, false, "%s", r.Text)
		}
	}
	for _, r := range was.Reasons {
		if !ownTexts[r.Code] && r.Severity > status.Note && is.Severity(r.Code) <= status.Note {
			add(r.Code, true, "over: %s", r.Text)
		}
	}
}

func first(of []string) string {
	if len(of) == 0 {
		return ""
	}
	return of[0]
}

func (d *Dashboard) compareSpool(share, limit float64, add func(string, bool, string, ...any)) {
	switch {
	case !d.last.spooled && share > limit:
		d.last.spooled = true
		add("spool", false, "the spool is %.0f %% full, above its limit of %.0f %%: work is kept local", share*100, limit*100)
	case d.last.spooled && share < limit*relaxed:
		d.last.spooled = false
		add("spool", true, "the spool has drained to %.0f %%", share*100)
	}
}

func compareCanary(was, is *status.CanaryStatus, add func(string, bool, string, ...any)) {
	switch {
	case is == nil && was == nil:
	case is == nil:
		add("canary", true, "the canary %s has ended", was.Policy)
	case is.State == "rolledBack" && (was == nil || was.State != is.State):
		add("canary", false, "the canary %s was rolled back: %s", is.Policy, is.Reason)
	case was == nil || was.Policy != is.Policy || was.State != is.State:
		add("canary", true, "%s acts as canary for %.0f %% of the devices", is.Policy, is.Share*100)
	}
}
