package tflite

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

const (
	addCode, reluCode, callOnce, varHandle, readVariable, assignVariable = 0, 19, 129, 142, 143, 144
)

// applied is one of several operators of a model, with the indices of its tensors.
type applied struct {
	code      int
	options   object
	ins, outs ints
}

// graphOf is a subgraph; a tensor without a type is the handle of a variable.
type graphOf struct {
	tensors   []arg
	ins, outs ints
	operators []applied
}

func modelOf(graphs ...graphOf) []byte {
	buffers, codes, places := []object{{}}, list{}, map[int]int{}
	var all list
	for _, g := range graphs {
		var tensors, operators list
		for i, a := range g.tensors {
			if a.kind == engine.Invalid {
				tensors = append(tensors, object{0: ints{}, 1: scalar(typeResource), 3: text(fmt.Sprint("t", i))})
				continue
			}
			tensors = append(tensors, a.object(&buffers, fmt.Sprint("t", i)))
		}
		for _, o := range g.operators {
			if _, ok := places[o.code]; !ok {
				places[o.code] = len(codes)
				codes = append(codes, object{0: scalar(min(uint32(o.code), 127)), 2: scalar(1), 3: scalar(uint32(o.code))})
			}
			operators = append(operators, object{0: scalar(uint32(places[o.code])), 1: o.ins, 2: o.outs, 3: scalar(1), 4: o.options})
		}
		all = append(all, object{0: tensors, 1: g.ins, 2: g.outs, 3: operators, 4: text("g")})
	}
	return flat(object{0: scalar(3), 1: codes, 2: all, 3: text("test"), 4: list(buffers)})
}

func named(container, name string) object { return object{0: text(container), 1: text(name)} }

// counting returns a model that adds its input to a variable and outputs the sum. first is the variable's initial value, if any.
func counting(of arg, first ...float64) []byte {
	main := graphOf{
		tensors: []arg{of, {}, of, of},
		ins:     ints{0}, outs: ints{3},
		operators: []applied{
			{callOnce, object{0: scalar(1)}, nil, nil},
			{varHandle, named("box", "sum"), nil, ints{1}},
			{readVariable, object{}, ints{1}, ints{2}},
			{addCode, object{}, ints{2, 0}, ints{3}},
			{assignVariable, object{}, ints{1, 3}, nil},
		},
	}
	once := graphOf{tensors: []arg{{}, of.file(first...)}, operators: []applied{
		{varHandle, named("box", "sum"), nil, ints{0}}, {assignVariable, object{}, ints{0, 1}, nil},
	}}
	if first == nil {
		return modelOf(graphOf{tensors: main.tensors, ins: main.ins, outs: main.outs, operators: main.operators[1:]})
	}
	return modelOf(main, once)
}

// A variable persists between runs. A session begins with the file's value, or with zero, and does so again after Reset.
func TestVariablesOutliveARun(t *testing.T) {
	for name, of := range map[string]arg{"float": f32(2), "int8": i8(1, 5, 2)} {
		for _, first := range [][]float64{{20, 30}, nil} {
			p, err := Load(counting(of, first...), Limits{})
			require.NoError(t, err, name)
			for range 2 {
				s, err := p.NewSession()
				require.NoError(t, err)
				for range 2 {
					for run := range 3 {
						setNumber(s.Inputs()[0], 0, 1+float64(of.zero))
						setNumber(s.Inputs()[0], 1, 2+float64(of.zero))
						require.NoError(t, s.Run())
						for i, begin := range []float64{0, 0} {
							if first != nil {
								begin = first[i] - float64(of.zero)
							}
							require.InDelta(t, begin+float64((run+1)*(i+1)), numbers(s.Outputs()[0])[i]-float64(of.zero), 0, "%s from %v, run %d", name, first, run)
						}
					}
					s.Reset()
				}
			}
		}
	}
}

