package ctl

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"app-offload/functions/decision"
)

// shownDecision is a decision in the form of the API.
type shownDecision struct {
	decision.Entry
	Explanation string `json:"explanation"`
}

func explainVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking("explain", "the service's answer as JSON")
	rest, err := fs.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fs.misused("needs the id of one decision, as listed by `offloadctl decisions`, or the word latest")
	}
	if _, err := strconv.ParseUint(rest[0], 10, 64); err != nil && rest[0] != "latest" {
		return fs.misused("%q: must be the number of a decision, as listed by `offloadctl decisions`, or the word latest", rest[0])
	}
	c, err := fs.api.client(sh)
	if err != nil {
		return err
	}
	id := rest[0]
	if id == "latest" {
		var answer struct{ Decisions []shownDecision }
		if err := c.get(ctx, "/decisions?limit=1", &answer); err != nil {
			return err
		}
		if len(answer.Decisions) == 0 {
			return fmt.Errorf("no decisions since the service started; does it receive events? See `offloadctl status`")
		}
		id = strconv.FormatUint(answer.Decisions[0].ID, 10)
	}
	var answer struct{ Decision shownDecision }
	if err := c.answer(ctx, http.MethodGet, "/decisions/"+url.PathEscape(id), nil, sh.out, *fs.asJSON, &answer); err != nil || *fs.asJSON {
		return err
	}
	_, err = io.WriteString(sh.out, answer.Decision.text())
	return err
}

// text is the explanation for people.
func (d *shownDecision) text() string {
	var b strings.Builder
	line := func(format string, args ...any) { b.WriteString(clean(fmt.Sprintf(format, args...)) + "\n") }
	line("%s", d.Explanation)
	b.WriteByte('\n')
	line("decision  %d at %s", d.ID, time.Unix(0, d.Time).UTC().Format("2006-01-02 15:04:05.000 MST"))
	line("task      %s", d.task())
	line("decided   %s", d.decided())
	for _, t := range d.terms() {
		line("          %s", t)
	}
	line("local     %s predicted, %s mJ estimated, %s Mcycles", duration(d.Estimate.LocalTime), decimals(d.Estimate.LocalEnergy*1e3), decimals(d.Estimate.Cycles))
	line("cloud     %s", d.cloud())
	line("node      %s", d.node())
	line("outcome   %s", d.outcome())
	return b.String()
}

func (d *shownDecision) task() string {
	text := fmt.Sprintf("%s, complexity %s", size(float64(d.Size)), decimals(d.Complexity))
	if d.Deadline > 0 {
		text += fmt.Sprintf(", deadline %s of which %s had passed", duration(d.Deadline.Seconds()), duration(d.Waited.Seconds()))
	} else {
		text += ", no deadline"
	}
	if d.Class != "" {
		text += fmt.Sprintf("; class %s, device %s", d.Class, d.Device)
	}
	return text + fmt.Sprintf(", event %s, chunk %d of %d", d.EventID, d.Chunk+1, d.Of)
}

func (d *shownDecision) decided() string {
	text := fmt.Sprintf("%s by policy %s, configuration %s, reason %s", d.Decision.Target, d.Policy, d.Version, d.Decision.Reason)
	if d.Decision.Reason.IsGuard() {
		text = fmt.Sprintf("%s by the guard %s, above policy %s, configuration %s", d.Decision.Target, d.Decision.Reason, d.Policy, d.Version)
	}
	if p := d.Decision.Propensity; p > 0 && p < 1 {
		text += fmt.Sprintf(", with probability %s", percent(p*100))
	}
	return text
}

// terms shows the terms of the score, for a policy that has a score.
func (d *shownDecision) terms() []string {
	v := &d.Decision
	if v.Reason != decision.AboveThreshold && v.Reason != decision.BelowThreshold {
		return nil
	}
	sign, held := "<", "keeps it local"
	if v.Target == decision.Cloud {
		sign, held = "≥", "sends it"
	}
	return []string{
		fmt.Sprintf("size %.3f + complexity %.3f + CPU %.3f", v.Terms.Size, v.Terms.Complexity, v.Terms.CPU),
		fmt.Sprintf("score %.3f %s threshold %.3f %s", v.Score, sign, v.Threshold, held),
	}
}

func (d *shownDecision) cloud() string {
	if math.IsInf(d.Estimate.CloudTime, 0) {
		return "out of reach"
	}
	return fmt.Sprintf("%s predicted, %s mJ estimated, %s on the wire", duration(d.Estimate.CloudTime), decimals(d.Estimate.CloudEnergy*1e3), size(d.Estimate.Bytes))
}

func (d *shownDecision) node() string {
	s := &d.State
	link := "down"
	if s.Link.Up {
		link = "up, " + size(s.Link.Goodput) + "/s, round trip " + duration(s.Link.RTT)
	}
	return fmt.Sprintf("CPU %s, %s (%s Mcycles) waiting locally; link %s; spool %s, %s full", percent(s.CPU), several(s.QueueTasks, "task"),
		decimals(s.QueueCycles), link, several(s.Link.BacklogTasks, "task"), percent(s.Link.BacklogShare*100))
}

func (d *shownDecision) outcome() string {
	o := &d.Outcome
	switch {
	case !o.Known:
		return "not yet known"
	case o.Failed:
		return "failed without a result"
	}
	text := "took " + duration(o.Time)
	if d.Deadline > 0 {
		text += map[bool]string{true: ", in time", false: ", too late"}[o.Met]
	}
	if o.Bytes > 0 {
		text += ", " + size(float64(o.Bytes))
	}
	return text
}

// decimals formats three significant digits, without an exponent where possible.
func decimals(v float64) string {
	if abs := math.Abs(v); abs >= 100 && abs < 1e9 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}
