package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"app-offload/functions/decision"
)

// Rule holds the prices and weights of policy defer, found by search in the simulator. Costs are in the unit of CostTime. No number has a unit of
// time: prices count time in the mean deadline of the arriving tasks, so that a node on which everything takes ten times as long decides the same.
type Rule struct {
	EdgePrice  float64 `json:"edgePrice"`  // cost to future tasks if the node is busy for a mean deadline, for each arrival within one
	EdgeSquare float64 `json:"edgeSquare"` // the same for the part that rises with the square of that time: each arriving task waits for the rest of it
	LinkPrice  float64 `json:"linkPrice"`  // the same for the link
	LinkSquare float64 `json:"linkSquare"`
	Tail       float64 `json:"tail"`     // as CostTail, so that no task is ignored
	Postpone   float64 `json:"postpone"` // deadlines by which a task is assumed late that no server takes for now
	Doubt      float64 `json:"doubt"`    // as CostDoubt
	Caution    float64 `json:"caution"`  // as CostCaution
}

// DefaultRule was selected on recordings of links, round trips and loads, a third of which were held out; see res/policies.
func DefaultRule() Rule {
	return Rule{
		EdgePrice: 0.02, EdgeSquare: 0.9, LinkPrice: 0.06, LinkSquare: 0.14, Tail: 0.2, Postpone: 7, Doubt: 0.45, Caution: 0.75,
	}
}

// ruleFormat identifies a file with a rule.
const ruleFormat = "app-offload rule 2"

type ruleFile struct {
	Format string `json:"format"`
	Made   string `json:"made"` // the command that made it
	Rule
}

// WriteRule writes the rule as JSON, with the command that made it.
func WriteRule(to io.Writer, r Rule, made string) error {
	out := json.NewEncoder(to)
	out.SetIndent("", " ")
	return out.Encode(ruleFile{ruleFormat, made, r})
}

// ReadRule reads a file written by WriteRule, and rejects a rule outside of the bounds of training.
func ReadRule(from io.Reader) (Rule, error) {
	raw, err := io.ReadAll(io.LimitReader(from, 64<<10))
	if err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
	}
	var f ruleFile
	if err := json.Unmarshal(raw, &struct{ Format *string }{&f.Format}); err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
	}
	if f.Format != ruleFormat {
		return Rule{}, fmt.Errorf("reading a rule: format %q; needs %q, which offload-lab train -env defer writes", f.Format, ruleFormat)
	}
	in := json.NewDecoder(bytes.NewReader(raw))
	in.DisallowUnknownFields()
	if err := in.Decode(&f); err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
	}
	return f.Rule, f.check()
}

// Field is one number of a rule, with the bounds within which training searches.
type Field struct {
	Name      string
	At        *float64
	Low, High float64
}

// Fields lists the numbers of the rule with pointers to them.
func (r *Rule) Fields() []Field {
	return []Field{
		{"edgePrice", &r.EdgePrice, 1e-3, 20},
		{"edgeSquare", &r.EdgeSquare, 1e-3, 20},
		{"linkPrice", &r.LinkPrice, 1e-3, 20},
		{"linkSquare", &r.LinkSquare, 1e-3, 20},
		{"tail", &r.Tail, 1e-3, 20},
		{"postpone", &r.Postpone, 0.1, 100},
		{"doubt", &r.Doubt, 1e-3, 9},
		{"caution", &r.Caution, 0.3, 5},
	}
}

// check reports every number that is out of bounds.
func (r *Rule) check() (err error) {
	for _, f := range r.Fields() {
		if !(*f.At >= f.Low && *f.At <= f.High) {
			err = errors.Join(err, fmt.Errorf("%s = %v is not between %g and %g", f.Name, *f.At, f.Low, f.High))
		}
	}
	return err
}

// loadRule reads the rule of a file, or returns the default rule if no file is named.
func loadRule(file string) (Rule, error) {
	if file == "" {
		return DefaultRule(), nil
	}
	f, err := open(file)
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

// price returns the cost to future tasks of a server that is busy for so many seconds from now on, at a pulse of at.arrivals per mean deadline of
// at.unit seconds. Each task that arrives in that time waits for the rest of it, which gives the square, or takes the other server instead, which
// gives the linear part.
func (r *Rule) price(server decision.Target, busy float64, at pulse) float64 {
	linear, square := r.EdgePrice, r.EdgeSquare
	if server == decision.Cloud {
		linear, square = r.LinkPrice, r.LinkSquare
	}
	b := busy / at.unit
	return at.arrivals * b * (linear + square*b/2)
}