// Variables are distinguished by container and name, and used with their own type and shape.
func TestVariablesAreUsedAsWhatTheyAre(t *testing.T) {
	handle := func(container, name string, at int) applied {
		return applied{varHandle, named(container, name), nil, ints{at}}
	}
	assign := func(h, from int) applied { return applied{assignVariable, object{}, ints{h, from}, nil} }
	read := func(h, to int) applied { return applied{readVariable, object{}, ints{h}, ints{to}} }
	x, other := f32(2), f32(3)
	p, err := Load(modelOf(graphOf{[]arg{x, {}, {}, {}, x, x, x}, ints{0}, ints{4, 5, 6}, []applied{
		handle("a", "v", 1), handle("b", "v", 2), handle("a", "v", 3), assign(1, 0), read(1, 4), read(2, 5), read(3, 6),
	}}), Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	copy(s.Inputs()[0].F32, []float32{3, 4})
	require.NoError(t, s.Run())
	require.Equal(t, []float32{3, 4}, s.Outputs()[0].F32)
	require.Equal(t, []float32{0, 0}, s.Outputs()[1].F32, "the variable of that name in another container")
	require.Equal(t, []float32{3, 4}, s.Outputs()[2].F32, "another handle of the same variable")

	many := graphOf{tensors: []arg{x}, ins: ints{0}, outs: ints{0}}
	for i := range maxVariables + 1 {
		many.tensors = append(many.tensors, arg{})
		many.operators = append(many.operators, handle("a", fmt.Sprint(i), i+1), assign(i+1, 0))
	}
	fewer := many
	fewer.operators = many.operators[:2*maxVariables]
	_, err = Load(modelOf(fewer), Limits{})
	require.NoError(t, err)
	nested := func(n int) []byte {
		list := []graphOf{{tensors: []arg{x}, ins: ints{0}, outs: ints{0}}}
		for i := range n {
			list[i].operators = []applied{{callOnce, object{0: scalar(uint32(i + 1))}, nil, nil}}
			list = append(list, graphOf{})
		}
		return modelOf(list...)
	}
	_, err = Load(nested(maxCalls), Limits{})
	require.NoError(t, err)
	inner := graphOf{tensors: []arg{x, f32(3)}, ins: ints{0}, operators: []applied{{reluCode, object{}, ints{0}, ints{1}}}}
	for want, file := range map[string][]byte{
		"more than 256 variables": modelOf(many),
		`operator 2 (READ_VARIABLE): the variable "a/v" is float32[2] and is used as float32[3]`:            modelOf(graphOf{[]arg{x, {}, other}, ints{0}, ints{2}, []applied{handle("a", "v", 1), assign(1, 0), read(1, 2)}}),
		`the variable "a/v" is float32[2] and is used as int32[2]`:                                          modelOf(graphOf{[]arg{x, {}, x.of(engine.Int32)}, ints{0}, ints{2}, []applied{handle("a", "v", 1), assign(1, 0), read(1, 2)}}),
		`operator 0 (ASSIGN_VARIABLE): input "t1" is not a handle of a variable`:                            modelOf(graphOf{[]arg{x, {}}, ints{0}, ints{0}, []applied{assign(1, 0)}}),
		`operator 0 (READ_VARIABLE): input "t0" is not a handle of a variable`:                              modelOf(graphOf{[]arg{x, x}, ints{0}, ints{1}, []applied{read(0, 1)}}),
		"operator 0 (VAR_HANDLE): output \"t1\" is float32, expected a handle":                              modelOf(graphOf{[]arg{x, x}, ints{0}, ints{0}, []applied{handle("a", "v", 1)}}),
		"operator 0 (VAR_HANDLE): it has 0 outputs":                                                         modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, []applied{{varHandle, object{}, nil, nil}}}),
		"operator 0 (VAR_HANDLE): it has 2 outputs":                                                         modelOf(graphOf{[]arg{x, {}, {}}, ints{0}, ints{0}, []applied{{varHandle, object{}, nil, ints{1, 2}}}}),
		"operator 0 (VAR_HANDLE): it has 1 outputs":                                                         modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, []applied{{varHandle, object{}, nil, ints{-1}}}}),
		"operator 0 (CALL_ONCE): it calls subgraph 1 of 1":                                                  modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, []applied{{callOnce, object{0: scalar(1)}, nil, nil}}}),
		"operator 0 (CALL_ONCE): it calls subgraph -1 of 1":                                                 modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, []applied{{callOnce, object{0: signedBits(-1)}, nil, nil}}}),
		"operator 0 (CALL_ONCE): operator 0 (RELU): t0 float32[2] and t1 float32[3] differ in type or size": modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, []applied{{callOnce, object{0: scalar(1)}, nil, nil}}}, inner),
		"subgraphs call each other without end":                                                             nested(maxCalls + 1),
		`operator 0 (RELU): input 0 ("t1"): no earlier operator computes it`:                                modelOf(graphOf{[]arg{x, x, x}, ints{0}, ints{2}, []applied{{reluCode, object{}, ints{1}, ints{2}}}}),
		`output "t1": no operator computes it`:                                                              modelOf(graphOf{[]arg{x, x}, ints{0}, ints{1}, nil}),
		"operator 0 (RELU): it names tensor 2 of 2":                                                         modelOf(graphOf{[]arg{x, x}, ints{0}, ints{1}, []applied{{reluCode, object{}, ints{2}, ints{1}}}}),
		"operator 0 (RELU): it names tensor -2 of 2":                                                        modelOf(graphOf{[]arg{x, x}, ints{0}, ints{1}, []applied{{reluCode, object{}, ints{-2}, ints{1}}}}),
		"operator 0 (RELU): it names tensor 3 of 2":                                                         modelOf(graphOf{[]arg{x, x}, ints{0}, ints{1}, []applied{{reluCode, object{}, ints{0}, ints{3}}}}),
		"the subgraph names tensor 1 of 1":                                                                  modelOf(graphOf{[]arg{x}, ints{1}, ints{0}, nil}),
		"the subgraph names tensor -1 of 1":                                                                 modelOf(graphOf{[]arg{x}, ints{0}, ints{-1}, nil}),
		"operator 0 (RELU): output 0 (\"t0\") is a constant":                                                modelOf(graphOf{[]arg{x.file(1, 2), x}, ints{1}, ints{1}, []applied{{reluCode, object{}, ints{1}, ints{0}}}}),
		"not supported: CUSTOM (operator 0 of subgraph 0), operator code 77777 (operator 1 of subgraph 0)":  modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, []applied{{codeCustom, object{}, nil, nil}, {77777, object{}, nil, nil}}}),
		"the model has no subgraph":                                                                         modelOf(),
	} {
		_, err := Load(file, Limits{})
		require.ErrorContains(t, err, want)
	}
	var unknown []applied
	for range 12 {
		unknown = append(unknown, applied{codeCustom, object{}, nil, nil})
	}
	_, err = Load(modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, unknown}), Limits{})
	require.ErrorContains(t, err, "(operator 9 of subgraph 0) and 2 more")
	_, err = Load(modelOf(graphOf{[]arg{x}, ints{0}, ints{0}, unknown[:10]}), Limits{})
	require.NotContains(t, err.Error(), "more")
}

