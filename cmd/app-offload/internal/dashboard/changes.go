package dashboard

import (
	"fmt"
	"time"

	"app-offload/functions/status"
)

// maxChanges is how many of the latest changes the page shows.
const maxChanges = 30

// Change is something that is no longer as it was.
type Change struct {
	Time  int64  `json:"time"`  // ms since the Unix epoch
	About string `json:"about"` // link, ready, spool, policy, configuration, canary, receipts or account
	Good  bool   `json:"good"`  // it is better now, or a matter of choice
	Text  string `json:"text"`
}

// relaxed is the share of its limit that a spool has to fall below before it counts as relaxed, so that one at the very
// limit does not change its state with every batch.
const relaxed = 0.95

// atStart is what was before the first look: nothing had come yet. So whatever has by then is news, and on a slow machine that is
// everything; but not what holds by configuration, nor what an earlier process dropped.
func atStart(is *status.Status) (was status.Status) {
	was.Counts.Dropped = is.Counts.Dropped
	was.Policy, was.Policies.Canary, was.Configuration.Version = is.Policy, is.Policies.Canary, is.Configuration.Version
	return was
}

// missing lists what has not come by the first look. It is no change, for a log, but where the list begins.
func missing(now time.Time, is *status.Status) (changes []Change) {
	if !is.Link.Up {
		changes = append(changes, Change{now.UnixMilli(), "link", false, "the link to the cloud is not up yet"})
	}
	if !is.Ready {
		changes = append(changes, Change{now.UnixMilli(), "ready", false, "events are not taken yet: " + first(is.NotReady)})
	}
	return changes
}

// compare lists what has changed between two statuses. The lock is held.
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
	flip("ready", was.Ready, is.Ready, "events are taken", "events are not taken: "+first(is.NotReady))
	flip("receipts", !was.Export.ReceiptsSilent, !is.Export.ReceiptsSilent, "receipts resumed", "the broker acknowledges, but no receipts come")
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

// ownTexts are the reasons whose beginning and end the list has in words of its own.
var ownTexts = map[string]bool{"linkDown": true, "intake": true, "stopping": true, "consumerSilent": true, "account": true, "configuration": true, "canary": true, "spoolFull": true}

// compareHealth lists the reasons that have begun and those that are over. A note is no change to look at.
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
		add("spool", true, "the spool has relaxed to %.0f %%", share*100)
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
