package onnx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
)

// layerCase is a random convolution.
type layerCase struct {
	n, c, m, groups, h, w, kh, kw    int
	strides, dilations, pads         []int64
	xUnsigned, wUnsigned, perChannel bool
	zx, zw, zy                       int64
	auto                             string
}

func draw(r *rand.Rand) (k layerCase) {
	k.groups = 1 + r.IntN(3)
	k.n, k.c, k.m = 1+r.IntN(2), k.groups*(1+r.IntN(3)), k.groups*(1+r.IntN(6))
	k.kh, k.kw = 1+r.IntN(3), 1+r.IntN(3)
	k.h, k.w = 5+r.IntN(6), 5+r.IntN(6)
	for range 2 {
		k.strides = append(k.strides, int64(1+r.IntN(2)))
		k.dilations = append(k.dilations, int64(1+r.IntN(2)))
	}
	for range 4 {
		k.pads = append(k.pads, int64(r.IntN(3)))
	}
	k.auto = []string{"NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"}[r.IntN(5)]
	k.xUnsigned, k.wUnsigned, k.perChannel = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(2) == 0
	k.zx, k.zw, k.zy = int64(r.IntN(100)), int64(r.IntN(50)), int64(r.IntN(60))
	return k
}

// rawConstant has elements of 8 bits, or float32, by the schema's number of the type.
func rawConstant(name string, code int64, raw []byte, dims ...int64) []byte {
	var w writer
	for _, d := range dims {
		w.number(1, d)
	}
	w.number(2, code)
	w.text(8, name)
	w.bytes(9, raw)
	return w
}

func (k *layerCase) node(op string, in ...string) []byte {
	w := writer(nodeBytes(op, in, "y"))
	attribute := func(name string, list ...int64) {
		var a writer
		a.text(1, name)
		if name == "group" {
			a.number(3, list[0])
			list = nil
		}
		for _, v := range list {
			a.number(8, v)
		}
		w.bytes(5, a)
	}
	attribute("group", int64(k.groups))
	attribute("strides", k.strides...)
	attribute("dilations", k.dilations...)
	if k.auto == "NOTSET" {
		attribute("pads", k.pads...)
	}
	var auto writer
	auto.text(1, "auto_pad")
	auto.text(4, k.auto)
	w.bytes(5, auto)
	return w
}

func code(unsigned bool) int64 {
	if unsigned {
		return 2
	}
	return 3
}

func number8(b byte, unsigned bool) int64 {
	if unsigned {
		return int64(b)
	}
	return int64(int8(b))
}

func run(t *testing.T, graph []byte, fill func(in *engine.Tensor)) *engine.Tensor {
	var opset, model writer
	opset.number(2, 17)
	model.bytes(8, opset)
	model.bytes(7, graph)
	p, err := Load(model, Limits{})
	require.NoError(t, err)
	s, err := p.NewSession()
	require.NoError(t, err)
	fill(s.Inputs()[0])
	require.NoError(t, s.Run())
	require.Zero(t, testing.AllocsPerRun(2, func() { _ = s.Run() }), "a run allocates")
	return s.Outputs()[0]
}

// Layers of 8 bits, signed or not, with any zero points, groups, strides, dilations and padding, are the rounded results of a float32 layer on the
// same numbers; and those are the sums over the kernel, pixel by pixel.
func TestQuantisedLayersAreRoundedFloatLayers(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 60 {
		k := draw(r)
		x, w := make([]byte, k.n*k.c*k.h*k.w), make([]byte, k.m*k.c/k.groups*k.kh*k.kw)
		for _, list := range [][]byte{x, w} {
			for i := range list {
				list[i] = byte(r.Uint32())
			}
		}
		weightScales := []float32{0.02}
		if k.perChannel {
			weightScales = nil
			for range k.m {
				weightScales = append(weightScales, 0.01+r.Float32()/20)
			}
		}
		got, sums := k.quantised(t, x, w, weightScales), k.float(t, x, w)
		require.Equal(t, sums.Shape, got.Shape, "%+v", k)
		plane := got.Shape[2] * got.Shape[3]
		for i, s := range sums.F32 {
			scale := float64(weightScales[i/plane%k.m%len(weightScales)]) * float64(float32(0.1)) / float64(float32(3))
			want := min(max(math.RoundToEven(float64(s)*scale)+float64(k.zy), 0), 255)
			require.InDelta(t, want, float64(got.U8[i]), 0, "element %d of %+v", i, k)
		}
	}
}