// A file may reach its limits, but not exceed them.
func TestLimitsAreTheMostThatAFileMayHave(t *testing.T) {
	x := f32(2)
	file := modelOf(graphOf{[]arg{x, x, x}, ints{0}, ints{2}, []applied{{reluCode, object{}, ints{0}, ints{1}}, {reluCode, object{}, ints{1}, ints{2}}}})
	for want, limits := range map[string]Limits{
		"3 tensors, at most 2 are allowed":             {MaxTensors: 2},
		"more than 1 operators":                        {MaxOperator: 1},
		"the tensors of a run take more than 23 bytes": {MaxBytes: 23},
		"": {MaxTensors: 3, MaxOperator: 2, MaxBytes: 24},
	} {
		p, err := Load(file, limits)
		if want != "" {
			require.ErrorContains(t, err, want)
			continue
		}
		require.NoError(t, err)
		require.EqualValues(t, 24, p.Info().Session)
		require.EqualValues(t, 24, p.Info().Bytes)
		require.Equal(t, []string{"RELU"}, p.Info().Operators)
	}
	weights := graphOf{[]arg{x, x.file(1, 2), x, x.file(3, 4)}, ints{0}, ints{2}, []applied{{addCode, object{}, ints{0, 1}, ints{2}}}}
	_, err := Load(modelOf(weights), Limits{MaxBytes: 15})
	require.ErrorContains(t, err, "tensor 3: constants take more than 15 bytes")
	p, err := Load(modelOf(weights), Limits{MaxBytes: 16})
	require.NoError(t, err)
	require.Equal(t, 4, p.Info().Parameters)
	require.EqualValues(t, 32, p.Info().Bytes)
	require.Equal(t, Limits{256 << 20, 20_000, 20_000, 1e12}, Limits{}.orDefault())
}

