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

// params hands the parameters of one operator to its build function and collects what is wrong with them. Each is
// also written down in one canonical form: by that text a reload recognises an operator that did not change.
type params struct {
	op    *Operator
	given map[string]string
	text  strings.Builder
	errs  []error
	ends  bool // with these parameters the operator gives nothing to one after it
}

// value is what the user wrote, or the default.
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
		p.failf(name, "must lie between %v and %v", low, high)
	}
	p.note(name, d.String())
	return int64(max(d, low)) // a length of 0 would divide by 0
}

// number reads a finite number within [low, high]; an empty text is NaN.
func (p *params) number(name string, low, high float64) float64 {
	text := p.value(name)
	if text == "" {
		p.note(name, "")
		return math.NaN()
	}
	v, err := strconv.ParseFloat(text, 64)
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

// yes reads true or false. Only true is written down.
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

// oneOf reads one of some words.
func (p *params) oneOf(name string, words ...string) string {
	v := p.value(name)
	if !slices.Contains(words, v) {
		p.failf(name, "must be one of %s", strings.Join(words, ", "))
		v = words[0]
	}
	p.note(name, v)
	return v
}

// numbers reads a comma-separated list of at most most numbers, each within [low, high]; it comes back in ascending order.
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

// glob reads a glob on names.
func (p *params) glob(name string) string {
	if err := check.Glob(p.value(name)); err != nil {
		p.failf(name, "%v", err)
	}
	p.note(name, p.value(name))
	return p.value(name)
}

// word reads a part of a name: EdgeX puts names into topics, where only these characters are safe.
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

// Operator describes one operator, for documentation and for the checks of the configuration.
type Operator struct {
	Name    string
	Doc     string // what it does
	NotFor  string // when not to use it
	Example string
	Params  []Param

	// forgets says that the operator keeps nothing of what it has seen, so that it works on readings in any order.
	forgets bool

	// last says that the operator ends a chain: what it makes is a result, not a value for another operator.
	last  bool
	build func(p *params) func() stage
}

// Param is one parameter of an operator. Without a default it must be given.
type Param struct{ Name, Default, Doc string }

// shared are the parameters that every operator takes beside its own.
var shared = []Param{
	{"resource", "*", "glob on the names of the resources the chain works on"},
	{"name", "", "replaces the operator's name in the names of its results; needed where a class uses one operator twice"},
}

// operators is the list of all there are. An operator is a file with its description, its parameters and the state it
// keeps for one resource of one device; a model would be one more.
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

// all are the parameters an operator understands, its own first.
func (o *Operator) all() []Param { return append(append([]Param(nil), o.Params...), shared...) }

// stage is the state of one operator for one resource of one device. Only the worker of that device touches it.
type stage interface {
	// feed takes the values of one reading. It keeps nothing of in.
	feed(in *sample, out *outlet)
	// due is the next time (see Processor.now) at which wake must be called even if no reading comes; 0 for never.
	due() int64
	wake(now int64, out *outlet)
	// end gives out what is still held, since the state is about to be forgotten.
	end(why string, out *outlet)
}

// timeless is embedded by stages that do nothing without a reading.
type timeless struct{}

func (timeless) due() int64          { return 0 }
func (timeless) wake(int64, *outlet) {}
func (timeless) end(string, *outlet) {}

// sample is what one reading, or one stage before, offers to a stage. It is valid during the call only, and is read
// by several chains: no stage changes it.
type sample struct {
	values []float64 // finite, at least one
	ranks  []uint64  // the same exactly, of integers; nil for other types
	at     int64     // event time, ns since the Unix epoch
	now    int64     // this node's time, see Processor.now
	typ    task.ValueType
	text   []byte // a scalar's value as it came, nil for everything else
	units  string
	chunk  bool // one of several samples that belong to the same reading

	missing int // elements of the array that are no number, such as NaN, and left out of values
}
