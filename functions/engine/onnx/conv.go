package onnx

import (
	"math"

	"app-offload/functions/engine"
	"app-offload/functions/engine/kernel"
)

var convolutions = map[string]func(*call){
	"Conv": conv, "ConvTranspose": convTranspose,
}

// frame describes kernels that slide over images with any number of axes. Images are planes of pixels (NCHW).
type frame struct {
	rank                        int // of pixels
	in, out, k                  []int
	stride, dilate, before, aft []int
}

// frame reads the attributes of a layer for images of a shape. The kernel's shape is either known or an attribute.
func (c *call) frame(image, k []int) (f frame) {
	f.rank = len(image)
	if f.rank < 1 {
		c.fail("images without pixels")
	}
	f.in, f.k = image, k
	f.stride, f.dilate = c.each("strides", f.rank), c.each("dilations", f.rank)
	if len(k) != f.rank {
		c.fail("a kernel of %d axes for images of %d", len(k), f.rank)
	}
	f.before, f.aft = c.ints(f.rank), c.ints(f.rank)
	pads := c.list("pads")
	if pads != nil && len(pads) != 2*f.rank {
		c.fail("pads %v for images of %d axes", pads, f.rank)
	}
	for i := range f.rank {
		if k[i] < 1 || k[i] > math.MaxInt16 {
			c.fail("a kernel of %d", k[i])
		}
		if pads != nil {
			f.before[i], f.aft[i] = pads[i], pads[f.rank+i]
			if min(pads[i], pads[f.rank+i]) < 0 || max(pads[i], pads[f.rank+i]) > 1<<20 {
				c.fail("pads %v", pads)
			}
		}
	}
	return f
}

// each returns an attribute with one positive number for each axis, 1 if it is absent.
func (c *call) each(name string, n int) []int {
	list := c.list(name)
	if list == nil {
		list = c.ints(n)
		for i := range list {
			list[i] = 1
		}
	}
	if len(list) != n {
		c.fail("%s %v for %d axes", name, list, n)
	}
	for _, v := range list {
		if v < 1 || v > 1<<20 {
			c.fail("%s %v", name, list)
		}
	}
	return list
}

// slide computes the size of the output.
func (c *call) slide(f *frame) {
	f.out = c.ints(f.rank)
	auto := c.string("auto_pad", "NOTSET")
	up := 0
	if c.int("ceil_mode", 0) != 0 {
		up = 1
	}
	for i := range f.rank {
		reach := (f.k[i]-1)*f.dilate[i] + 1
		switch auto {
		case "SAME_UPPER", "SAME_LOWER":
			f.out[i] = (f.in[i] + f.stride[i] - 1) / f.stride[i]
			total := max((f.out[i]-1)*f.stride[i]+reach-f.in[i], 0)
			f.before[i] = total / 2
			if auto == "SAME_LOWER" {
				f.before[i] = total - total/2
			}
			f.aft[i] = total - f.before[i]
		default:
			if auto == "VALID" {
				f.before[i], f.aft[i] = 0, 0
			}
			free := f.in[i] + f.before[i] + f.aft[i] - reach
			if free < 0 {
				c.fail("a kernel that reaches over %d pixels of %d", reach, f.in[i])
			}
			f.out[i] = (free+up*(f.stride[i]-1))/f.stride[i] + 1
			if up == 1 && (f.out[i]-1)*f.stride[i] >= f.in[i]+f.before[i] {
				f.out[i]-- // a window must start within the image
			}
		}
	}
}

// pixels calls visit for each pixel of the output and each kernel pixel that is within the image.
func (f *frame) pixels(c *call, visit func(out, k, in int)) {
	o, k := c.ints(f.rank), c.ints(f.rank)
	for p := range engine.Product(f.out) {
		clear(k)
		for q := range engine.Product(f.k) {
			at, inside := 0, true
			for i := range f.rank {
				x := o[i]*f.stride[i] - f.before[i] + k[i]*f.dilate[i]
				if x < 0 || x >= f.in[i] {
					inside = false
					break
				}
				at = at*f.in[i] + x
			}
			if inside {
				visit(p, q, at)
			}
			advance(k, f.k)
		}
		advance(o, f.out)
	}
}

// table returns the input pixel of each output pixel and kernel pixel, -1 outside of the image. It is kept until the shapes change.
func (f *frame) table(c *call) []int32 {
	n := engine.Product(f.out) * engine.Product(f.k)
	old := len(c.i32[3])
	list := c.int32s(3, n)
	key := c.hash(f)
	if old == n && c.key == key {
		return list
	}
	c.i32[3], c.key = list, key
	for i := range list {
		list[i] = -1
	}
	k := engine.Product(f.k)
	f.pixels(c, func(out, q, in int) { list[out*k+q] = int32(in) }) //nolint:gosec // bounded by the memory of tensors
	return list
}

// hash distinguishes frames whose tables have the same length: a node's kernel is fixed, its image is not.
func (c *call) hash(f *frame) (h uint64) {
	h = 14695981039346656037
	for _, list := range [][]int{f.in, f.out, f.before, f.k} {
		for _, v := range list {
			h = (h ^ uint64(v)) * 1099511628211 //nolint:gosec // a hash
		}
	}
	return h
}

// gathered writes the input values of each output pixel, channel by channel: dst[pixel·C·K + channel·K + kernel pixel].
func gathered[T any](dst, planes []T, table []int32, channels, plane, k int, fill T) {
	n := len(table) / max(k, 1)
	for p := range n {
		see := table[p*k : (p+1)*k]
		row := dst[p*channels*k : (p+1)*channels*k]
		for ch := range channels {
			image := planes[ch*plane : (ch+1)*plane]
			part := row[ch*k : (ch+1)*k]
			for q, at := range see {
				if at < 0 {
					part[q] = fill
				} else {
					part[q] = image[at]
				}
			}
		}
	}
}