// Weights prepared for all sessions count as memory, once.
func TestPreparedWeightsCount(t *testing.T) {
	dense := one{9, object{}, []arg{f32(1, 4), i8(1, 0, 3, 4).file(make([]float64, 12)...)}, []arg{f32(1, 3)}}
	p, err := Load(dense.bytes(), Limits{})
	require.NoError(t, err)
	require.EqualValues(t, 12+48+28, p.Info().Bytes, "weights, the same as float32, and both tensors")
	_, err = p.NewSession()
	require.NoError(t, err)
	require.EqualValues(t, 48, p.prepared)
	_, err = Load(dense.bytes(), Limits{MaxBytes: 60})
	require.NoError(t, err)
	_, err = Load(dense.bytes(), Limits{MaxBytes: 59})
	require.ErrorContains(t, err, "prepared weights take more than 59 bytes")
}

// A tensor's data, type, shape and scales are checked when they are read.
func TestTensorsAreChecked(t *testing.T) {
	load := func(fields object, buffers ...object) error {
		tensor := object{0: ints{2}, 1: scalar(0), 3: text("w")}
		for k, v := range fields {
			tensor[k] = v
		}
		x := object{0: ints{2}, 1: scalar(0), 3: text("x")}
		graph := object{0: list{x, tensor}, 1: ints{0}, 2: ints{0}, 4: text("g")}
		_, err := Load(flat(object{0: scalar(3), 1: list{}, 2: list{graph}, 4: list(append([]object{{}}, buffers...))}), Limits{})
		return err
	}
	eight := object{0: blob(make([]byte, 8))}
	require.NoError(t, load(object{2: scalar(1)}, eight))
	require.NoError(t, load(object{0: ints{1, 1, 1, 1, 1, 1, 1, 2}, 2: scalar(1)}, eight))
	require.NoError(t, load(object{0: ints{-1, 2}, 2: scalar(1)}, eight), "an unknown length is 1")
	require.NoError(t, load(object{0: ints{4}, 1: scalar(typeFloat16), 2: scalar(1)}, eight))
	require.NoError(t, load(object{2: scalar(1)}, object{0: blob{}}), "an empty buffer stands for no data")
	require.NoError(t, load(object{4: object{2: floats{1}, 3: longs{math.MaxInt32}}}))
	require.NoError(t, load(object{4: object{2: floats{1}, 3: longs{math.MinInt32}}}))
	for want, err := range map[string]error{
		`tensor 1: "w": float32[3] needs 12 bytes, its buffer has 8`: load(object{0: ints{3}, 2: scalar(1)}, eight),
		`tensor 1: "w": float32[0] needs 0 bytes, its buffer has 8`:  load(object{0: ints{0}, 2: scalar(1)}, eight),
		`tensor 1: "w": float32[2] needs 8 bytes, its buffer has 16`: load(object{1: scalar(typeFloat16), 2: scalar(1)}, eight),
		"a float16 buffer has 3 bytes":                               load(object{1: scalar(typeFloat16), 2: scalar(1)}, object{0: blob{1, 2, 3}}),
		`"w": float16 is supported in constants only`:                load(object{1: scalar(typeFloat16)}),
		`"w" has element type 8, which is not supported`:             load(object{1: scalar(8)}),
		`"w": 9 dimensions, at most 8 are supported`:                 load(object{0: ints{1, 1, 1, 1, 1, 1, 1, 1, 1}}),
		`"w": dimension 1 is -2`:                                     load(object{0: ints{1, -2}}),
		`"w": shape [65536 65536] has more than 268435456 elements`:  load(object{0: ints{65536, 65536}}),
		`"w": shape [0 65536 65536] has more than`:                   load(object{0: ints{0, 65536, 65536}}),
		`"w": buffer 2 of 2`:                                         load(object{2: scalar(2)}, eight),
		`"w": buffer -1 of 2`:                                        load(object{2: signedBits(-1)}, eight),
		`scale 0 of tensor "w" is 0`:                                 load(object{4: object{2: floats{0}}}),
		`scale 1 of tensor "w" is -1`:                                load(object{4: object{2: floats{1, -1}}}),
		`scale 0 of tensor "w" is NaN`:                               load(object{4: object{2: floats{float32(math.NaN())}}}),
		`scale 0 of tensor "w" is +Inf`:                              load(object{4: object{2: floats{float32(math.Inf(1))}}}),
		`the zero point of tensor "w" is 2147483648`:                 load(object{4: object{2: floats{1}, 3: longs{math.MaxInt32 + 1}}}),
		`the zero point of tensor "w" is -2147483649`:                load(object{4: object{2: floats{1}, 3: longs{math.MinInt32 - 1}}}),
	} {
		require.ErrorContains(t, err, want)
	}
}

