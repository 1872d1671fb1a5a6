package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

var deferInfo = Info{
	Name:    "defer",
	Summary: "Parks a task, durable and undecided, while its target is busy. Each server that becomes free takes the parked task that gains most.",
	WhenNot: "A class needs its records in the cloud in the order of their events: a task that gains more from the link overtakes others.",
}

// Rule is what policy defer goes by: prices and weights that are learned by trying them in the simulator. Costs are in the unit
// of CostTime.
type Rule struct {
	EdgePrice float64 `json:"edgePrice"` // cost of a second of the node's time to all others
	LinkPrice float64 `json:"linkPrice"` // the same of the link's time
	Aging     float64 `json:"aging"`     // what each second beyond AgingFrom adds to a bid, so that no task waits for ever
	AgingFrom float64 `json:"agingFrom"` // s
	Residual  float64 `json:"residual"`  // the least that any task is worth: a task that is late in any case loses no more by waiting
	Exponent  float64 `json:"exponent"`  // of the server's time by which a bid is divided: 1 is gain a second, near 0 takes no notice of it
	Doubt     float64 `json:"doubt"`     // as CostDoubt
	Caution   float64 `json:"caution"`   // as CostCaution
}

// DefaultRule was learned on recordings of links, round trips and loads; res/policies says by which command.
func DefaultRule() Rule {
	return Rule{
		EdgePrice: 0.0242, LinkPrice: 0.00982, Aging: 0.000102, AgingFrom: 0.5, Residual: 0.00226,
		Exponent: 2.46, Doubt: 0.011, Caution: 0.565,
	}
}

// ruleFormat is the first thing a file with a rule says.
const ruleFormat = "app-offload rule 1"

type ruleFile struct {
	Format string `json:"format"`
	Made   string `json:"made"` // the command that learned it
	Rule
}

// WriteRule writes the rule as JSON, with the command that made it.
func WriteRule(to io.Writer, r Rule, made string) error {
	out := json.NewEncoder(to)
	out.SetIndent("", " ")
	return out.Encode(ruleFile{ruleFormat, made, r})
}

// ReadRule reads what WriteRule wrote, and refuses a rule that no training would give.
func ReadRule(from io.Reader) (Rule, error) {
	var f ruleFile
	in := json.NewDecoder(io.LimitReader(from, 64<<10))
	in.DisallowUnknownFields()
	if err := in.Decode(&f); err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
	}
	if f.Format != ruleFormat {
		return Rule{}, fmt.Errorf("reading a rule: format %q; this program reads %q", f.Format, ruleFormat)
	}
	return f.Rule, f.check()
}

// Field is one number of a rule, with the bounds outside of which no training looks for it.
type Field struct {
	Name      string
	At        *float64
	Low, High float64
}

// Fields lists the numbers of the rule, each at its place in it.
func (r *Rule) Fields() []Field {
	return []Field{
		{"edgePrice", &r.EdgePrice, 1e-3, 20},
		{"linkPrice", &r.LinkPrice, 1e-3, 20},
		{"aging", &r.Aging, 1e-4, 20},
		{"agingFrom", &r.AgingFrom, 0.5, 60},
		{"residual", &r.Residual, 1e-4, 10},
		{"exponent", &r.Exponent, 0.05, 8},
		{"doubt", &r.Doubt, 1e-3, 9},
		{"caution", &r.Caution, 0.3, 5},
	}
}

// check reports every number that is out of bounds.
func (r *Rule) check() (err error) {
	for _, f := range r.Fields() {
		if !(*f.At >= f.Low && *f.At <= f.High) {
			err = errors.Join(err, fmt.Errorf("%s = %v is not within %g and %g", f.Name, *f.At, f.Low, f.High))
		}
	}
	return err
}

// loadRule reads the rule of a file, or takes the default one where no file is named.
func loadRule(file string) (Rule, error) {
	if file == "" {
		return DefaultRule(), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return DefaultRule(), fmt.Errorf("opening a rule: %w", err)
	}
	defer f.Close()
	r, err := ReadRule(f)
	if err != nil {
		return DefaultRule(), fmt.Errorf("%s: %w", file, err)
	}
	return r, nil
}

