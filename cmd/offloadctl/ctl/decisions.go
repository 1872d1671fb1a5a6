package ctl

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// filter selects decisions; "" matches any.
type filter struct {
	class, device, target, policy string
	n                             int
}

func decisionsVerb(ctx context.Context, sh *shell, args []string) error {
	fs := sh.asking("decisions", "the service's answer as JSON")
	var f filter
	fs.StringVar(&f.class, "class", "", "only tasks of this class")
	fs.StringVar(&f.device, "device", "", "only tasks of this device")
	fs.StringVar(&f.target, "target", "", "only decisions for this target: local or cloud")
	fs.StringVar(&f.policy, "policy", "", "only decisions of this policy")
	fs.IntVar(&f.n, "n", 20, "maximum `number` of decisions, up to 1000")
	err := fs.parseOnly(args, "decisions takes no arguments; filter with -class, -device, -target and -policy")
	switch {
	case err != nil:
		return err
	case f.n < 1 || f.n > 1000:
		return fs.misused("-n %d: must be between 1 and 1000", f.n)
	case f.target != "" && f.target != "local" && f.target != "cloud":
		return fs.misused("-target %q: must be local or cloud", f.target)
	}
	var answer struct{ Decisions []shownDecision }
	if done, err := fs.ask(ctx, http.MethodGet, "/decisions?"+f.query(), nil, &answer); done {
		return err
	}
	if len(answer.Decisions) == 0 {
		_, err := fmt.Fprintln(sh.out, "no decisions match; the service keeps only the latest")
		return err
	}
	t := newTable(sh.out, "ID", "TIME UTC", "TARGET", "CLASS", "DEVICE", "SIZE", "SCORE", "LOCAL", "CLOUD", "TOOK", "POLICY", "REASON")
	for i := range answer.Decisions {
		t.row(answer.Decisions[i].row()...)
	}
	return t.end()
}

func (f filter) query() string {
	q := url.Values{"limit": {strconv.Itoa(f.n)}}
	for name, value := range map[string]string{"class": f.class, "device": f.device, "target": f.target, "policy": f.policy} {
		if value != "" {
			q.Set(name, value)
		}
	}
	return q.Encode()
}

func (d *shownDecision) row() []string {
	took := "-"
	if d.Outcome.Failed {
		took = "failed"
	} else if d.Outcome.Known {
		took = duration(d.Outcome.Time)
	}
	return []string{
		strconv.FormatUint(d.ID, 10), time.Unix(0, d.Time).UTC().Format("15:04:05.000"), d.Decision.Target.String(), d.Class, d.Device,
		size(float64(d.Size)), fmt.Sprintf("%.2f", d.Decision.Score), duration(d.Estimate.LocalTime), duration(d.Estimate.CloudTime), took,
		d.Policy, d.Decision.Reason.String(),
	}
}
