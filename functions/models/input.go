package models

import (
	"fmt"
	"math"

	"app-offload/functions/check"
	"app-offload/functions/engine"
	"app-offload/functions/task"
)

// Kinds of input.
const (
	Numbers = "numbers" // a number or an array of them, element by element
	Image   = "image"   // a binary with a JPEG or PNG
	Raw     = "raw"     // a binary with pixels, a byte a channel, line by line
)

// Input says how a reading becomes the first input of a model. Real values are computed first, as Scale·(x − Offset), and are then
// quantised as the model's tensor wants them.
type Input struct {
	Resource string  `json:"resource,omitempty"` // of the reading; "" takes the only one of a fitting type
	Kind     string  `json:"kind"`               // numbers, image or raw
	Scale    float64 `json:"scale,omitempty"`    // 0 is 1; pixels are 0 to 255 before it
	Offset   float64 `json:"offset,omitempty"`
	// Standardise subtracts the mean of the reading from its values and divides by their standard deviation before Scale and Offset. It is
	// for numbers only.
	Standardise bool `json:"standardise,omitempty"`
	// Window is for arrays that are longer than the input: last takes the newest values, first the oldest. Without it they are an error.
	Window string `json:"window,omitempty"`
	// Resize is how pictures of another size are fitted: bilinear (default), nearest, or none, which makes them an error.
	Resize string `json:"resize,omitempty"`
	// Crop cuts a picture to the input's ratio of width and height, in its middle, before it is resized. Without it the picture is stretched.
	Crop bool `json:"crop,omitempty"`
	// Width and Height are those of raw pictures; 0 is the input's.
	Width     int `json:"width,omitempty"`
	Height    int `json:"height,omitempty"`
	MaxPixels int `json:"maxPixels,omitempty"` // of a picture before it is decoded; 0 is 4,194,304
}

const (
	defaultPixels = 4 << 20
	maxPixels     = 16 << 20
)

func (in *Input) validate(p *check.Problems) {
	p.OneOf("input.kind", cut(in.Kind), Numbers, Image, Raw)
	if len(in.Resource) > 256 || in.Resource != "" && !check.Printable(in.Resource) {
		p.Addf("input.resource", cut(in.Resource), "must be the name of a resource")
	}
	check.Range(p, "input.scale", in.Scale, -1e9, 1e9)
	check.Range(p, "input.offset", in.Offset, -1e9, 1e9)
	if in.Window != "" {
		p.OneOf("input.window", cut(in.Window), "first", "last")
	}
	if in.Resize != "" {
		p.OneOf("input.resize", cut(in.Resize), "bilinear", "nearest", "none")
	}
	check.Range(p, "input.width", in.Width, 0, 1<<14)
	check.Range(p, "input.height", in.Height, 0, 1<<14)
	check.Range(p, "input.maxPixels", in.MaxPixels, 0, maxPixels)
}

func (in *Input) scale() float32 {
	if in.Scale == 0 {
		return 1
	}
	return float32(in.Scale)
}

func (in *Input) pixels() int {
	if in.MaxPixels == 0 {
		return defaultPixels
	}
	return in.MaxPixels
}

// choose finds the reading that the model computes on.
func (in *Input) choose(t *task.Task) (*task.Reading, error) {
	var only *task.Reading
	for i := range t.Readings {
		r := &t.Readings[i]
		if in.Resource != "" && r.Resource != in.Resource {
			continue
		}
		if in.Resource == "" && (in.Kind == Numbers) == (r.Type == task.Blob) {
			continue
		}
		if only != nil {
			return nil, fmt.Errorf("the event has several readings that could be the input, such as %q and %q; name one in the manifest", only.Resource, r.Resource)
		}
		only = r
	}
	if only == nil {
		return nil, fmt.Errorf("the event has no reading of resource %q for an input of %s", in.Resource, in.Kind)
	}
	return only, nil
}

// Fill computes an input tensor from a reading, as a run of the model does.
func (in *Input) Fill(t *engine.Tensor, r *task.Reading) error { return in.fill(t, r, &scratch{}) }

// fill computes an input tensor from a reading. scratch keeps memory between calls.
func (in *Input) fill(t *engine.Tensor, r *task.Reading, scratch *scratch) error {
	if in.Kind == Numbers {
		return in.fillNumbers(t, r, scratch)
	}
	b, err := r.Bytes()
	if err != nil {
		return err
	}
	h, w, depth, planar := imageShape(t.Shape)
	pic, err := in.picture(b, h, w, depth)
	if err != nil {
		return fmt.Errorf("reading %s: %w", r.Resource, err)
	}
	if pic, err = in.fit(pic, h, w); err != nil {
		return fmt.Errorf("reading %s: %w", r.Resource, err)
	}
	scale, offset := in.scale(), float32(in.Offset)
	for i, v := range pic.data {
		at := i
		if planar {
			at = i%depth*h*w + i/depth
		}
		set(t, at, scale*(v-offset))
	}
	return nil
}

