package nn

import (
	"fmt"

	"app-offload/functions/engine/onnx"
)

// Float writes the network as .onnx in float32. Its input is 1×C×H×W, as ONNX has pictures.
func (n *Net) Float() ([]byte, error) {
	w := &onnx.Writer{}
	x := w.Input("input", 1, n.C, n.H, n.W)
	flat := false
	for i := range n.nodes {
		d := &n.nodes[i]
		name := fmt.Sprintf("layer%d", i)
		if d.dense() && !flat {
			flat = true
			x = w.Node("Flatten", []string{x}, name+".flat", onnx.Attribute{Name: "axis", Int: 1})
		}
		switch {
		case d.pools():
			x = w.Node("MaxPool", []string{x}, name, onnx.Attribute{Name: "kernel_shape", Ints: []int64{int64(d.KH), int64(d.KW)}}, onnx.Attribute{Name: "strides", Ints: []int64{int64(d.KH), int64(d.KW)}})
			continue
		case d.dense():
			weights := d.w
			if i > 0 && !n.nodes[i-1].dense() {
				weights = d.planes(d.n, d.inputs()/d.C, d.C)
			}
			x = w.Node("Gemm", []string{x, w.Floats(name+".w", weights, d.n, d.k), w.Floats(name+".b", d.b, d.n)}, name, onnx.Attribute{Name: "transB", Int: 1})
		default:
			after := func(pad, out, stride, k, in int) int64 { return int64(max((out-1)*stride+k-in-pad, 0)) }
			x = w.Node("Conv", []string{x, w.Floats(name+".w", d.planes(d.n, d.KH*d.KW, d.C), d.n, d.C, d.KH, d.KW), w.Floats(name+".b", d.b, d.n)}, name,
				onnx.Attribute{Name: "kernel_shape", Ints: []int64{int64(d.KH), int64(d.KW)}}, onnx.Attribute{Name: "strides", Ints: []int64{int64(d.StrideH), int64(d.StrideW)}},
				onnx.Attribute{Name: "pads", Ints: []int64{int64(d.PadH), int64(d.PadW), after(d.PadH, d.OutH, d.StrideH, d.KH, d.H), after(d.PadW, d.OutW, d.StrideW, d.KW, d.W)}})
		}
		if d.layer.Relu {
			x = w.Node("Relu", []string{x}, name+".relu")
		}
	}
	w.Output(x, 1, n.Outputs())
	return w.Bytes()
}

// planes puts the channels of each output's weights before its pixels.
func (d *node) planes(outputs, pixels, channels int) []float32 {
	to := make([]float32, 0, len(d.w))
	for j := range outputs {
		for c := range channels {
			for p := range pixels {
				to = append(to, d.w[(j*pixels+p)*channels+c])
			}
		}
	}
	return to
}
