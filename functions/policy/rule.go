package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"app-offload/functions/decision"
)

// Rule is what policy defer goes by: prices and weights that are learned by trying them in the simulator. Costs are in the unit
// of CostTime. No number has a unit of time: prices count time in the mean deadline of the tasks that arrive, so that a node on which all takes
// ten times as long decides alike.
type Rule struct {
	EdgePrice  float64 `json:"edgePrice"`  // cost to later tasks of the node's being busy for a mean deadline, for each task that arrives in one
	EdgeSquare float64 `json:"edgeSquare"` // the same of what rises with the square of that time: each task that arrives waits for the rest of it
	LinkPrice  float64 `json:"linkPrice"`  // the same of the link
	LinkSquare float64 `json:"linkSquare"`
	Tail       float64 `json:"tail"`     // as CostTail, so that no task is dropped altogether
	Postpone   float64 `json:"postpone"` // deadlines by which a task is late that no server is to take for now
	Doubt      float64 `json:"doubt"`    // as CostDoubt
	Caution    float64 `json:"caution"`  // as CostCaution
}

// DefaultRule was chosen on recordings of links, round trips and loads, of which a third was kept back; res/policies says how.
func DefaultRule() Rule {
	return Rule{
		EdgePrice: 0.02, EdgeSquare: 0.9, LinkPrice: 0.06, LinkSquare: 0.14, Tail: 0.2, Postpone: 7, Doubt: 0.45, Caution: 0.75,
	}
}

// ruleFormat is the first thing a file with a rule says.
const ruleFormat = "app-offload rule 2"

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
	raw, err := io.ReadAll(io.LimitReader(from, 64<<10))
	if err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
	}
	var f ruleFile
	if err := json.Unmarshal(raw, &struct{ Format *string }{&f.Format}); err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
	}
	if f.Format != ruleFormat {
		return Rule{}, fmt.Errorf("reading a rule: format %q; this program reads %q, which offload-lab train -env defer writes", f.Format, ruleFormat)
	}
	in := json.NewDecoder(bytes.NewReader(raw))
	in.DisallowUnknownFields()
	if err := in.Decode(&f); err != nil {
		return Rule{}, fmt.Errorf("reading a rule: %w", err)
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

// price is what it costs tasks yet to come that a server is busy for so many seconds from now on, in a tempo of so many arrivals in a mean
// deadline of so many seconds. Of the tasks that come in that time each waits for the rest of it, which is the square, or takes the other server
// instead, which is the part in proportion.
func (r *Rule) price(server decision.Target, busy float64, at pulse) float64 {
	linear, square := r.EdgePrice, r.EdgeSquare
	if server == decision.Cloud {
		linear, square = r.LinkPrice, r.LinkSquare
	}
	b := busy / at.unit
	return at.arrivals * b * (linear + square*b/2)
}