// scratch is memory that is used again.
type scratch struct{ numbers []float64 }

func (in *Input) fillNumbers(t *engine.Tensor, r *task.Reading, scratch *scratch) (err error) {
	list, err := r.Floats(scratch.numbers[:0])
	scratch.numbers = list
	if err != nil {
		return err
	}
	n := t.Elements()
	if len(list) > n && in.Window == "last" {
		list = list[len(list)-n:]
	}
	if len(list) > n && in.Window == "first" {
		list = list[:n]
	}
	if len(list) != n {
		return fmt.Errorf("reading %s has %d values, the model wants %d", r.Resource, len(list), n)
	}
	for i, v := range list {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("reading %s: element %d is %v", r.Resource, i, v)
		}
	}
	if in.Standardise {
		standardise(list)
	}
	scale := float64(in.scale())
	for i, v := range list {
		set(t, i, float32(scale*(v-in.Offset)))
	}
	return nil
}

// standardise subtracts the mean and divides by the standard deviation; values that are all equal become 0.
func standardise(list []float64) {
	mean, sum := 0., 0.
	for _, v := range list {
		mean += v / float64(len(list))
	}
	for i, v := range list {
		list[i] = v - mean
		sum += list[i] * list[i] / float64(len(list))
	}
	if deviation := math.Sqrt(sum); deviation > 0 {
		for i := range list {
			list[i] /= deviation
		}
	}
}

// set stores a real value as the tensor's type has it: rounded half away from zero and held within the type, as TensorFlow Lite's QUANTIZE
// does.
func set(t *engine.Tensor, i int, v float32) {
	if t.Type == engine.Float32 {
		t.F32[i] = v
		return
	}
	q := float64(v)
	if t.Scale != 0 {
		q = math.Round(float64(v/t.Scale)) + float64(t.Zero)
	} else {
		q = math.Round(q)
	}
	switch t.Type {
	case engine.Int8:
		t.I8[i] = int8(min(max(q, math.MinInt8), math.MaxInt8))
	case engine.Uint8:
		t.U8[i] = uint8(min(max(q, 0), math.MaxUint8))
	case engine.Int16:
		t.I16[i] = int16(min(max(q, math.MinInt16), math.MaxInt16))
	}
}

// get is a real value of a tensor.
func get(t *engine.Tensor, i int) float64 {
	var q float64
	switch t.Type {
	case engine.Float32:
		return float64(t.F32[i])
	case engine.Int8:
		q = float64(t.I8[i])
	case engine.Uint8:
		q = float64(t.U8[i])
	case engine.Int16:
		q = float64(t.I16[i])
	}
	if t.Scale == 0 {
		return q
	}
	return float64(t.Scale * float32(q-float64(t.Zero)))
}

// supported reports whether set and get know a type.
func supported(t engine.Type) bool {
	return t == engine.Float32 || t == engine.Int8 || t == engine.Uint8 || t == engine.Int16
}

// checkTensors says whether the manifest's input and output fit the tensors of the file.
func (m *Manifest) checkTensors(info *engine.Info) error {
	if len(info.Inputs) != 1 {
		return fmt.Errorf("the model has %d inputs; models of one input are supported", len(info.Inputs))
	}
	in := &info.Inputs[0]
	if !supported(in.Type) {
		return fmt.Errorf("input %s: its type is not supported", in)
	}
	if n := in.Elements(); n < 1 || n > maxElements {
		return fmt.Errorf("input %s: its shape must be fixed, with at most %d elements", in, maxElements)
	}
	if m.Input.Kind != Numbers {
		if h, w, depth, _ := imageShape(in.Shape); h == 0 || depth != 1 && depth != 3 {
			return fmt.Errorf("input %s: pictures want the shape 1×height×width×channels or 1×channels×height×width, of 1 or 3 channels", in)
		} else if h > 1<<14 || w > 1<<14 {
			return fmt.Errorf("input %s is larger than 16384 pixels a side", in)
		}
	}
	return m.Output.fits(m, info)
}

// imageShape reads height, width and channels, 0 where the shape is not that of a picture. Planar ones have a plane for each channel.
func imageShape(shape []int) (h, w, depth int, planar bool) {
	if len(shape) == 3 && shape[0] == 1 {
		return shape[1], shape[2], 1, false
	}
	if len(shape) != 4 || shape[0] != 1 {
		return 0, 0, 0, false
	}
	channels := func(n int) bool { return n == 1 || n == 3 }
	if channels(shape[1]) && !channels(shape[3]) {
		return shape[2], shape[3], shape[1], true
	}
	return shape[1], shape[2], shape[3], false
}