// Every number of a file's structure may be wrong: reading it gives a model or an error with the place, and never a panic. Each reference that leaves
// the file is detected.
func TestEveryOffsetIsChecked(t *testing.T) {
	file := counting(i8(0.5, 5, 2), 20, 30)
	for n := range file {
		_, err := Load(file[:n], Limits{})
		require.Error(t, err, "the first %d bytes", n)
	}
	for at := range len(file) - 3 {
		for _, v := range []uint32{0, 1, 0x7fff, 0x7fffffff, 0x80000000, 0xffffffff} {
			bad := append([]byte{}, file...)
			bad[at], bad[at+1], bad[at+2], bad[at+3] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
			p, err := Load(bad, Limits{})
			if err == nil {
				s, err := p.NewSession()
				require.NoError(t, err)
				require.NoError(t, s.Run())
				continue
			}
			require.Regexp(t, `byte -?\d|tensor \d|operator|output|subgraph|schema version`, err.Error(), "%#x at byte %d", v, at)
		}
	}
	for _, c := range []struct {
		b    []byte
		want string
	}{
		{[]byte{0, 0, 0, 0, 'T', 'F', 'L', '3'}, "byte 0: the model: offset 0 does not stay in the file"},
		{[]byte{9, 0, 0, 0, 'T', 'F', 'L', '3'}, "byte 0: the model: offset 9 does not stay in the file"},
		{[]byte{8, 0, 0, 0, 'T', 'F', 'L', '3'}, "byte 8: the model of 4 bytes reaches beyond the end of the file (8 bytes)"},
		{[]byte{0, 0, 0, 0x80, 'T', 'F', 'L', '3'}, "byte 0: the model: 2147483648 is too large"},
		{[]byte{8, 0, 0, 0, 'T', 'F', 'L', '3', 12, 0, 0, 0}, "byte -4: the model's table of fields of 4 bytes reaches beyond"},
		{[]byte{8, 0, 0, 0, 'T', 'F', 'L', '3', 0xfc, 0xff, 0xff, 0xff, 3, 0, 0, 0}, "byte 12: the model has a table of fields of 3 bytes"},
		{[]byte{8, 0, 0, 0, 'T', 'F', 'L', '3', 0xfc, 0xff, 0xff, 0xff, 5, 0, 0, 0}, "byte 12: the model's table of fields of 5 bytes reaches beyond"},
		{[]byte{8, 0, 0, 0, 'T', 'F', 'L', '3', 0xfc, 0xff, 0xff, 0xff, 4, 0, 0, 0}, "schema version 0, this reader knows version 3"},
		{[]byte{8, 0, 0, 0, 'T', 'F', 'L'}, `byte 4: expected the mark "TFL3" of a TensorFlow Lite model, found "TFL"`},
	} {
		_, err := Load(c.b, Limits{})
		require.ErrorContains(t, err, c.want)
	}
}

