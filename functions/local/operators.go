package local

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/task"
)

// CheckOperators reports every problem of a notation such as
//
//	summary window=60s slide=10s percentiles=50,95,99; deadband band=0.5 max=60s | rate; range low=-3 high=3
//
// Operators separated by a semicolon each read all values. After a bar, an operator reads the values that the operator before the bar passes, and
// only the last operator of such a chain publishes. Parameters are name=value, separated by blanks; a value contains no blanks. "" and "none" compute
// nothing. The errors inside are of type *SpecError.
func CheckOperators(notation string) error {
	_, err := parse(notation)
	return err
}

// maxChains is the maximum number of chains of a class: each chain costs memory for every resource.
const maxChains = 16

// chain is a list of operators joined by bars, from which the state of a resource is built.
type chain struct {
	text      string // canonical; identifies the chain across a reload
	operators []string
	builders  []func() stage
	resources []string // globs; all must match
	name      string   // in the names of results
	custom    bool     // the user chose the name
	remembers bool     // an operator needs the readings in order
}

// matches reports whether the chain processes the resource. The patterns are already validated.
func (c *chain) matches(resource string) bool {
	for _, glob := range c.resources {
		if glob != "*" && !check.Matches(glob, resource) {
			return false
		}
	}
	return true
}

// parse compiles a notation, or reports all its problems.
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

// distinct rejects two chains whose results would have the same names.
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
				Operator: op.Name, Problem: "must be the last operator of its chain", Example: "deadband band=0.5 | " + op.Example,
			})
		}
		c.name, c.custom, c.remembers = name, name != op.Name, c.remembers || !op.forgets
		c.operators, c.builders = append(c.operators, op.Name), append(c.builders, build)
		c.resources, texts = append(c.resources, resource), append(texts, op.Name+p.text.String())
	}
	c.text = strings.Join(texts, " | ")
	return c, errors.Join(problems...)
}

// parseOperator finds the operator and collects its parameters; the operator's build function reads their values.
func parseOperator(text string) (*Operator, *params, error) {
	words := strings.Fields(text)
	if len(words) == 0 {
		return nil, nil, &SpecError{Problem: "one side of the bar is empty", Example: "deadband band=0.5 | summary window=60s"}
	}
	op := find(words[0])
	if op == nil {
		meant := cmp.Or(find(check.Nearest(words[0], names())), &summaryOperator)
		return nil, nil, &SpecError{Operator: words[0], Problem: unknown(words[0], names()), Example: meant.Example}
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
		problem = unknown(name, listed(known))
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

func unknown(name string, known []string) string {
	return "is unknown" + check.DidYouMean(name, known) + "; there are " + strings.Join(known, ", ")
}

func listed(list []Param) []string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = p.Name
	}
	return words
}

func find(name string) *Operator {
	for _, op := range operators {
		if op.Name == name {
			return op
		}
	}
	return nil
}

func names() []string {
	words := make([]string, len(operators))
	for i, op := range operators {
		words[i] = op.Name
	}
	return words
}

// params provides the parameters of one operator to its build function and collects their problems. It also writes the parameters in a canonical
// form, by which a reload recognises an unchanged operator.
type params struct {
	op    *Operator
	given map[string]string
	text  strings.Builder
	errs  []error
	ends  bool // with these parameters the operator passes nothing to the next one
}

// value returns the given value, or the default.
func (p *params) value(name string) string {
	if v, ok := p.given[name]; ok {
		return v
	}
	for _, param := range p.op.all() {
		if param.Name == name {
			return param.Default
		}
	}
	return ""
}

func (p *params) failf(name, format string, args ...any) {
	p.errs = append(p.errs, &SpecError{
		Operator: p.op.Name, Parameter: name, Value: p.value(name),
		Problem: fmt.Sprintf(format, args...), Example: p.op.Example,
	})
}

func (p *params) note(name, canonical string) { fmt.Fprintf(&p.text, " %s=%s", name, canonical) }

// duration reads a Go duration within [low, high].
func (p *params) duration(name string, low, high time.Duration) int64 {
	d, err := time.ParseDuration(p.value(name))
	switch {
	case p.value(name) == "":
		p.failf(name, "is missing")
	case err != nil:
		p.failf(name, "is not a duration such as 500ms, 60s or 1h")
	case d < low || d > high:
		p.failf(name, "must be between %v and %v", low, high)
	}
	p.note(name, d.String())
	return int64(max(d, low)) // a length of 0 would divide by 0
}

// bound reads a finite number; an empty text gives NaN.
func (p *params) bound(name string) float64 {
	if p.value(name) == "" {
		p.note(name, "")
		return math.NaN()
	}
	return p.number(name, -math.MaxFloat64, math.MaxFloat64)
}

// number reads a finite number within [low, high].
func (p *params) number(name string, low, high float64) float64 {
	v, err := strconv.ParseFloat(p.value(name), 64)
	switch good := err == nil && v >= low && v <= high; {
	case good:
	case low == -math.MaxFloat64:
		p.failf(name, "must be a finite number")
	case high == math.MaxFloat64:
		p.failf(name, "must be a finite number from %v on", low)
	default:
		p.failf(name, "must be a number between %v and %v", low, high)
	}
	p.note(name, strconv.FormatFloat(v, 'g', -1, 64))
	return v
}

