package local

import (
	"errors"
	"fmt"
	"strings"

	"app-offload/functions/check"
)

// CheckOperators reports every problem of a notation such as
//
//	summary window=60s slide=10s percentiles=50,95,99; deadband band=0.5 max=60s | rate; range low=-3 high=3
//
// Operators separated by a semicolon each see all values; after a bar an operator sees what the one before lets
// through, and only the last of such a chain publishes. Parameters are name=value, separated by blanks; a value has
// none. An empty notation, or "none", computes nothing. The errors inside are of type *SpecError.
func CheckOperators(notation string) error {
	_, err := parse(notation)
	return err
}

// maxChains bounds the operators of a class: each costs memory for every resource.
const maxChains = 16

// chain is a list of operators joined by bars, ready to make the state for a resource.
type chain struct {
	text      string // canonical, by which a reload recognises it
	operators []string
	builders  []func() stage
	resources []string // globs that all must match
	name      string   // in the names of results
	custom    bool     // the user chose the name
	remembers bool     // an operator of it needs the readings in their order
}

// matches reports whether the chain works on the resource. The patterns were checked when they were read.
func (c *chain) matches(resource string) bool {
	for _, glob := range c.resources {
		if glob != "*" && !check.Matches(glob, resource) {
			return false
		}
	}
	return true
}

// parse compiles a notation, or reports all that is wrong with it.
func parse(notation string) ([]*chain, error) {
	if t := strings.TrimSpace(notation); t == "" || t == "none" {
		return nil, nil
	}
	var chains []*chain
	var errs []error
	for text := range strings.SplitSeq(notation, ";") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		c, err := parseChain(text)
		errs = append(errs, err)
		chains = append(chains, c)
	}
	if len(chains) > maxChains {
		errs = append(errs, fmt.Errorf("%d operators, at most %d are allowed in a class", len(chains), maxChains))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return chains, distinct(chains)
}

// distinct refuses two chains whose results would have the same names.
func distinct(chains []*chain) error {
	seen := map[string]bool{}
	for _, c := range chains {
		key := c.name + "\n" + strings.Join(c.resources, "\n")
		if seen[key] {
			return &SpecError{
				Operator: c.operators[len(c.operators)-1], Parameter: "name", Value: c.name,
				Problem: "two results would have this name", Example: c.operators[len(c.operators)-1] + " name=hourly",
			}
		}
		seen[key] = true
	}
	return nil
}

func parseChain(text string) (*chain, error) {
	c := &chain{}
	var texts []string
	var problems []error
	words := strings.Split(text, "|")
	for i, part := range words {
		op, p, err := parseOperator(part)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		build := op.build(p)
		resource, name := p.glob("resource"), p.word("name", op.Name)
		problems = append(problems, p.errs...)
		if (op.last || p.ends) && i < len(words)-1 {
			problems = append(problems, &SpecError{
				Operator: op.Name, Problem: "gives nothing to an operator after it", Example: "deadband band=0.5 | " + op.Example,
			})
		}
		c.name, c.custom, c.remembers = name, name != op.Name, c.remembers || !op.forgets
		c.operators, c.builders = append(c.operators, op.Name), append(c.builders, build)
		c.resources, texts = append(c.resources, resource), append(texts, op.Name+p.text.String())
	}
	c.text = strings.Join(texts, " | ")
	return c, errors.Join(problems...)
}

// parseOperator finds the operator and sorts its parameters; their values are read by its build function.
func parseOperator(text string) (*Operator, *params, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, nil, &SpecError{Problem: "nothing stands on one side of the bar", Example: "deadband band=0.5 | summary window=60s"}
	}
	op := find(words[0])
	if op == nil {
		return nil, nil, &SpecError{Operator: words[0], Problem: "is unknown; there are " + names(), Example: summaryOperator.Example}
	}
	p := &params{op: op, given: map[string]string{}}
	for _, word := range words[1:] {
		name, value, ok := strings.Cut(word, "=")
		if err := p.take(name, value, ok); err != nil {
			return nil, nil, err
		}
	}
	return op, p, nil
}

func (p *params) take(name, value string, ok bool) error {
	problem := ""
	known := p.op.all()
	_, twice := p.given[name]
	switch {
	case !ok:
		problem = "is not of the form name=value"
	case twice:
		problem = "is given twice"
	case !has(known, name):
		problem = "is unknown; there are " + listed(known)
	}
	p.given[name] = value
	if problem == "" {
		return nil
	}
	return &SpecError{Operator: p.op.Name, Parameter: name, Value: value, Problem: problem, Example: p.op.Example}
}

func has(list []Param, name string) bool {
	for _, p := range list {
		if p.Name == name {
			return true
		}
	}
	return false
}

func listed(list []Param) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.Name
	}
	return strings.Join(words, ", ")
}

func find(name string) *Operator {
	for _, op := range operators {
		if op.Name == name {
			return op
		}
	}
	return nil
}

func names() string {
	words := make([]string, len(operators))
	for i, op := range operators {
		words[i] = op.Name
	}
	return strings.Join(words, ", ")
}
