package onnx

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

var update = flag.Bool("update", false, "write the golden file anew")

// filled allocates an input whose shape or type was changed.
func filled(t *engine.Tensor, from *engine.Tensor, offset float64) {
	t.Allocate()
	for i := range t.Elements() {
		v := float64(i%5 - 1)
		if n := from.Elements(); n > 0 {
			v = at(from, i%n)
		}
		put(t, i, v+offset)
	}
}

// Every operator rejects inputs and attributes that do not fit, with an error that names the node, and none ends the process. The file beside the
// test contains the errors for the official cases, changed in one respect at a time.
func TestMisfitsAreRefused(t *testing.T) {
	models, err := filepath.Glob(official + "/node/*/model.onnx")
	require.NoError(t, err)
	if len(models) == 0 {
		t.Skip("the package libonnx-testdata is not installed")
	}
	held, seen := readList(t), map[string]int{}
	said, counts := map[string]map[string]bool{}, map[string][2]int{}
	figures := regexp.MustCompile(`[-+]?\d+(\.\d+)?(e[-+]?\d+)?|NaN|[-+]Inf|\b(bool|u?int\d+|float\d\d)\b`)
	limits := Limits{MaxBytes: 1 << 20, MaxNodes: 200, MaxMACs: 1e6}
	for _, path := range models {
		name := strings.TrimPrefix(filepath.Base(filepath.Dir(path)), "test_")
		if !held["node/"+name] {
			continue
		}
		file, err := os.ReadFile(path)
		require.NoError(t, err)
		fresh := func() *graph {
			g, err := read(file, limits)
			if err != nil {
				return nil
			}
			return g
		}
		g := fresh()
		if g == nil || len(g.nodes) != 1 || seen[g.nodes[0].op] == 3 {
			continue
		}
		op := g.nodes[0].op
		seen[op]++
		data := make([]*value, len(g.inputs))
		for i := range data {
			data[i], err = readCase(fmt.Sprintf("%s/test_data_set_0/input_%d.pb", filepath.Dir(path), i))
			require.NoError(t, err, name)
		}
		try := func(what string, change func(g *graph, in []engine.Tensor)) {
			g := fresh()
			in := make([]engine.Tensor, len(data))
			for i, v := range data {
				in[i] = v.Tensor
				in[i].Shape = slices.Clone(v.Shape)
				filled(&in[i], &v.Tensor, 0)
			}
			change(g, in)
			for i, p := range g.inputs {
				p.Type, p.Shape = in[i].Type, in[i].Shape
			}
			p := &Program{graph: g, limits: g.limits.orDefault(), prepared: map[preparation]any{}}
			require.NoError(t, p.missing(), name)
			s, err := p.newSession()
			if err == nil {
				for i, to := range s.inputs {
					called := to.Name
					*to = in[i]
					to.Name = called
				}
				err = s.Run()
			}
			c := counts[op]
			if err == nil {
				c[0]++
				counts[op] = c
				return
			}
			c[1]++
			counts[op] = c
			_, text, _ := strings.Cut(err.Error(), "("+op+"): ")
			if text == "" {
				text = err.Error()
			}
			text = figures.ReplaceAllStringFunc(text, func(s string) string {
				if strings.Contains("bfu", s[:1]) || strings.HasPrefix(s, "int") {
					return "T"
				}
				return "N"
			})
			for _, in := range g.inputs {
				text = strings.ReplaceAll(text, strconv.Quote(in.Name), `"X"`)
				text = strings.ReplaceAll(text, in.Name+" T[", "X T[")
			}
			text = lists.ReplaceAllString(text, "[N…]")
			if said[text] == nil {
				said[text] = map[string]bool{}
			}
			said[text][op] = true
		}
		for i := range data {
			for _, shape := range []func(s []int) []int{
				func([]int) []int { return nil },
				func(s []int) []int { return append(slices.Clone(s), 1) },
				func(s []int) []int { return append([]int{1}, s...) },
				func(s []int) []int { n := (&engine.Spec{Shape: s}).Elements(); return []int{n} },
				func(s []int) []int { s = slices.Clone(s); slices.Reverse(s); return s },
				func(s []int) []int { return each(s, len(s)-1, 1) },
				func(s []int) []int { return each(s, 0, 1) },
				func(s []int) []int { return each(s, min(1, len(s)-1), 1) },
				func(s []int) []int { return each(s, 0, -1) },
				func(s []int) []int { return each(s, len(s)-1, -1) },
				func(s []int) []int { return each(s, 0, -1<<20) },
				func(s []int) []int { return each(s, len(s)-1, -1<<20) },
			} {
				try("shape", func(_ *graph, in []engine.Tensor) {
					in[i].Shape = shape(in[i].Shape)
					if len(in[i].Shape) <= maxRank {
						filled(&in[i], &data[i].Tensor, 0)
					}
				})
			}
			for _, kind := range []engine.Type{engine.Float32, engine.Float64, engine.Int8, engine.Uint8, engine.Int32, engine.Int64, engine.Bool} {
				try("type", func(_ *graph, in []engine.Tensor) {
					in[i].Type = kind
					filled(&in[i], &engine.Tensor{Spec: engine.Spec{Shape: []int{0}}}, 0)
				})
			}
			for _, offset := range []float64{-100, -1, 1, 100} {
				try("data", func(_ *graph, in []engine.Tensor) { filled(&in[i], &data[i].Tensor, offset) })
			}
			try("absent", func(g *graph, _ []engine.Tensor) {
				for k, from := range g.nodes[0].inputs {
					if from == g.inputs[i].at {
						g.nodes[0].inputs[k] = -1
					}
				}
			})
		}
		try("inputs", func(g *graph, _ []engine.Tensor) {
			g.nodes[0].inputs = g.nodes[0].inputs[:max(len(g.nodes[0].inputs)-1, 0)]
		})
		try("outputs", func(g *graph, _ []engine.Tensor) { g.nodes[0].outputs = g.nodes[0].outputs[:0] })
		for _, key := range slices.Sorted(maps.Keys(g.nodes[0].attributes)) {
			edit := func(change func(a *attribute)) {
				try("attribute "+key, func(g *graph, _ []engine.Tensor) { change(g.nodes[0].attributes[key]) })
			}
			try("attribute", func(g *graph, _ []engine.Tensor) { delete(g.nodes[0].attributes, key) })
			for _, v := range []int64{-9, -1, 0, 1, 2, 9, 1 << 40} {
				edit(func(a *attribute) {
					a.i, a.f = v, float32(v)
					for k := range a.ints {
						a.ints[k] = narrow(v)
					}
				})
			}
			edit(func(a *attribute) { a.s = "FROB" })
			edit(func(a *attribute) { a.ints = append(a.ints, 1) })
			edit(func(a *attribute) { a.ints = a.ints[:max(len(a.ints)-1, 0)] })
		}
	}
	var got strings.Builder
	got.WriteString("Changes that an operator takes, and those that it refuses:\n")
	for _, op := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&got, "%s: %d, %d\n", op, counts[op][0], counts[op][1])
	}
	got.WriteString("\nErrors, with N for numbers, T for types and X for names:\n")
	for _, text := range slices.Sorted(maps.Keys(said)) {
		fmt.Fprintf(&got, "%s: %s\n", text, strings.Join(slices.Sorted(maps.Keys(said[text])), ", "))
	}
	const golden = "testdata/misfits.txt"
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(got.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	wanted, have := string(want), got.String()
	if strconv.IntSize < 64 { // the runtime words some errors differently
		wanted, _, _ = strings.Cut(wanted, "\nErrors,")
		have, _, _ = strings.Cut(have, "\nErrors,")
	}
	require.Equal(t, wanted, have)
}

var lists = regexp.MustCompile(`\[(N|T)?([ ×](N|T))*\]`)

// each returns a shape with one dimension changed, not below 0.
func each(shape []int, at, by int) []int {
	shape = slices.Clone(shape)
	if at >= 0 && at < len(shape) {
		shape[at] = max(shape[at]+by, 0)
	}
	return shape
}
