package ctl

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"

	"app-offload/functions/decision"
	"app-offload/functions/intake/parse"
	"app-offload/functions/status"
)

// summary counts what a dry run decided.
type summary struct {
	Policy   string            `json:"policy"`
	Events   int               `json:"events"`
	Tasks    int               `json:"tasks"`
	Cloud    int               `json:"cloud"`
	Rejected map[string]uint64 `json:"rejected"` // events, by reason
	Groups   []*group          `json:"groups"`
	byKey    map[groupKey]*group
}

type groupKey struct{ class, policy, target, reason string }

// group is the tasks of one class that were decided alike.
type group struct {
	Class     string   `json:"class"`
	Policy    string   `json:"policy"`
	Target    string   `json:"target"`
	Reason    string   `json:"reason"`
	Tasks     int      `json:"tasks"`
	Bytes     int64    `json:"bytes"`
	Score     float64  `json:"score"`     // mean
	LocalTime float64  `json:"localTime"` // mean, s
	CloudTime *float64 `json:"cloudTime"` // mean, s; null where it cannot be reached
}

func newSummary(policy string) *summary {
	return &summary{Policy: policy, Rejected: map[string]uint64{}, byKey: map[groupKey]*group{}}
}

func (s *summary) reject(err error) {
	var r *parse.RejectError
	if errors.As(err, &r) {
		s.Rejected[r.Reason]++
		return
	}
	s.Rejected["other"]++
}

func (s *summary) add(e decision.Entry) {
	s.Tasks++
	if e.Decision.Target == decision.Cloud {
		s.Cloud++
	}
	key := groupKey{e.Class, e.Policy, e.Decision.Target.String(), e.Decision.Reason.String()}
	g := s.byKey[key]
	if g == nil {
		g = &group{Class: key.class, Policy: key.policy, Target: key.target, Reason: key.reason}
		s.byKey[key] = g
		if !math.IsInf(e.Estimate.CloudTime, 0) {
			g.CloudTime = new(float64)
		}
	}
	g.Tasks++
	g.Bytes += int64(e.Size)
	n := float64(g.Tasks)
	g.Score += (e.Decision.Score - g.Score) / n
	g.LocalTime += (e.Estimate.LocalTime - g.LocalTime) / n
	if g.CloudTime != nil {
		*g.CloudTime += (e.Estimate.CloudTime - *g.CloudTime) / n
	}
}

// write shows the counts, by class and then by how many tasks there are.
func (s *summary) write(out io.Writer, asJSON bool) error {
	s.Groups = slices.SortedFunc(maps.Values(s.byKey), func(a, b *group) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(b.Tasks, a.Tasks), cmp.Compare(a.Target+a.Reason+a.Policy, b.Target+b.Reason+b.Policy))
	})
	if asJSON {
		return writeJSON(out, s)
	}
	fmt.Fprintf(out, "policy %s\n%s events make %s tasks: %s here, %s to the cloud\n", s.Policy, count(s.Events), count(s.Tasks), count(s.Tasks-s.Cloud), count(s.Cloud))
	if n := status.Sum(s.Rejected); n > 0 {
		fmt.Fprintf(out, "rejected, not valid events: %s (%s)\n", count(n), byReason(s.Rejected))
	}
	if len(s.Groups) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	t := newTable(out, "CLASS", "POLICY", "TARGET", "REASON", "TASKS", "DATA", "SCORE", "LOCAL", "CLOUD")
	for _, g := range s.Groups {
		cloud := "out of reach"
		if g.CloudTime != nil {
			cloud = duration(*g.CloudTime)
		}
		t.row(g.Class, g.Policy, g.Target, g.Reason, count(g.Tasks), size(float64(g.Bytes)), fmt.Sprintf("%.2f", g.Score), duration(g.LocalTime), cloud)
	}
	return t.end()
}

// one is a decided task as a line of JSON; times are in s, null for a way that cannot be used.
type one struct {
	EventID     string   `json:"eventId"`
	Chunk       int      `json:"chunk"`
	Of          int      `json:"of"`
	Device      string   `json:"device"`
	Class       string   `json:"class"`
	Size        int      `json:"size"`
	Target      string   `json:"target"`
	Score       float64  `json:"score"`
	Policy      string   `json:"policy"`
	Reason      string   `json:"reason"`
	LocalTime   float64  `json:"localTime"`
	CloudTime   *float64 `json:"cloudTime"`
	Explanation string   `json:"explanation"`
}

// writeOne shows one decision.
func writeOne(w io.Writer, e decision.Entry, asJSON bool) error {
	text := decision.Explain(e)
	if !asJSON {
		_, err := fmt.Fprintf(w, "%s\n", clean(fmt.Sprintf("%s  %s %d/%d  %s  %s", e.Decision.Target, e.Device, e.Chunk+1, e.Of, e.Class, text)))
		return err
	}
	line := one{
		EventID: e.EventID, Chunk: e.Chunk, Of: e.Of, Device: e.Device, Class: e.Class, Size: e.Size, Target: e.Decision.Target.String(),
		Score: e.Decision.Score, Policy: e.Policy, Reason: e.Decision.Reason.String(), LocalTime: e.Estimate.LocalTime, Explanation: text,
	}
	if !math.IsInf(e.Estimate.CloudTime, 0) {
		line.CloudTime = &e.Estimate.CloudTime
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(line)
}
