package tflite

import (
	"math"
	"sync"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

var recurrent = map[int]builder{
	27: {"SVDF", (*compiler).svdf},
	44: {"UNIDIRECTIONAL_SEQUENCE_LSTM", (*compiler).lstm},
}

// Inputs of a sequence LSTM by their numbers: four gates each for inputs, recurrence and bias.
const (
	lstmInput     = 0
	lstmWeights   = 1  // to input, forget, cell and output gate
	lstmRecurrent = 5  // to input, forget, cell and output gate
	lstmPeephole  = 9  // three
	lstmBias      = 12 // four
	lstmProject   = 16 // two
	lstmState     = 18
	lstmCell      = 19
	lstmNorm      = 20 // four
)

// Gates in the order of the file.
const (
	gateIn = iota
	gateForget
	gateCell
	gateOut
	gates
)

var (
	logistic16 = sync.OnceValue(kernel.Logistic16)
	tanh16     = [7]func() *kernel.Curve{}
)

func init() {
	for n := range tanh16 {
		tanh16[n] = sync.OnceValue(func() *kernel.Curve { return kernel.Tanh16(n) })
	}
}

// sequence is the shape of a recurrent layer.
type sequence struct {
	batches, times, inputs, states int
	timeMajor                      bool
}

// at returns the position of one time of one batch among inputs or outputs of a width.
func (q *sequence) at(batch, time, width int) int {
	if q.timeMajor {
		return (time*q.batches + batch) * width
	}
	return (batch*q.times + time) * width
}

func (c *compiler) lstm() {
	in := c.in(lstmInput, engine.Float32, engine.Int8)
	state, cell := c.in(lstmState, in.Type), c.in(lstmCell)
	out := c.out(0, in.Type)
	for _, i := range []int{lstmPeephole, lstmPeephole + 1, lstmPeephole + 2, lstmProject, lstmProject + 1, lstmNorm, lstmNorm + 1, lstmNorm + 2, lstmNorm + 3} {
		if c.optional(i) != nil {
			c.fail("peepholes, projection and layer normalisation are not supported")
		}
	}
	c.rank(in, 3)
	c.rank(state, 2)
	o := c.op.options
	if o.int8(0) != 4 {
		c.fail("fused activation %d is not supported, only tanh", o.int8(0))
	}
	q := sequence{batches: in.Shape[0], times: in.Shape[1], inputs: in.Shape[2], states: state.Shape[1], timeMajor: o.bool(3)}
	if q.timeMajor {
		q.batches, q.times = q.times, q.batches
	}
	n := q.batches * q.states
	if state.Elements() != n || cell.Elements() != n || out.Elements() != n*q.times || n == 0 || q.inputs == 0 || max(q.inputs, q.states) > maxInputs {
		c.fail("input %v, state %v and cell %v do not make %v", in.Shape, state.Shape, cell.Shape, out.Shape)
	}
	var w, r, b [gates]*value
	for g := range gates {
		w[g], r[g] = c.constant(lstmWeights+g, in.Type), c.constant(lstmRecurrent+g, in.Type)
		b[g] = c.biasOf(lstmBias+g, q.states, map[engine.Type]engine.Type{engine.Float32: engine.Float32, engine.Int8: engine.Int32}[in.Type])
		if w[g].Elements() != q.states*q.inputs || r[g].Elements() != q.states*q.states {
			c.fail("the weights of gate %d do not fit %d inputs and %d states", g, q.inputs, q.states)
		}
	}
	c.s.macs += c.work(q.batches, q.times, gates, q.states, q.inputs+q.states)
	clip := o.float32(1)
	if in.Type == engine.Float32 {
		c.lstmFloat(q, in, out, state, cell, w, r, b, clip)
		return
	}
	c.lstmInt8(q, in, out, state, cell, w, r, b, clip)
}

func (c *compiler) lstmFloat(q sequence, in, out, state, cell *value, w, r, b [gates]*value, clip float32) {
	if cell.Type != engine.Float32 {
		c.fail("the cell state is %s", cell.Type)
	}
	gate, back := make([]float32, gates*q.states), make([]float32, gates*q.states)
	sigmoid := func(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
	c.step(func() {
		for batch := range q.batches {
			h, s := state.F32[batch*q.states:][:q.states], cell.F32[batch*q.states:][:q.states]
			for time := range q.times {
				x := in.F32[q.at(batch, time, q.inputs):][:q.inputs]
				for g := range gates {
					to, from := gate[g*q.states:][:q.states], back[g*q.states:][:q.states]
					kernel.GemmF32(to, x, w[g].F32, 1, q.states, q.inputs)
					kernel.GemmF32(from, h, r[g].F32, 1, q.states, q.states)
					for i := range to {
						to[i] += from[i]
						if b[g] != nil {
							to[i] += b[g].F32[i]
						}
					}
				}
				for i := range q.states {
					s[i] = sigmoid(gate[gateForget*q.states+i])*s[i] + sigmoid(gate[i])*float32(math.Tanh(float64(gate[gateCell*q.states+i])))
					if clip > 0 {
						s[i] = min(max(s[i], -clip), clip)
					}
					h[i] = sigmoid(gate[gateOut*q.states+i]) * float32(math.Tanh(float64(s[i])))
				}
				copy(out.F32[q.at(batch, time, q.states):], h)
			}
		}
	})
}

// half is one of the two products of a gate: of the inputs, or of the previous state.
type half struct {
	packed *kernel.Packed
	bias   []int32
	to     kernel.Multiplier // to 3 integer bits
}

const (
	gateScale  = 1.0 / (1 << 12) // arguments of the gates have 3 integer bits
	curveScale = 1.0 / (1 << 15) // their results have no integer bits
)

func (c *compiler) half(in, w, bias *value, n, k int) half {
	folded := c.folded(bias, w, in.Zero, n, k, func(j, i int) int { return j*k + i })
	return half{c.packWeights(w, n, k), folded, kernel.NewMultiplier(float64(in.Scale) * float64(w.Scale) / gateScale)}
}

// lstmInt8 has 8-bit inputs, weights and outputs, and a 16-bit cell whose scale is a power of two.
func (c *compiler) lstmInt8(q sequence, in, out, state, cell *value, w, r, b [gates]*value, clip float32) {
	power := math.Log2(float64(cell.Scale))
	integers := int(math.Round(power)) + 15
	if cell.Type != engine.Int16 || power != math.Round(power) || integers < 0 || integers > 6 {
		c.fail("the cell state %s must be int16 with a scale that is a power of two from 2⁻¹⁵ to 2⁻⁹", &cell.Spec)
	}
	var fromIn, fromState [gates]half
	for g := range gates {
		fromIn[g], fromState[g] = c.half(in, w[g], b[g], q.states, q.inputs), c.half(state, r[g], nil, q.states, q.states)
	}
	sigmoid, squash, tanhCell := logistic16(), tanh16[3](), tanh16[integers]()
	sums, gate := c.scratch(q.states), make([]int16, gates*q.states)
	hidden := kernel.NewMultiplier(curveScale * curveScale / float64(state.Scale))
	most := int32(math.MaxInt16)
	if clip > 0 {
		most = int32(min(float64(clip)/float64(cell.Scale), math.MaxInt16))
	}
	cellShift := 30 + int(math.Round(power))
	c.step(func() {
		for batch := range q.batches {
			h, s := state.I8[batch*q.states:][:q.states], cell.I16[batch*q.states:][:q.states]
			for time := range q.times {
				x := in.I8[q.at(batch, time, q.inputs):][:q.inputs]
				for g := range gates {
					to := gate[g*q.states:][:q.states]
					clear(to)
					fromIn[g].add(to, sums, x)
					fromState[g].add(to, sums, h)
				}
				for i := range q.states {
					forget, take := sigmoid.At(gate[gateForget*q.states+i]), sigmoid.At(gate[i])
					kept := kernel.RoundingShift(int32(forget)*int32(s[i]), 15)
					fresh := kernel.RoundingShift(int32(take)*int32(squash.At(gate[gateCell*q.states+i])), cellShift)
					s[i] = kernel.Clamp16(min(max(int32(kernel.Clamp16(kept+fresh)), -most), most))
					if clip <= 0 {
						s[i] = kernel.Clamp16(kept + fresh)
					}
					v := int32(sigmoid.At(gate[gateOut*q.states+i])) * int32(tanhCell.At(s[i]))
					h[i] = int8(min(max(hidden.Apply(v)+state.Zero, math.MinInt8), math.MaxInt8)) //nolint:gosec // held within int8
				}
				copy(out.I8[q.at(batch, time, q.states):], h)
			}
		}
	})
}

// add adds the product to a gate, saturated to 16 bits.
func (h *half) add(to []int16, sums []int32, x []int8) {
	h.packed.Gemm(sums, x, 1)
	for i, s := range sums {
		to[i] = kernel.Clamp16(int32(to[i]) + h.to.Apply(s+h.bias[i]))
	}
}

// filters is the plan of a layer of low-rank filters over time: features of each input, then a filter over the latest ones.
type filters struct {
	in, feature, time, state, out           *value
	batches, inputs, n, memory, rank, units int
	activation                              int
}

func (c *compiler) svdf() {
	in := c.in(0, engine.Float32, engine.Int8)
	f := filters{in: in, feature: c.constant(1, in.Type), time: c.constant(2), state: c.in(4), out: c.out(0, in.Type)}
	for _, v := range []*value{in, f.feature, f.time} {
		c.rank(v, 2)
	}
	f.rank, f.activation = c.op.options.int32(0, 0), c.op.options.int8(1)
	f.batches, f.inputs, f.n, f.memory = in.Shape[0], in.Shape[1], f.feature.Shape[0], f.time.Shape[1]
	if f.rank < 1 || f.n%f.rank != 0 || f.n == 0 || f.inputs == 0 || f.memory == 0 || f.inputs > maxInputs || f.feature.Shape[1] != f.inputs || f.time.Shape[0] != f.n ||
		f.state.Elements() != f.batches*f.n*f.memory || f.out.Elements() != f.batches*(f.n/f.rank) {
		c.fail("input %v, filters %v, times %v, state %v and rank %d do not make %v", in.Shape, f.feature.Shape, f.time.Shape, f.state.Shape, f.rank, f.out.Shape)
	}
	f.units = f.n / f.rank
	c.s.macs += c.work(f.batches, f.n, f.inputs+f.memory)
	if in.Type == engine.Float32 {
		f.floats(c)
	} else {
		f.int8s(c)
	}
}

func (f filters) int8s(c *compiler) {
	in, state, time, out := f.in, f.state, f.time, f.out
	if state.Type != engine.Int16 || time.Type != engine.Int16 {
		c.fail("state and times must be int16, they are %s and %s", state.Type, time.Type)
	}
	bias := c.biasOf(3, f.units, engine.Int32)
	one := kernel.NewMultiplier(float64(in.Scale) * float64(f.feature.Scale) / float64(state.Scale))
	two := kernel.NewMultiplier(float64(state.Scale) * float64(time.Scale) / float64(out.Scale))
	low, top := c.quantBounds(f.activation, out)
	folded := c.folded(nil, f.feature, in.Zero, f.n, f.inputs, func(j, i int) int { return j*f.inputs + i })
	packed, sums := c.packWeights(f.feature, f.n, f.inputs), c.scratch(f.n)
	c.step(func() {
		for b := range f.batches {
			packed.Gemm(sums, in.I8[b*f.inputs:(b+1)*f.inputs], 1)
			for k := range f.n {
				s := state.I16[(b*f.n+k)*f.memory:][:f.memory]
				copy(s, s[1:])
				s[f.memory-1] = kernel.Clamp16(one.Apply(sums[k] + folded[k]))
				sums[k] = 0
				for i, w := range time.I16[k*f.memory:][:f.memory] {
					sums[k] += int32(w) * int32(s[i])
				}
			}
			for u := range f.units {
				var v int32
				if bias != nil {
					v = bias.I32[u]
				}
				for _, s := range sums[u*f.rank : (u+1)*f.rank] {
					v += s
				}
				out.I8[b*f.units+u] = int8(min(max(two.Apply(v)+out.Zero, low), top)) //nolint:gosec // held within int8
			}
		}
	})
}

func (f filters) floats(c *compiler) {
	in, state, time, out := f.in, f.state, f.time, f.out
	if state.Type != engine.Float32 || time.Type != engine.Float32 {
		c.fail("state and times must be float32, they are %s and %s", state.Type, time.Type)
	}
	low, top := c.bounds(f.activation)
	bias := c.biasOf(3, f.units, engine.Float32)
	features := make([]float32, f.n)
	c.step(func() {
		for b := range f.batches {
			kernel.GemmF32(features, in.F32[b*f.inputs:(b+1)*f.inputs], f.feature.F32, 1, f.n, f.inputs)
			for u := range f.units {
				var v float32
				if bias != nil {
					v = bias.F32[u]
				}
				for k := u * f.rank; k < (u+1)*f.rank; k++ {
					s := state.F32[(b*f.n+k)*f.memory:][:f.memory]
					copy(s, s[1:])
					s[f.memory-1] = features[k]
					for i, w := range time.F32[k*f.memory:][:f.memory] {
						v += w * s[i]
					}
				}
				out.F32[b*f.units+u] = min(max(v, low), top)
			}
		}
	})
}