// layer is the plan of a convolution.
type layer struct {
	frame
	n, c, m, groups int
	pixels, k       int // of the output; number of inputs of an output pixel in its group
	shape           []int
}

// convolution plans a layer with weights of m × c/groups × kernel.
func (c *call) convolution(x, w *value) (l layer) {
	c.rank(x, 3, maxRank)
	if len(w.Shape) != len(x.Shape) {
		c.fail("%s and %s differ in dimensions", &x.Spec, &w.Spec)
	}
	l.frame = c.frame(x.Shape[2:], w.Shape[2:])
	c.slide(&l.frame)
	l.n, l.c, l.m, l.groups = x.Shape[0], x.Shape[1], w.Shape[0], c.int("group", 1)
	if l.groups < 1 || l.groups > l.c || l.c%l.groups != 0 || l.m%l.groups != 0 || w.Shape[1] != l.c/l.groups {
		c.fail("%d groups of %d channels with %s", l.groups, l.c, &w.Spec)
	}
	l.pixels = engine.Product(l.out)
	l.k = engine.Product(w.Shape[1:])
	l.shape = c.joined([]int{l.n, l.m}, l.out)
	c.macs(l.n, l.m, l.pixels, l.k)
	return l
}

func conv(c *call) {
	x, w := c.input(0, engine.Float32), c.input(1, engine.Float32)
	l := c.convolution(x, w)
	y := c.output(0, engine.Float32, l.shape)
	bias := c.optional(2)
	table := l.table(c)
	plane, ck, mg := engine.Product(l.in), l.c/l.groups, l.m/l.groups
	columns := c.floats(0, l.pixels*l.k)
	for b := range l.n {
		for g := range l.groups {
			gathered(columns, x.F32[(b*l.c+g*ck)*plane:], table, ck, plane, engine.Product(w.Shape[2:]), 0)
			to := y.F32[(b*l.m+g*mg)*l.pixels:]
			kernel.GemmF32(to, w.F32[g*mg*l.k:(g+1)*mg*l.k], columns, mg, l.pixels, l.k)
		}
	}
	if bias != nil {
		for i := range l.n * l.m {
			v := bias.F32[i%l.m]
			row := y.F32[i*l.pixels : (i+1)*l.pixels]
			for p := range row {
				row[p] += v
			}
		}
	}
}

// convTranspose distributes each input pixel over the kernel's window.
func convTranspose(c *call) {
	x, w := c.rank(c.input(0, engine.Float32), 3, maxRank), c.input(1, engine.Float32)
	if len(w.Shape) != len(x.Shape) || w.Shape[0] != x.Shape[1] {
		c.fail("%s and %s do not fit", &x.Spec, &w.Spec)
	}
	f := c.frame(x.Shape[2:], w.Shape[2:])
	c.unslide(&f)
	n, ch, groups, mg := x.Shape[0], x.Shape[1], c.int("group", 1), w.Shape[1]
	if groups < 1 || ch%groups != 0 {
		c.fail("%d groups of %d channels", groups, ch)
	}
	y := c.output(0, engine.Float32, c.joined([]int{n, groups * mg}, f.out))
	inside, outside, k := engine.Product(f.in), engine.Product(f.out), engine.Product(f.k)
	c.macs(n, ch, mg, inside, k)
	clear(y.F32)
	if bias := c.optional(2); bias != nil {
		for i := range y.F32 {
			y.F32[i] = bias.F32[i/outside%(groups*mg)]
		}
	}
	f.in, f.out = f.out, f.in // an input pixel is an output pixel of the layer that this one transposes
	table := f.table(c)
	for b := range n {
		for i := range ch {
			g := i / (ch / groups)
			for m := range mg {
				plane := y.F32[(b*groups*mg+g*mg+m)*outside:][:outside]
				weights := w.F32[(i*mg+m)*k:][:k]
				for p, v := range x.F32[(b*ch+i)*inside:][:inside] {
					for q, at := range table[p*k : (p+1)*k] {
						if at >= 0 {
							plane[at] += v * weights[q]
						}
					}
				}
			}
		}
	}
}

// unslide computes the size of the output of a transposed layer.
func (c *call) unslide(f *frame) {
	f.out = c.ints(f.rank)
	extra, want, auto := c.list("output_padding"), c.list("output_shape"), c.string("auto_pad", "NOTSET")
	for i := range f.rank {
		full := (f.in[i]-1)*f.stride[i] + (f.k[i]-1)*f.dilate[i] + 1
		if extra != nil {
			full += min(max(extra[i], 0), 1<<20)
		}
		target := full - f.before[i] - f.aft[i]
		switch {
		case len(want) > 0:
			target = want[len(want)-f.rank+i]
		case auto == "SAME_UPPER" || auto == "SAME_LOWER":
			target = f.in[i] * f.stride[i]
		}
		if len(want) > 0 || auto == "SAME_UPPER" || auto == "SAME_LOWER" {
			total := max(full-target, 0)
			f.before[i] = total / 2
			if auto != "SAME_UPPER" && auto != "NOTSET" {
				f.before[i] = total - total/2
			}
		}
		if target < 0 || target > math.MaxInt32 {
			c.fail("%d pixels along axis %d", target, i)
		}
		f.out[i] = target
	}
}