// deferring prices both ways as policy cost does. A task is worth to a free server what putting it off would cost, and what it
// saves over the other server, for each second of the server's time.
type deferring struct {
	cost *cost
	rule Rule
	room Room
}

func newDefer(c Config) Policy {
	rule, _ := loadRule(c.DeferRule) // Validate has reported a rule that cannot be read where it is in use
	return deferBy(rule, c)
}

// DeferBy is policy defer with a rule that is not in a file, for those who learn one.
func DeferBy(r Rule, c Config) (Binder, error) {
	if err := errors.Join(r.check(), c.Validate()); err != nil {
		return nil, err
	}
	return deferBy(r, c), nil
}

func deferBy(r Rule, c Config) *deferring {
	k := costOf(c)
	k.edge, k.link, k.tail = shadow{}, shadow{}, 0
	k.doubt, k.caution = r.Doubt, r.Caution
	longest, _ := time.ParseDuration(c.DeferLongest) // validated
	ahead, _ := time.ParseDuration(c.DeferAhead)
	return &deferring{cost: k, rule: r, room: Room{Tasks: c.DeferTasks, Bytes: int64(c.DeferMiB) << 20, Longest: longest, Ahead: ahead.Seconds()}}
}

func (p *deferring) Name() string { return deferInfo.Name }

func (p *deferring) Room() Room { return p.room }

// Decide takes the way with the lower cost, the prices of both servers' time included.
func (p *deferring) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	w := p.weigh(t, e, s)
	d := decision.Decision{Threshold: half, Propensity: 1, Score: share(w.here, w.there), Target: decision.Local, Reason: decision.CheaperLocal}
	if d.Score >= half {
		d.Target, d.Reason = decision.Cloud, decision.CheaperCloud
	}
	return predicted(e, p.cost.money).settle(d)
}

// Waits parks a task whose target is busy. A task with no other ahead of it goes at once.
func (p *deferring) Waits(_ *task.Task, e *score.Estimate, s *host.State, d *decision.Decision) bool {
	local, cloud := waysOf(e, s)
	if d.Target == decision.Local {
		return local.wait > p.room.Ahead
	}
	return cloud.wait > p.room.Ahead
}

// Bid divides what is gained by the server's time to the power of Exponent. A target that is dominated gains nothing.
func (p *deferring) Bid(t *task.Task, e *score.Estimate, s *host.State, server decision.Target) float64 {
	if predicted(e, p.cost.money).dominated(server) {
		return 0
	}
	w := p.weigh(t, e, s)
	saved, own := w.there-w.here, w.local.own
	if server == decision.Cloud {
		saved, own = -saved, w.cloud.own
	}
	saved += p.rule.Residual + p.rule.Aging*max(w.waited-p.rule.AgingFrom, 0)
	return saved / math.Pow(max(own, shortest), p.rule.Exponent)
}

// shortest keeps a task that takes next to nothing from bidding without bounds, s.
const shortest = 1e-4

// offer is a task with what both ways cost, their prices included.
type offer struct {
	waited, deadline float64 // s
	local, cloud     passage
	here, there      float64
}

func (p *deferring) weigh(t *task.Task, e *score.Estimate, s *host.State) (w offer) {
	_, w.deadline = p.cost.clock(t, s)
	if t.Received > 0 {
		w.waited = max(float64(s.Time-t.Received)/1e9, 0)
	}
	w.local, w.cloud = waysOf(e, s)
	w.cloud.wait *= p.rule.Caution
	w.cloud.own *= p.rule.Caution
	w.here = p.cost.of(w.waited+w.local.time(), w.deadline, e.LocalEnergy) + p.rule.EdgePrice*w.local.own
	w.there = p.cost.of(w.waited+w.cloud.time(), w.deadline, e.CloudEnergy) + p.rule.LinkPrice*w.cloud.own + p.cost.money
	return w
}

func (p *deferring) String() string {
	r := &p.rule
	return fmt.Sprintf("defer: %s; a second costs others %.4g here and %.4g on the link; a free server takes the highest of (saving over the other + %.4g + %.4g·s beyond %.4g s)/time^%.4g",
		p.cost.formula(), r.EdgePrice, r.LinkPrice, r.Residual, r.Aging, r.AgingFrom, r.Exponent)
}

var _ Binder = (*deferring)(nil)
