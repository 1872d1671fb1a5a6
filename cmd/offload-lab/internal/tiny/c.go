package tiny

import (
	"fmt"
	"io"

	"app-offload/functions/engine/tflite"
)

// C writes a model as one file of C99. The function NAME_run reads and writes arrays of int8; NAME_in_scale and similar constants define their
// meaning. It keeps its variables in one static array, so it must be used by one thread at a time.
func C(w io.Writer, plan *tflite.Plan, o Options) (Size, error) {
	m, err := newModel(plan, o)
	if err != nil {
		return Size{}, err
	}
	p := &printer{w: w}
	size := m.size()
	in, out := &m.Inputs[0], &m.Outputs[0]
	p.f("/* %s: %s\n * Flash: %d bytes of constants and the code; RAM: %d bytes and the stack of a few calls. C99, without malloc. */\n", o.Name, o.Made, size.Flash, size.RAM)
	p.f("#include <stddef.h>\n#include <stdint.h>\n")
	if m.uses("softmax") {
		p.f("#include <float.h>\n")
	}
	p.f("\nenum { %[1]s_inputs = %[2]d, %[1]s_outputs = %[3]d, %[1]s_in_zero = %[4]d, %[1]s_out_zero = %[5]d };\n", o.Name, in.Elements(), out.Elements(), in.Zero, out.Zero)
	p.f("/* A value q of the input stands for %g * (q - %d), one of the output for %g * (q - %d). */\n", in.Scale, in.Zero, out.Scale, out.Zero)
	p.f("void %s_run(const int8_t *in, int8_t *out);\n\n", o.Name)
	p.f("struct layer {\n\tint h, w, c, out_h, out_w, kh, kw, stride_h, stride_w, dilate_h, dilate_w, pad_h, pad_w;\n")
	p.f("\tint rows, n, k, channels, in_zero, out_zero, low, top;\n\tconst int8_t *weights;\n\tconst int32_t *bias;\n\tconst uint32_t *factor;\n\tconst int8_t *shift;\n};\n")
	p.f("%s\n", runtime(runtimeC, "/*", m.parts))
	for i := range m.Steps {
		m.constantsC(p, i)
	}
	if m.arena > 0 {
		p.f("static int8_t arena[%d];\n\n", m.arena)
	}
	p.f("void %s_run(const int8_t *in, int8_t *out)\n{\n", o.Name)
	for i := range m.Steps {
		m.callC(p, i)
	}
	p.f("}\n")
	return size, p.err
}

// constantsC prints the constants of a step.
func (m *model) constantsC(p *printer, i int) {
	s := &m.Steps[i]
	weights := "NULL, NULL, NULL, NULL"
	switch s.Kind {
	case tflite.PlanSoftmax:
		p.f("static const float exps%d[256] = {", i)
		numbers(p, s.Exps, "%xf", 6)
		p.f("};\n\n")
		return
	case tflite.PlanCopy:
		return
	}
	if len(s.Weights) > 0 {
		factors, shifts := make([]uint32, len(s.Scales)), make([]int, len(s.Scales))
		for k, v := range s.Scales {
			factors[k], shifts[k] = fraction(v)
		}
		p.f("static const int8_t weights%d[%d] = {", i, len(s.Weights))
		numbers(p, s.Weights, "%d", 24)
		p.f("};\nstatic const int32_t bias%d[%d] = {", i, len(s.Bias))
		numbers(p, s.Bias, "%d", 10)
		p.f("};\nstatic const uint32_t factor%d[%d] = {", i, len(factors))
		numbers(p, factors, "%d", 10)
		p.f("};\nstatic const int8_t shift%d[%d] = {", i, len(shifts))
		numbers(p, shifts, "%d", 20)
		p.f("};\n")
		weights = fmt.Sprintf("weights%[1]d, bias%[1]d, factor%[1]d, shift%[1]d", i)
	}
	v := &s.Window
	p.f("static const struct layer layer%d = {\n\t%d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d, %d,\n", i, v.H, v.W, v.C, v.OutH, v.OutW, v.KH, v.KW, v.StrideH, v.StrideW, v.DilateH, v.DilateW, v.PadH, v.PadW)
	p.f("\t%d, %d, %d, %d, %d, %d, %d, %d,\n\t%s,\n};\n\n", s.Rows, s.N, s.K, len(s.Scales), s.InZero, s.OutZero, s.Low, s.Top, weights)
}

// callC prints the call of a step.
func (m *model) callC(p *printer, i int) {
	s := &m.Steps[i]
	from, to := m.tensor(s.In, "in", "arena + %d"), m.tensor(s.Out, "out", "arena + %d")
	switch s.Kind {
	case tflite.PlanSoftmax:
		p.f("\tsoftmax(%s, %s, %d, %d, exps%d, %xf, %d);\n", to, from, s.Rows, s.K, i, s.OutScale, s.OutZero)
	case tflite.PlanCopy:
		p.f("\t{\n\t\tint i;\n\n\t\tfor (i = 0; i < %d; i++)\n\t\t\t(%s)[i] = (%s)[i];\n\t}\n", s.Size, to, from)
	case tflite.PlanMaxPool, tflite.PlanAveragePool:
		mean := 0
		if s.Kind == tflite.PlanAveragePool {
			mean = 1
		}
		p.f("\tpool(%s, %s, &layer%d, %d);\n", to, from, i, mean)
	default:
		p.f("\t%s(%s, %s, &layer%d);\n", partOf[s.Kind], to, from, i)
	}
}

// tensor is the expression for a tensor's memory.
func (m *model) tensor(n int, caller, arena string) string {
	if n == 0 {
		return "in"
	}
	if m.place[n] < 0 {
		return caller
	}
	return fmt.Sprintf(arena, m.place[n])
}