// whole reads a whole number within [low, high].
func (p *params) whole(name string, low, high int) int {
	v, err := strconv.Atoi(p.value(name))
	if err != nil || v < low || v > high {
		p.failf(name, "must be a whole number between %d and %d", low, high)
	}
	p.note(name, strconv.Itoa(v))
	return v
}

// yes reads true or false. Only true is part of the canonical text.
func (p *params) yes(name string) bool {
	v, err := strconv.ParseBool(p.value(name))
	if err != nil {
		p.failf(name, "must be true or false")
	}
	if v {
		p.note(name, "true")
	}
	return v
}

// oneOf reads one of the given words.
func (p *params) oneOf(name string, words ...string) string {
	v := p.value(name)
	if !slices.Contains(words, v) {
		p.failf(name, "must be one of %s", strings.Join(words, ", "))
		v = words[0]
	}
	p.note(name, v)
	return v
}

// numbers reads a comma-separated list of at most most numbers, each within [low, high], and returns it in ascending order.
func (p *params) numbers(name string, low, high float64, most int) []float64 {
	var list []float64
	for word := range strings.SplitSeq(p.value(name), ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		v, err := strconv.ParseFloat(word, 64)
		if err != nil || !(v >= low && v <= high) {
			p.failf(name, "must be a comma-separated list of numbers between %v and %v, not %q", low, high, word)
			continue
		}
		list = append(list, v)
	}
	if len(list) > most {
		p.failf(name, "must have at most %d numbers, it has %d", most, len(list))
	}
	slices.Sort(list)
	list = slices.Compact(list)
	p.note(name, fmt.Sprint(list))
	return list
}

// glob reads a glob for names.
func (p *params) glob(name string) string {
	if err := check.Glob(p.value(name)); err != nil {
		p.failf(name, "%v", err)
	}
	p.note(name, p.value(name))
	return p.value(name)
}

// word reads a part of a name. EdgeX puts names into topics, where only these characters are safe.
func (p *params) word(name, fallback string) string {
	v := p.value(name)
	if strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" || len(v) > 64 {
		p.failf(name, "must be at most 64 letters, digits, _ and -")
	}
	p.note(name, v)
	if v == "" {
		return fallback
	}
	return v
}

// Operator describes one operator, for documentation and for the validation of the configuration.
type Operator struct {
	Name    string
	Doc     string // its effect
	NotFor  string // when not to use it
	Example string
	Params  []Param

	// forgets means that the operator keeps no history, so it accepts readings in any order.
	forgets bool

	// last means that the operator ends a chain: its output is a result, not a value for another operator.
	last  bool
	build func(p *params) func() stage
}

// Param is one parameter of an operator. A parameter without a default is required.
type Param struct{ Name, Default, Doc string }

// shared are the parameters that every operator has in addition to its own.
var shared = []Param{
	{"resource", "*", "glob on the names of the resources the chain works on"},
	{"name", "", "replaces the operator's name in the names of its results; needed where a class uses one operator twice"},
}

// operators lists all operators. Each has a file with its description, its parameters and its state for one resource of one device.
var operators = []*Operator{&summaryOperator, &deadbandOperator, &deadtimeOperator, &rangeOperator, &rateOperator, &anomalyOperator, &burnOperator}

// Operators lists the operators with their own and the common parameters.
func Operators() []Operator {
	list := make([]Operator, len(operators))
	for i, op := range operators {
		list[i] = *op
		list[i].Params = op.all()
	}
	return list
}

// all returns all parameters of an operator, its own first.
func (o *Operator) all() []Param { return append(append([]Param(nil), o.Params...), shared...) }

// stage is the state of one operator for one resource of one device. Only the worker of that device uses it.
type stage interface {
	// feed processes the values of one reading. It must not keep references to in.
	feed(in *sample, out *outlet)
	// due returns the next time (see Processor.now) at which wake must be called even without a reading; 0 means never.
	due() int64
	wake(now int64, out *outlet)
	// end publishes the held values, since the state is about to be discarded.
	end(why string, out *outlet)
}

// timeless is embedded by stages that act only on readings.
type timeless struct{}

func (timeless) due() int64          { return 0 }
func (timeless) wake(int64, *outlet) {}
func (timeless) end(string, *outlet) {}

// sample is the input of a stage: the values of a reading, or the output of the previous stage. It is valid only during the call. Several chains read
// it, so stages must not change it.
type sample struct {
	values []float64 // finite, at least one
	ranks  []uint64  // exact values of integers; nil for other types
	at     int64     // event time, ns since the Unix epoch
	now    int64     // this node's time, see Processor.now
	typ    task.ValueType
	text   []byte // the original text of a scalar, nil otherwise
	units  string // not part of an event's bytes, so stages may keep it
	chunk  bool   // one of several samples of one reading

	missing int // elements of the array that are not numbers, such as NaN, and are not in values
}