func (k *layerCase) quantised(t *testing.T, x, w []byte, scales []float32) *engine.Tensor {
	var graph writer
	graph.bytes(1, k.node("QLinearConv", "x", "sx", "zx", "w", "sw", "zw", "sy", "zy"))
	graph.bytes(5, constantBytes("sx", []float32{0.1}))
	graph.bytes(5, rawConstant("zx", code(k.xUnsigned), []byte{byte(k.zx)}))
	graph.bytes(5, rawConstant("w", code(k.wUnsigned), w, int64(k.m), int64(k.c/k.groups), int64(k.kh), int64(k.kw)))
	graph.bytes(5, constantBytes("sw", scales, int64(len(scales))))
	graph.bytes(5, rawConstant("zw", code(k.wUnsigned), []byte{byte(k.zw)}))
	graph.bytes(5, constantBytes("sy", []float32{3}))
	graph.bytes(5, rawConstant("zy", 2, []byte{byte(k.zy)}))
	graph.bytes(11, typedPort("x", code(k.xUnsigned), int64(k.n), int64(k.c), int64(k.h), int64(k.w)))
	graph.bytes(12, typedPort("y", 2))
	return run(t, graph, func(in *engine.Tensor) {
		for i, b := range x {
			setInt(in, i, number8(b, k.xUnsigned))
		}
	})
}

func (k *layerCase) float(t *testing.T, x, w []byte) *engine.Tensor {
	plain := make([]float32, len(w))
	for i, b := range w {
		plain[i] = float32(number8(b, k.wUnsigned) - k.zw)
	}
	var graph writer
	graph.bytes(1, k.node("Conv", "x", "w"))
	graph.bytes(5, constantBytes("w", plain, int64(k.m), int64(k.c/k.groups), int64(k.kh), int64(k.kw)))
	graph.bytes(11, portBytes("x", int64(k.n), int64(k.c), int64(k.h), int64(k.w)))
	graph.bytes(12, portBytes("y"))
	got := run(t, graph, func(in *engine.Tensor) {
		for i, b := range x {
			in.F32[i] = float32(number8(b, k.xUnsigned) - k.zx)
		}
	})
	if k.auto == "NOTSET" {
		k.byHand(t, x, plain, got)
	}
	return got
}

// byHand sums each output separately.
func (k *layerCase) byHand(t *testing.T, x []byte, w []float32, got *engine.Tensor) {
	at, ck, mg := 0, k.c/k.groups, k.m/k.groups
	for b := range k.n {
		for m := range k.m {
			for oy := range got.Shape[2] {
				for ox := range got.Shape[3] {
					var sum float32
					for i := range ck * k.kh * k.kw {
						ch, ky, kx := i/(k.kh*k.kw), i/k.kw%k.kh, i%k.kw
						y := oy*int(k.strides[0]) - int(k.pads[0]) + ky*int(k.dilations[0])
						z := ox*int(k.strides[1]) - int(k.pads[1]) + kx*int(k.dilations[1])
						if y < 0 || y >= k.h || z < 0 || z >= k.w {
							continue
						}
						v := x[((b*k.c+m/mg*ck+ch)*k.h+y)*k.w+z]
						sum += float32(number8(v, k.xUnsigned)-k.zx) * w[m*ck*k.kh*k.kw+i]
					}
					require.InDelta(t, sum, got.F32[at], 0, fmt.Sprintf("element %d of %+v", at, k))
					at++
				}
			}
		}
	}
}

// BenchmarkLayers measures convolutions of 64 channels on 28×28 pixels.
func BenchmarkLayers(b *testing.B) {
	k := layerCase{n: 1, c: 64, m: 64, h: 28, w: 28, kh: 3, kw: 3, strides: []int64{1, 1}, dilations: []int64{1, 1}, auto: "SAME_UPPER"}
	for _, k.groups = range []int{1, 64} {
		for _, op := range []string{"Conv", "QLinearConv"} {
			b.Run(fmt.Sprintf("%s/%d groups", op, k.groups), func(b *testing.B) {
				w := make([]byte, k.m*k.c/k.groups*9)
				var graph, model writer
				dims := []int64{int64(k.m), int64(k.c / k.groups), 3, 3}
				kind := int64(1)
				if op == "Conv" {
					graph.bytes(1, k.node(op, "x", "w"))
					graph.bytes(5, constantBytes("w", make([]float32, len(w)), dims...))
				} else {
					kind = 3
					graph.bytes(1, k.node(op, "x", "s", "z", "w", "s", "z", "s", "z"))
					graph.bytes(5, rawConstant("w", 3, w, dims...))
					graph.bytes(5, constantBytes("s", []float32{0.1}))
					graph.bytes(5, rawConstant("z", 3, []byte{0}))
				}
				graph.bytes(11, typedPort("x", kind, 1, 64, 28, 28))
				graph.bytes(12, typedPort("y", kind))
				model.bytes(7, graph)
				p, err := Load(model, Limits{})
				require.NoError(b, err)
				s, err := p.NewSession()
				require.NoError(b, err)
				b.ReportAllocs()
				for b.Loop() {
					_ = s.Run()
				}
				b.ReportMetric(float64(p.Info().MACs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GMAC/s")
			})
		}
	}
}