// A writer names the invalid tensor or operator.
func TestAWriterNamesWhatCannotBe(t *testing.T) {
	write := func(f func(w *Writer)) error {
		w := &Writer{}
		w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, 4}})
		w.Ends([]int{0}, []int{0})
		f(w)
		_, err := w.Bytes()
		return err
	}
	require.NoError(t, write(func(*Writer) {}))
	require.NoError(t, write(func(w *Writer) { w.Int8s("w", make([]int8, 6), []float32{1, 2, 3}, 1, 2, 3) }))
	for want, err := range map[string]error{
		`operator 0 (RELU) names tensor 1 of 1`:                   write(func(w *Writer) { w.Operator("RELU", Options{}, []int{1}, 0) }),
		`operator 0 (RELU) names tensor -2 of 1`:                  write(func(w *Writer) { w.Operator("RELU", Options{}, []int{0}, -2) }),
		`tensor "w": dimension 0 is -3`:                           write(func(w *Writer) { w.Tensor(engine.Spec{Name: "w", Shape: []int{-3}}) }),
		`constant "w" has 3 scales for axis 0 of [2 3]`:           write(func(w *Writer) { w.Int8s("w", make([]int8, 6), []float32{1, 2, 3}, 0, 2, 3) }),
		`constant "w" has 3 scales for axis 2 of [2 3]`:           write(func(w *Writer) { w.Int8s("w", make([]int8, 6), []float32{1, 2, 3}, 2, 2, 3) }),
		`constant "w" has 3 scales for axis -1 of [2 3]`:          write(func(w *Writer) { w.Int8s("w", make([]int8, 6), []float32{1, 2, 3}, -1, 2, 3) }),
		`constant "w" has 5 elements for the shape [2 3]`:         write(func(w *Writer) { w.Int8s("w", make([]int8, 5), []float32{1}, 0, 2, 3) }),
		`constant "b" has 5 elements for the shape [6]`:           write(func(w *Writer) { w.Int32s("b", make([]int32, 5), nil, 6) }),
		"it has no inputs or no outputs":                          write(func(w *Writer) { w.Ends([]int{0}, nil) }),
		"writing a TensorFlow Lite model: it has no inputs or no": write(func(w *Writer) { w.Ends(nil, []int{0}) }),
	} {
		require.ErrorContains(t, err, want)
	}
}

// The options of a writer are in the file: another program reads the same layer.
func TestOptionsAreWritten(t *testing.T) {
	w := &Writer{}
	image, out := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, 9, 9, 1}}), 0
	add := func(name string, o Options, ins []int, shape ...int) {
		out = w.Tensor(engine.Spec{Name: name, Type: engine.Float32, Shape: shape})
		w.Operator(name, o, append([]int{image}, ins...), out)
	}
	filter := w.Floats("w", make([]float32, 4), 1, 2, 2, 1)
	add("CONV_2D", Options{Padding: Valid, Stride: [2]int{3, 1}, Dilate: [2]int{1, 4}, Activation: Relu6}, []int{filter}, 1, 3, 5, 1)
	add("DEPTHWISE_CONV_2D", Options{Padding: Valid, Stride: [2]int{1, 3}, Dilate: [2]int{4, 1}, Activation: ReluN1}, []int{filter}, 1, 5, 3, 1)
	add("MAX_POOL_2D", Options{Padding: Valid, Stride: [2]int{1, 2}, Filter: [2]int{3, 2}, Activation: Relu}, nil, 1, 7, 4, 1)
	add("AVERAGE_POOL_2D", Options{Stride: [2]int{2, 1}, Filter: [2]int{2, 3}}, nil, 1, 5, 9, 1)
	add("SOFTMAX", Options{Beta: 2}, nil, 1, 9, 9, 1)
	add("MEAN", Options{KeepDims: true}, []int{w.Int32s("axes", []int32{1, 2}, nil, 2)}, 1, 1, 1, 1)
	add("RESHAPE", Options{Shape: []int{9, 9}}, []int{w.Int32s("shape", []int32{9, 9}, nil, 2)}, 9, 9)
	for _, name := range []string{"ADD", "MUL", "SUB"} {
		add(name, Options{Activation: Relu6}, []int{image}, 1, 9, 9, 1)
	}
	add("SOFTMAX", Options{}, nil, 1, 9, 9, 1)
	w.Ends([]int{image}, []int{out})
	file, err := w.Bytes()
	require.NoError(t, err)
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	root := p.graph.r.table(p.graph.r.follow(0, "the model"), "the model")
	for i, tensor := range root.tables(2, "the graphs")[0].tables(0, "the tensors") {
		require.False(t, tensor.has(4), "tensor %d has no scale, and says nothing of it", i)
	}
	for i, want := range [][]int{ // fields of the schema's tables of options
		{1, 1, 3, 3, 4, 1},
		{1, 3, 1, 1, 2, 1, 4},
		{1, 2, 1, 2, 3, 1},
		{0, 1, 2, 3, 2, 0},
		{int(math.Float32bits(2))},
		{1},
		nil,
		{3},
		{3},
		{3},
		{int(math.Float32bits(1))},
	} {
		op := p.graph.subgraphs[0].operators[i]
		for field, v := range want {
			require.Equal(t, v, op.options.int32(field, 0), "%s, field %d", op.name, field)
		}
		if op.name == "RESHAPE" {
			require.Equal(t, []int{9, 9}, op.options.int32s(0, "the shape"))
		}
	}
}

