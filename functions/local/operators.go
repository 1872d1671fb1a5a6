package local

import "app-offload/functions/task"

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
