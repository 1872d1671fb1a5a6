package models

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // decoders
	_ "image/png"
	"math"

	"app-offload/functions/check"
	"app-offload/functions/engine"
	"app-offload/functions/task"
)

// Kinds of input.
const (
	Numbers = "numbers" // a number or an array of numbers, element by element
	Image   = "image"   // a binary with a JPEG or PNG
	Raw     = "raw"     // a binary with pixels, one byte for each channel, line by line
)

// Input defines how a reading becomes the first input of a model. The real values are Scale·(x − Offset), quantised for the model's tensor.
type Input struct {
	Resource string  `json:"resource,omitempty"` // of the reading; "" selects the only reading with a fitting type
	Kind     string  `json:"kind"`               // numbers, image or raw
	Scale    float64 `json:"scale,omitempty"`    // 0 means 1; applied to pixels from 0 to 255
	Offset   float64 `json:"offset,omitempty"`
	// Standardise subtracts the mean of the reading from its values and divides by their standard deviation, before Scale and Offset. It applies only
	// to numbers.
	Standardise bool `json:"standardise,omitempty"`
	// Window selects values of arrays longer than the input: last takes the newest values, first the oldest. Without it, such arrays are an error.
	Window string `json:"window,omitempty"`
	// Resize selects how pictures of another size are fitted: bilinear (default), nearest, or none, which makes them an error.
	Resize string `json:"resize,omitempty"`
	// Crop cuts a picture to the input's ratio of width and height, at the centre, before it is resized. Without it, the picture is stretched.
	Crop bool `json:"crop,omitempty"`
	// Width and Height are the size of raw pictures; 0 means that of the input.
	Width     int `json:"width,omitempty"`
	Height    int `json:"height,omitempty"`
	MaxPixels int `json:"maxPixels,omitempty"` // of a picture, checked before it is decoded; 0 means 4,194,304
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

// choose returns the reading that the model reads.
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

// Fill computes an input tensor from a reading, as in a run of the model.
func (in *Input) Fill(t *engine.Tensor, r *task.Reading) error { return in.fill(t, r, &scratch{}) }

// fill computes an input tensor from a reading. scratch is reused memory.
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

// scratch is reused memory.
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
		x := float32(scale * (v - in.Offset))
		if math.IsInf(float64(x), 0) && t.Type == engine.Float32 {
			return fmt.Errorf("reading %s: element %d is %v, too large for the model", r.Resource, i, v)
		}
		set(t, i, x)
	}
	return nil
}

// standardise subtracts the mean and divides by the standard deviation. Equal values become 0.
func standardise(list []float64) {
	peak, mean, sum := 0., 0., 0.
	for _, v := range list {
		peak = max(peak, math.Abs(v))
	}
	if _, exp := math.Frexp(peak); exp > 500 || exp < -500 { // squares would overflow or vanish
		for i, v := range list {
			list[i] = math.Ldexp(v, -exp)
		}
	}
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

// set stores a real value in the tensor's type: rounded half away from zero and clamped to the type, like TensorFlow Lite's QUANTIZE.
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

// supported reports whether set and get support a type.
func supported(t engine.Type) bool {
	return t == engine.Float32 || t == engine.Int8 || t == engine.Uint8 || t == engine.Int16
}

// checkTensors compares the manifest's input and output with the tensors of the file.
func (m *Manifest) checkTensors(info *engine.Info) error {
	if len(info.Inputs) != 1 {
		return fmt.Errorf("the model has %d inputs; models with one input are supported", len(info.Inputs))
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
			return fmt.Errorf("input %s: pictures need the shape 1×height×width×channels or 1×channels×height×width, with 1 or 3 channels", in)
		} else if h > 1<<14 || w > 1<<14 {
			return fmt.Errorf("input %s is larger than 16384 pixels a side", in)
		}
	}
	return m.Output.fits(m, info)
}

// imageShape returns height, width and channels, 0 if the shape is not that of a picture. A planar picture has one plane for each channel.
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

// maxScans is the maximum number of passes over a JPEG. A progressive JPEG can contain a scan of all its pixels in 20 bytes, so a megabyte could
// occupy a worker for many seconds.
const maxScans = 100

// picture holds pixels as numbers from 0 to 255, line by line, with interleaved channels.
type picture struct {
	w, h, depth int
	data        []float32
}

// picture decodes a binary reading. Width and height are checked before memory is allocated.
func (in *Input) picture(b []byte, h, w, depth int) (*picture, error) {
	if in.Kind == Raw {
		return in.raw(b, h, w, depth)
	}
	head, format, err := image.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("expected a picture in JPEG or PNG: %w", err)
	}
	if head.Width < 1 || head.Height < 1 || head.Width > in.pixels()/head.Height {
		return nil, fmt.Errorf("the picture (%s) has %d×%d pixels, at most %d are allowed", format, head.Width, head.Height, in.pixels())
	}
	if n := bytes.Count(b, []byte{0xff, 0xda}); format == "jpeg" && n > maxScans {
		return nil, fmt.Errorf("the picture (jpeg) has %d scans, at most %d are allowed; a progressive JPEG has about 10", n, maxScans)
	}
	decoded, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decoding the picture (%s, %d×%d pixels, %d bytes): %w", format, head.Width, head.Height, len(b), err)
	}
	return pixelsOf(decoded, depth), nil
}