// The version of an operator is the first one with tensors of its type, so that old interpreters accept as much as possible.
func TestVersionsAreThoseOfTheTypes(t *testing.T) {
	for name, want := range map[string]uint32{"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "RESHAPE": 1, "QUANTIZE": 1, "ADD": 2} {
		for code, b := range builders {
			if b.name != name {
				continue
			}
			w := &Writer{}
			w.Tensor(engine.Spec{Type: engine.Int8, Shape: []int{1}})
			w.Tensor(engine.Spec{Type: engine.Float32, Shape: []int{1}})
			require.Equal(t, want, w.version(step{code: code, inputs: []int{0}}), name)
			require.EqualValues(t, 1, w.version(step{code: code, inputs: []int{1}}), name)
			require.EqualValues(t, 1, w.version(step{code: code, inputs: []int{-1}}), name)
			require.EqualValues(t, 1, w.version(step{code: code}), name)
		}
	}
}

// Values in a file are aligned to their size, and data to 16 bytes: TensorFlow Lite reads them in place.
func TestWhatIsWrittenIsAligned(t *testing.T) {
	for n := range 9 { // names of any length shift what follows
		name := text("123456789"[:n])
		r := &reader{b: flat(object{0: name, 1: ints{1}, 2: longs{2}, 3: floats{3}, 4: blob{4}, 5: list{object{0: scalar(5)}, object{0: name}}, 6: object{0: name}, 7: name})}
		root := r.table(r.follow(0, "the root"), "the root")
		for field, by := range map[int]int{0: 4, 1: 4, 2: 8, 3: 4, 4: 16, 5: 4, 7: 4} {
			if at, n := root.vector(field, 1, "a vector"); n > 0 {
				require.Zero(t, at%by, "field %d with a name of %d", field, n)
			}
		}
		require.Zero(t, root.at%4)
		require.Zero(t, root.sub(6, "a table").at%4)
		for _, one := range root.tables(5, "tables") {
			require.Zero(t, one.at%4)
		}
		require.NoError(t, r.err)
	}
}

// Every kind of step is planned, each with the output of the previous one.
func TestAPlanOfEveryKind(t *testing.T) {
	file, err := int8Image(rand.New(rand.NewPCG(1, 2))).Bytes()
	require.NoError(t, err)
	p, err := Load(file, Limits{})
	require.NoError(t, err)
	plan, err := p.Plan()
	require.NoError(t, err)
	require.Equal(t, 7, plan.Tensors)
	require.Equal(t, 6, plan.Out)
	for i, want := range []Kind{PlanConv, PlanDepthwise, PlanAveragePool, PlanCopy, PlanDense, PlanSoftmax} {
		s := plan.Steps[i]
		require.Equal(t, []int{int(want), i, i + 1, []int{288, 288, 72, 72, 4, 4}[i]}, []int{int(s.Kind), s.In, s.Out, s.Size}, "step %d", i)
	}
	require.Len(t, plan.Steps, 6)
	softmax := plan.Steps[5]
	require.Equal(t, []int{1, 4, 256}, []int{softmax.Rows, softmax.K, len(softmax.Exps)})
	for i, e := range softmax.Exps {
		require.InEpsilon(t, math.Exp(0.3*float64(i-255)), e, 1e-5)
	}
	batch := one{17, object{0: scalar(1), 1: scalar(1), 2: scalar(1), 3: scalar(2), 4: scalar(2)}, []arg{i8(1, 0, 2, 3, 3, 1)}, []arg{i8(1, 0, 2, 2, 2, 1)}}
	p, err = Load(batch.bytes(), Limits{})
	require.NoError(t, err)
	_, err = p.Plan()
	require.ErrorContains(t, err, "these operators cannot be planned: [MAX_POOL_2D (operator 0)]", "batches")
}

