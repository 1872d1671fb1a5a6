// Package tiny writes an int8 model or a policy as source code for machines without room for an engine: one file of C99 without malloc, and for
// models of layers and pools without floating point; or one file of Go. The arithmetic equals that of the engine bit for bit.
package tiny

import (
	_ "embed" // for the runtimes
	"errors"
	"fmt"
	"go/format"
	"io"
	"math"
	"slices"
	"strings"

	"app-offload/functions/engine/tflite"
)

//go:embed runtime.c.txt
var runtimeC string

//go:embed runtime.go.txt
var runtimeGo string

// Options configure the output.
type Options struct {
	Name string // of functions and constants, or of the Go package: a letter, then letters, digits and _
	Made string // the command, for the file's head
}

// Size is the memory needed by the written program, without its code and stack.
type Size struct {
	Flash int // bytes of constants
	RAM   int // bytes of variables
}

// Validate checks that the name is valid in both languages.
func (o *Options) Validate() error {
	for i, c := range o.Name {
		if !(c >= 'a' && c <= 'z' || i > 0 && (c == '_' || c >= '0' && c <= '9')) {
			return fmt.Errorf("the name %.64q must be a lower-case letter, then lower-case letters, digits and _", o.Name)
		}
	}
	if len(o.Name) < 1 || len(o.Name) > 40 {
		return fmt.Errorf("the name %.64q must have 1 to 40 characters", o.Name)
	}
	if strings.ContainsAny(o.Made, "\n\r*") {
		return fmt.Errorf("the command %.64q has characters that a comment cannot have", o.Made)
	}
	return nil
}

// model is a plan with a place in memory for each tensor.
type model struct {
	*tflite.Plan
	Options
	place []int // of each tensor in the arena; −1 for the caller's input and output
	alias []int // the tensor whose memory a tensor shares
	arena int   // bytes
	parts []string
}

func newModel(plan *tflite.Plan, o Options) (*model, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	m := &model{Plan: plan, Options: o, alias: make([]int, plan.Tensors), parts: []string{}}
	for i := range m.alias {
		m.alias[i] = i
	}
	kept := make([]tflite.Step, 0, len(plan.Steps))
	for _, s := range plan.Steps {
		s.In = m.alias[s.In]
		if s.Kind == tflite.PlanCopy && s.Out != plan.Out {
			m.alias[s.Out] = s.In
			continue
		}
		kept = append(kept, s)
	}
	m.Plan = &tflite.Plan{Inputs: plan.Inputs, Outputs: plan.Outputs, Steps: kept, Tensors: plan.Tensors, Out: plan.Out}
	m.allocate()
	for _, s := range kept {
		m.use(partOf[s.Kind])
	}
	if !m.uses("conv", "dense", "depthwise") { // pools and softmax need no scaling, and unused code is an error in both languages
		return nil, errors.New("the model has no layer with weights")
	}
	m.parts = append([]string{"scaled"}, m.parts...)
	return m, nil
}

var partOf = map[tflite.Kind]string{
	tflite.PlanConv: "conv", tflite.PlanDense: "dense", tflite.PlanDepthwise: "depthwise", tflite.PlanMaxPool: "pool", tflite.PlanAveragePool: "pool",
	tflite.PlanSoftmax: "softmax",
}

func (m *model) use(part string) {
	if part != "" && !slices.Contains(m.parts, part) {
		m.parts = append(m.parts, part)
	}
}

func (m *model) uses(parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return slices.Contains(m.parts, p) })
}

// life is the use of a tensor: from the step that computes it to the last step that reads it.
type life struct{ tensor, size, from, to int }

// allocate assigns each intermediate tensor a place that overlaps no other tensor in use: largest first, each at the lowest place that is free for
// its whole life.
func (m *model) allocate() {
	m.place = make([]int, m.Tensors)
	for i := range m.place {
		m.place[i] = -1
	}
	var lives []life
	for i, s := range m.Steps {
		if s.Out == m.Out {
			continue
		}
		l := life{s.Out, s.Size, i, i}
		for k, later := range m.Steps {
			if later.In == s.Out {
				l.to = k
			}
		}
		lives = append(lives, l)
	}
	slices.SortStableFunc(lives, func(a, b life) int { return b.size - a.size })
	for i, l := range lives {
		at := 0
		for moved := true; moved; {
			moved = false
			for _, other := range lives[:i] {
				if p := m.place[other.tensor]; other.from <= l.to && l.from <= other.to && p < at+l.size && at < p+other.size {
					at, moved = p+other.size, true
				}
			}
		}
		m.place[l.tensor] = at
		m.arena = max(m.arena, at+l.size)
	}
}

// size counts the constants.
func (m *model) size() Size {
	s := Size{RAM: m.arena}
	for _, l := range m.Steps {
		s.Flash += len(l.Weights) + 4*len(l.Bias) + 5*len(l.Scales) + 4*len(l.Exps)
	}
	return s
}

// runtime extracts the used parts of a runtime's source.
func runtime(source, mark string, parts []string) string {
	var b strings.Builder
	for _, part := range strings.Split(source, mark+" part ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		if slices.Contains(parts, strings.TrimSuffix(name, " */")) {
			b.WriteString("\n" + strings.TrimSpace(text) + "\n")
		}
	}
	return b.String()
}

// fraction splits a scale into 24 bits and a power of two, exactly, except for a scale that makes every sum 0: its power is the minimum of an int8.
func fraction(scale float32) (m uint32, e int) {
	bits := math.Float32bits(scale)
	return bits&(1<<23-1) | 1<<23, max(int(bits>>23&0xff)-127-23, math.MinInt8)
}

// printer keeps the first error of a writer.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// goTo formats the printed Go file and writes it to w.
func (p *printer) goTo(w io.Writer, file []byte) error {
	if p.err != nil {
		return p.err
	}
	text, err := format.Source(file)
	if err != nil {
		return fmt.Errorf("formatting the Go file: %w", err)
	}
	_, err = w.Write(text)
	return err
}

// numbers prints a list, several per line.
func numbers[T any](p *printer, list []T, format string, line int) {
	for i, v := range list {
		if i%line == 0 {
			p.f("\n\t")
		} else {
			p.f(" ")
		}
		p.f(format+",", v)
	}
	p.f("\n")
}