// raw reads unencoded bytes: Width×Height pixels with the channels of the model's input.
func (in *Input) raw(b []byte, h, w, depth int) (*picture, error) {
	if in.Width > 0 {
		w = in.Width
	}
	if in.Height > 0 {
		h = in.Height
	}
	if w > in.pixels()/h || len(b) != w*h*depth {
		return nil, fmt.Errorf("the binary has %d bytes, expected %d×%d pixels with %d channels", len(b), w, h, depth)
	}
	p := &picture{w: w, h: h, depth: depth, data: make([]float32, len(b))}
	for i, v := range b {
		p.data[i] = float32(v)
	}
	return p, nil
}

// pixelsOf reads an sRGB image without conversion and without its alpha, in three channels or as luma (ITU-R BT.601).
func pixelsOf(img image.Image, depth int) *picture {
	r := img.Bounds()
	p := &picture{w: r.Dx(), h: r.Dy(), depth: depth, data: make([]float32, r.Dx()*r.Dy()*depth)}
	at := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			red, green, blue := rgb(img, x, y)
			if depth == 1 {
				p.data[at] = 0.299*red + 0.587*green + 0.114*blue
				if red == green && green == blue {
					p.data[at] = red // grey pixels stay exact
				}
			} else {
				p.data[at], p.data[at+1], p.data[at+2] = red, green, blue
			}
			at += depth
		}
	}
	return p
}

func rgb(img image.Image, x, y int) (r, g, b float32) {
	switch i := img.(type) {
	case *image.Gray:
		v := float32(i.GrayAt(x, y).Y)
		return v, v, v
	case *image.YCbCr:
		c := i.YCbCrAt(x, y)
		red, green, blue := color.YCbCrToRGB(c.Y, c.Cb, c.Cr)
		return float32(red), float32(green), float32(blue)
	}
	c, _ := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
	return float32(c.R), float32(c.G), float32(c.B)
}

// fit crops and resizes a picture to the model's input.
func (in *Input) fit(p *picture, h, w int) (*picture, error) {
	if in.Crop {
		p = p.crop(h, w)
	}
	if p.w == w && p.h == h {
		return p, nil
	}
	switch in.Resize {
	case "none":
		return nil, fmt.Errorf("the picture has %d×%d pixels, the model wants %d×%d, and resizing is off", p.w, p.h, w, h)
	case "nearest":
		return p.resize(h, w, nearest), nil
	}
	return p.resize(h, w, between), nil
}

// crop keeps the largest central part with the ratio of w and h.
func (p *picture) crop(h, w int) *picture {
	cw, ch := p.w, p.h
	if int64(p.w)*int64(h) > int64(p.h)*int64(w) {
		cw = max(1, int((int64(p.h)*int64(w)+int64(h)/2)/int64(h)))
	} else {
		ch = max(1, int((int64(p.w)*int64(h)+int64(w)/2)/int64(w)))
	}
	x0, y0 := (p.w-cw)/2, (p.h-ch)/2
	out := &picture{w: cw, h: ch, depth: p.depth, data: make([]float32, 0, cw*ch*p.depth)}
	for y := y0; y < y0+ch; y++ {
		out.data = append(out.data, p.data[(y*p.w+x0)*p.depth:(y*p.w+x0+cw)*p.depth]...)
	}
	return out
}

// weight is the position of an output pixel between two input pixels.
type weight struct {
	low, high int
	share     float32 // of high
}

// between is the rule of TensorFlow's tf.image.resize, bilinear without antialiasing: pixels are areas with centres at halves.
func between(i, in, out int) weight {
	at := (float32(i)+0.5)*(float32(in)/float32(out)) - 0.5
	floor := float32(math.Floor(float64(at)))
	low := max(int(floor), 0)
	return weight{low: low, high: min(int(floor)+1, in-1), share: at - floor}
}

// nearest is the rule of tf.image.resize for nearest neighbours. From millions of pixels on, float32 rounds the last position up to in.
func nearest(i, in, out int) weight {
	at := min(int(math.Floor(float64((float32(i)+0.5)*(float32(in)/float32(out))))), in-1)
	return weight{low: at, high: at}
}

// resize computes each pixel from at most four pixels.
func (p *picture) resize(h, w int, rule func(i, in, out int) weight) *picture {
	out := &picture{w: w, h: h, depth: p.depth, data: make([]float32, h*w*p.depth)}
	columns := make([]weight, w)
	for x := range columns {
		columns[x] = rule(x, p.w, w)
	}
	at := 0
	for y := range h {
		r := rule(y, p.h, h)
		low, high := p.data[r.low*p.w*p.depth:], p.data[r.high*p.w*p.depth:]
		for _, c := range columns {
			for d := range p.depth {
				tl, tr := low[c.low*p.depth+d], low[c.high*p.depth+d]
				bl, br := high[c.low*p.depth+d], high[c.high*p.depth+d]
				top, bottom := tl+(tr-tl)*c.share, bl+(br-bl)*c.share
				out.data[at] = top + (bottom-top)*r.share
				at++
			}
		}
	}
	return out
}