// A plan equals the run of an int8 model, step by step; other models are rejected with the reason.
func TestPlans(t *testing.T) {
	signal, x := i8(0.5, 3, 1, 4, 4, 2), f32(2)
	layer := one{3, object{0: scalar(1), 1: scalar(1), 2: scalar(1), 3: scalar(1)}, []arg{signal, i8(1, 0, 3, 2, 2, 2).channels([]float32{0.1, 0.2, 0.3}).file(make([]float64, 24)...), held(10, -20, 30)}, []arg{i8(0.25, -7, 1, 3, 3, 3)}}
	p, err := Load(layer.bytes(), Limits{})
	require.NoError(t, err)
	plan, err := p.Plan()
	require.NoError(t, err)
	require.Equal(t, []int{2, 1, 1}, []int{plan.Tensors, plan.Out, len(plan.Steps)})
	s := plan.Steps[0]
	require.Equal(t, []int{int(PlanConv), 0, 1, 27, 1, 3, 8}, []int{int(s.Kind), s.In, s.Out, s.Size, s.Rows, s.N, s.K})
	require.Equal(t, []int32{10, -20, 30}, s.Bias)
	require.Equal(t, []float32{0.5 * 0.1 / 0.25, 0.5 * 0.2 / 0.25, 0.5 * 0.3 / 0.25}, s.Scales)
	require.Equal(t, []int32{3, -7, -7, 127}, []int32{s.InZero, s.OutZero, s.Low, s.Top})
	require.Len(t, s.Weights, 24)

	wide := layer
	wide.outs = []arg{i8(1e-9, -7, 1, 3, 3, 3)}
	small := layer
	small.outs = []arg{i8(1e38, -7, 1, 3, 3, 3)}
	y := i8(1, 0, 2)
	for want, file := range map[string][]byte{
		"the model has 2 inputs and 1 outputs; one of each can be planned": modelOf(graphOf{[]arg{y, y}, ints{0, 1}, ints{0}, nil}),
		"the model has 1 inputs and 2 outputs; one of each can be planned": modelOf(graphOf{[]arg{y}, ints{0}, ints{0, 0}, nil}),
		"t0 float32[2]: only models of int8 can be planned":                modelOf(graphOf{[]arg{x, y}, ints{0}, ints{1}, []applied{{114, object{}, ints{0}, ints{1}}}}),
		"t1 float32[2]: only models of int8 can be planned":                modelOf(graphOf{[]arg{y, x}, ints{0}, ints{1}, []applied{{6, object{}, ints{0}, ints{1}}}}),
		"these operators cannot be planned: [RELU (operator 0)]":           modelOf(graphOf{[]arg{y, y}, ints{0}, ints{1}, []applied{{reluCode, object{}, ints{0}, ints{1}}}}),
		"the first operator does not take the input of the model":          modelOf(graphOf{[]arg{y, y, y.file(1, 2)}, ints{0}, ints{1}, []applied{{22, object{}, ints{2}, ints{1}}}}),
		"a layer scales its sums by 5.0000004e+07, which is out of range":  wide.bytes(),
		"which is out of range": small.bytes(),
	} {
		p, err := Load(file, Limits{})
		require.NoError(t, err, want)
		_, err = p.Plan()
		require.ErrorContains(t, err, want)
	}
}

// Strides, dilations and kernels are at most 2¹⁵.
func TestWindowsHaveABound(t *testing.T) {
	for field, name := range []string{1: "width", 2: "height"} {
		for v, taken := range map[int]bool{1 << 15: true, 1<<15 + 1: false, 0: false} {
			if field == 0 {
				continue
			}
			options := object{0: scalar(0), 1: scalar(1), 2: scalar(1), 3: scalar(1), 4: scalar(1)}
			options[field] = scalar(uint32(v))
			shape := []int{1, 2, 2, 1}
			shape[3-field] = 1
			_, err := Load(one{17, options, []arg{f32(1, 2, 2, 1)}, []arg{f32(shape...)}}.bytes(), Limits{})
			require.Equal(t, taken, err == nil, "%s %d: %v", name, v, err)
		}
	}
}

// Sums of int8 whose inputs are far larger or smaller than the output's range are rejected rather than wrong.
func TestSumsOfFarScalesAreRefused(t *testing.T) {
	for scale, taken := range map[float32]bool{1: true, 64: true, 128: true, 512: false, 1. / 512: true, 1. / 4096: false} {
		_, err := Load(one{0, object{}, []arg{i8(scale, 0, 2), i8(scale/2, 0, 2)}, []arg{i8(1, 0, 2)}}.bytes(), Limits{})
		require.Equal(t, taken, err == nil, "scale %g: %v", scale, err)
	}
}
