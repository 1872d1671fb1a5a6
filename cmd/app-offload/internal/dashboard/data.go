package dashboard

import (
	"strings"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/status"
)

// Query is the request of a page.
type Query struct {
	Since                         uint64 // number of the last point the page has
	Target, Class, Device, Policy string // filters of the decisions; "" matches any, and a part of a device's name suffices
}

// listed is the maximum number of decisions, and of quarantined messages, in one response.
const listed = 25

// Data is the content of the page. Times of day are ms since the Unix epoch, 0 for never; all other fields are as in Status.
type Data struct {
	APIVersion  string        `json:"apiVersion"`
	Now         int64         `json:"now"`
	Every       int64         `json:"every"` // ms between two points
	Started     int64         `json:"started"`
	LinkSince   int64         `json:"linkSince"`
	LastEvent   int64         `json:"lastEvent"`
	LastDrop    int64         `json:"lastDrop"`
	Status      status.Status `json:"status"`
	History     columns       `json:"history"`
	Decisions   []row         `json:"decisions"`
	Quarantined []rejected    `json:"quarantined"`
	Changes     []Change      `json:"changes"` // newest first
}

// row is the part of an entry that the list shows. The page requests whole entries one by one.
type row struct {
	ID       uint64            `json:"id"`
	Time     int64             `json:"time"`
	Device   string            `json:"device"`
	Class    string            `json:"class"`
	Size     int               `json:"size"`
	Target   decision.Target   `json:"target"`
	Reason   decision.Reason   `json:"reason"`
	Policy   string            `json:"policy"`
	Score    float64           `json:"score"`
	Expected *float64          `json:"expected"` // s, on the chosen target; null if the prediction has no time
	Outcome  *decision.Outcome `json:"outcome,omitempty"`
}

type rejected struct {
	ID     uint64 `json:"id"`
	Time   int64  `json:"time"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	Topic  string `json:"topic"`
	Size   int    `json:"size"`
}

// Data answers a page, with the current status and the history up to the last observation.
func (d *Dashboard) Data(now time.Time, q Query) Data {
	st := d.source.Status()
	data := Data{
		APIVersion: "v3", Now: now.UnixMilli(), Every: Every.Milliseconds(), Status: st,
		Started:   now.Add(-time.Duration(st.Process.Uptime * float64(time.Second))).UnixMilli(),
		Decisions: d.decisions(q), Quarantined: d.quarantined(),
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	data.LinkSince, data.LastEvent, data.LastDrop = millis(d.last.link), millis(d.last.event), millis(d.last.drop)
	data.History = d.ring.since(q.Since)
	data.Changes = make([]Change, 0, len(d.changes))
	for i := len(d.changes) - 1; i >= 0; i-- {
		data.Changes = append(data.Changes, d.changes[i])
	}
	return data
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func (d *Dashboard) decisions(q Query) []row {
	entries := d.source.Decisions(listed, func(e *decision.Entry) bool {
		return is(q.Target, e.Decision.Target.String()) && is(q.Class, e.Class) && part(q.Device, e.Device) && is(q.Policy, e.Policy)
	})
	list := make([]row, len(entries))
	for i, e := range entries {
		list[i] = brief(e)
	}
	return list
}

func is(want, have string) bool { return want == "" || want == have }

// part reports whether have contains want, ignoring case.
func part(want, have string) bool {
	return want == "" || strings.Contains(strings.ToLower(have), strings.ToLower(want))
}

func brief(e decision.Entry) row {
	expected := e.Estimate.LocalTime
	if e.Decision.Target == decision.Cloud {
		expected = e.Estimate.CloudTime
	}
	b := row{
		ID: e.ID, Time: e.Time / 1e6, Device: e.Device, Class: e.Class, Size: e.Size, Target: e.Decision.Target,
		Reason: e.Decision.Reason, Policy: e.Policy, Score: e.Decision.Score,
	}
	if expected < maxSeconds {
		b.Expected = &expected
	}
	if e.Outcome.Known {
		b.Outcome = &e.Outcome
	}
	return b
}

// maxSeconds is above every predicted time of a usable target.
const maxSeconds = 1e12

func (d *Dashboard) quarantined() []rejected {
	all := d.source.Quarantined()
	list := make([]rejected, 0, listed)
	for _, r := range all[:min(len(all), listed)] {
		list = append(list, rejected{r.ID, r.Time.UnixMilli(), r.Reason, r.Detail, r.Topic, r.Size})
	}
	return list
}
