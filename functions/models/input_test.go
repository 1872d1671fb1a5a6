package models

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/engine"
	"app-offload/functions/task"
)

// Resizing is that of TensorFlow's tf.image.resize and ONNX's Resize with half_pixel coordinates. The first case is from the documentation of ONNX's
// Resize (resize_upsample_scales_linear); the others follow from x = (i + ½)·in/out − ½, clamped to the picture.
func TestResizeGolden(t *testing.T) {
	for name, c := range map[string]struct {
		w, h, depth, toW, toH int
		rule                  func(i, in, out int) weight
		in, want              []float32
	}{
		"linear, up by 2": {2, 2, 1, 4, 4, between, []float32{1, 2, 3, 4}, []float32{
			1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4,
		}},
		"linear, 5 to 3":       {5, 1, 1, 3, 1, between, []float32{0, 1, 2, 3, 4}, []float32{1. / 3, 2, 11. / 3}},
		"linear, 4 to 2":       {4, 1, 1, 2, 1, between, []float32{1, 2, 3, 4}, []float32{1.5, 3.5}},
		"linear, 2 channels":   {1, 2, 2, 1, 1, between, []float32{0, 10, 4, 20}, []float32{2, 15}},
		"linear, one pixel":    {1, 1, 1, 3, 1, between, []float32{7}, []float32{7, 7, 7}},
		"nearest, 4 to 2":      {4, 1, 1, 2, 1, nearest, []float32{1, 2, 3, 4}, []float32{2, 4}},
		"nearest, 2 to 5":      {2, 1, 1, 5, 1, nearest, []float32{1, 2}, []float32{1, 1, 2, 2, 2}},
		"nearest, 3 to 1 high": {1, 3, 1, 1, 1, nearest, []float32{1, 2, 3}, []float32{2}},
	} {
		p := &picture{w: c.w, h: c.h, depth: c.depth, data: c.in}
		require.InDeltaSlice(t, c.want, p.resize(c.toH, c.toW, c.rule).data, 1e-5, name)
	}
}

// The channels of a picture are resized separately.
func TestChannelsAreResizedAlike(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	p := &picture{w: 5, h: 7, depth: 3, data: make([]float32, 105)}
	for i := range p.data {
		p.data[i] = r.Float32()
	}
	for _, rule := range []func(i, in, out int) weight{between, nearest} {
		got := p.resize(4, 9, rule)
		for d := range 3 {
			one := &picture{w: 5, h: 7, depth: 1}
			for i := d; i < len(p.data); i += 3 {
				one.data = append(one.data, p.data[i])
			}
			for i, want := range one.resize(4, 9, rule).data {
				require.Equal(t, want, got.data[3*i+d])
			}
		}
	}
}

// A model may want millions of pixels: the last one is still within the picture.
func TestTheLastPixelOfAWidePicture(t *testing.T) {
	for _, rule := range []func(i, in, out int) weight{between, nearest} {
		for _, out := range []int{6756702, 6771587, 1<<23 - 1} {
			w := rule(out-1, 1, out)
			require.Zero(t, w.low, out)
			require.Zero(t, w.high, out)
		}
	}
}

func TestCrop(t *testing.T) {
	p := &picture{w: 4, h: 2, depth: 1, data: []float32{0, 1, 2, 3, 4, 5, 6, 7}}
	require.Equal(t, []float32{1, 2, 5, 6}, p.crop(1, 1).data)
	require.Equal(t, []float32{0, 1, 2, 3}, p.crop(1, 4).data)
	require.Equal(t, []float32{1, 5}, p.crop(1000, 1).data[:2], "at least one column")
}

func blob(b []byte) *task.Reading {
	return &task.Reading{Resource: "r", Type: task.Blob, Encoding: task.Binary, Value: b}
}

// Pictures in all formats give their exact pixels.
func TestPictures(t *testing.T) {
	colours := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	colours.Set(0, 0, color.NRGBA{R: 200, G: 100, B: 50, A: 255})
	colours.Set(1, 0, color.NRGBA{R: 1, G: 2, B: 3, A: 128})
	grey := image.NewGray(image.Rect(0, 0, 2, 1))
	grey.Pix = []byte{7, 255}
	encode := func(img image.Image) []byte {
		var b bytes.Buffer
		require.NoError(t, png.Encode(&b, img))
		return b.Bytes()
	}
	var photo bytes.Buffer
	require.NoError(t, jpeg.Encode(&photo, grey, &jpeg.Options{Quality: 100}))
	deep := image.NewGray16(image.Rect(0, 0, 2, 1))
	deep.SetGray16(0, 0, color.Gray16{Y: 0x0700})
	deep.SetGray16(1, 0, color.Gray16{Y: 0xFFFF})
	for name, c := range map[string]struct {
		kind  string
		shape []int
		data  []byte
		want  []float32
		delta float64
	}{
		"colours":               {Image, []int{1, 1, 2, 3}, encode(colours), []float32{200, 100, 50, 1, 2, 3}, 0},
		"colours, planar":       {Image, []int{1, 3, 1, 2}, encode(colours), []float32{200, 1, 100, 2, 50, 3}, 0},
		"colours as grey":       {Image, []int{1, 1, 2, 1}, encode(colours), []float32{124.2, 1.815}, 0.001},
		"one pixel":             {Image, []int{1, 1, 1, 1}, encode(image.NewGray(image.Rect(0, 0, 1, 1))), []float32{0}, 0},
		"grey":                  {Image, []int{1, 1, 2, 1}, encode(grey), []float32{7, 255}, 0},
		"grey as colours":       {Image, []int{1, 1, 2, 3}, encode(grey), []float32{7, 7, 7, 255, 255, 255}, 0},
		"grey, 16 bits":         {Image, []int{1, 1, 2, 1}, encode(deep), []float32{7, 255}, 0},
		"grey in two axes":      {Image, []int{1, 1, 2}, encode(grey), []float32{7, 255}, 0},
		"a photo":               {Image, []int{1, 1, 2, 1}, photo.Bytes(), []float32{7, 255}, 3},
		"progressive":           {Image, []int{1, 2, 2, 1}, progressive(2, 2, maxScans), []float32{128, 128, 128, 128}, 0},
		"raw":                   {Raw, []int{1, 1, 2, 3}, []byte{1, 2, 3, 4, 5, 6}, []float32{1, 2, 3, 4, 5, 6}, 0},
		"raw as base64, planar": {Raw, []int{1, 3, 1, 2}, []byte{1, 2, 3, 4, 5, 6}, []float32{1, 4, 2, 5, 3, 6}, 0},
	} {
		in := Input{Kind: c.kind}
		x := &engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: c.shape}}
		x.Allocate()
		r := blob(c.data)
		if name == "raw as base64, planar" {
			r.Encoding, r.Value = task.JSON, []byte(base64.StdEncoding.EncodeToString(c.data))
		}
		require.NoError(t, in.fill(x, r, &scratch{}), name)
		require.InDeltaSlice(t, c.want, x.F32, c.delta, name)
	}
}

// Each kind of JPEG and PNG from cameras, such as progressive, CMYK, grey, in RGB and with restarts, gives about the same picture; a truncated one gives none.
func TestPicturesOfEveryKind(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	require.NoError(t, err)
	folder := filepath.Join(strings.TrimSpace(string(root)), "src", "image", "testdata")
	files, err := filepath.Glob(filepath.Join(folder, "video-001*g"))
	require.NoError(t, err)
	if len(files) < 20 {
		t.Skipf("%s has no pictures", folder)
	}
	in := Input{Kind: Image}
	for _, file := range files {
		if strings.Contains(file, "truncated") {
			continue // pictures with less detail, which end as they should
		}
		like := "video-001.png"
		if strings.Contains(file, "cmyk") {
			like = "video-001.cmyk.png" // its colours differ
		}
		var pictures [2]*picture
		for i, name := range []string{file, filepath.Join(folder, like)} {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			pictures[i], err = in.picture(b, 103, 150, 3)
			require.NoError(t, err, name)
			_, err = in.picture(b[:len(b)/2], 103, 150, 3)
			require.ErrorContains(t, err, fmt.Sprintf("150×103 pixels, %d bytes", len(b)/2), name)
		}
		have, want, off := pictures[0].data, pictures[1].data, 0.0
		require.Len(t, have, len(want), file)
		for i := range want {
			off += math.Abs(float64(have[i] - want[i]))
		}
		require.Less(t, off/float64(len(want)), 12.0, file)
	}
}

// bomb returns a PNG with only a header that claims a size.
func bomb(w, h uint32) []byte {
	head := binary.BigEndian.AppendUint32([]byte("IHDR"), w)
	head = append(binary.BigEndian.AppendUint32(head, h), 8, 2, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(head))
}

// progressive returns a grey JPEG of black pixels with the given number of scans, each of which contains only empty blocks, in 8 bytes.
func progressive(w, h, scans int) []byte {
	b := []byte{0xff, 0xd8, 0xff, 0xdb, 0, 67, 0} // one table of quantisation
	b = append(b, bytes.Repeat([]byte{1}, 64)...)
	b = append(b, 0xff, 0xc2, 0, 11, 8, byte(h>>8), byte(h), byte(w>>8), byte(w), 1, 1, 0x11, 0)
	b = append(b, 0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xe0) // one code of one bit: a run of 16,384 empty blocks
	for range scans {
		b = append(b, 0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	return append(b, 0xff, 0xd9)
}

// Readings that do not fit cause errors with the expected form, before memory is allocated.
func TestReadingsThatDoNotFit(t *testing.T) {
	numbers := func(s string) *task.Reading {
		return &task.Reading{Resource: "r", Type: task.Float64Array, Value: []byte(s)}
	}
	for want, c := range map[string]struct {
		in Input
		r  *task.Reading
	}{
		"10000×10000 pixels":                {Input{Kind: Image}, blob(bomb(10000, 10000))},
		"30000×30000 pixels":                {Input{Kind: Image}, blob(progressive(30000, 30000, 1))},
		"50000 scans":                       {Input{Kind: Image}, blob(progressive(2048, 2048, 50000))},
		"5×0 pixels":                        {Input{Kind: Image}, blob(progressive(5, 0, 1))},
		"0×5 pixels":                        {Input{Kind: Image}, blob(progressive(0, 5, 1))},
		"33554432×1 pixels":                 {Input{Kind: Image}, blob(bomb(1<<25, 1))},
		"expected a picture in JPEG or PNG": {Input{Kind: Image}, blob([]byte("GIF89a"))},
		"decoding the picture":              {Input{Kind: Image}, blob(bomb(2, 2))},
		"the binary has 5 bytes":            {Input{Kind: Raw}, blob(make([]byte, 5))},
		"100×16384 pixels":                  {Input{Kind: Raw, Width: 100, Height: 1 << 14}, blob(make([]byte, 5))},
		"has 5 values, the model wan":       {Input{Kind: Numbers}, numbers("[1,2,3,4,5]")},
		"has 0 values":                      {Input{Kind: Numbers, Window: "last"}, numbers("[]")},
		"element 1":                         {Input{Kind: Numbers}, numbers("[1,NaN,3,4]")},
		"is 1e+39, too large":               {Input{Kind: Numbers}, numbers("[1,2,1e39,4]")},
		"is -1e+38, too large":              {Input{Kind: Numbers, Scale: 10}, numbers("[1,2,-1e38,4]")},
		"its type is":                       {Input{Kind: Numbers}, blob([]byte("x"))},
		"as bytes":                          {Input{Kind: Image}, numbers("[1]")},
	} {
		x := &engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: []int{1, 2, 2, 1}}}
		x.Allocate()
		require.ErrorContains(t, c.in.fill(x, c.r, &scratch{}), want)
	}
	in := Input{Kind: Image, Resize: "none"}
	var b bytes.Buffer
	require.NoError(t, png.Encode(&b, image.NewGray(image.Rect(0, 0, 3, 2))))
	x := &engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: []int{1, 2, 2, 1}}}
	x.Allocate()
	require.ErrorContains(t, in.fill(x, blob(b.Bytes()), &scratch{}), "resizing is off")
}

// Numbers are standardised, shifted, scaled, cut, and quantised: rounded half away from zero, and clamped to the type.
func TestNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		in   Input
		spec engine.Spec
		text string
		want []float64
	}{
		"as they are":    {Input{}, engine.Spec{Type: engine.Float32}, "[1,2.5,-3]", []float64{1, 2.5, -3}},
		"scaled":         {Input{Scale: 2, Offset: 1}, engine.Spec{Type: engine.Float32}, "[1,2,3]", []float64{0, 2, 4}},
		"the newest":     {Input{Window: "last"}, engine.Spec{Type: engine.Float32}, "[1,2,3,4]", []float64{2, 3, 4}},
		"the oldest":     {Input{Window: "first"}, engine.Spec{Type: engine.Float32}, "[1,2,3,4]", []float64{1, 2, 3}},
		"standardised":   {Input{Standardise: true}, engine.Spec{Type: engine.Float32}, "[1,3,2]", []float64{-math.Sqrt(1.5), math.Sqrt(1.5), 0}},
		"all equal":      {Input{Standardise: true}, engine.Spec{Type: engine.Float32}, "[4,4,4]", []float64{0, 0, 0}},
		"huge":           {Input{Standardise: true}, engine.Spec{Type: engine.Float32}, "[-1.7e308,1.7e308,0]", []float64{-math.Sqrt(1.5), math.Sqrt(1.5), 0}},
		"tiny":           {Input{Standardise: true}, engine.Spec{Type: engine.Float32}, "[1e-300,3e-300,2e-300]", []float64{-math.Sqrt(1.5), math.Sqrt(1.5), 0}},
		"beyond a type":  {Input{}, engine.Spec{Type: engine.Int8}, "[1e308,-1e308,0]", []float64{127, -128, 0}},
		"int8":           {Input{}, engine.Spec{Type: engine.Int8, Scale: 0.5, Zero: 3}, "[0.25,-0.25,99]", []float64{0.5, -0.5, 62}},
		"uint8":          {Input{}, engine.Spec{Type: engine.Uint8, Scale: 1, Zero: 10}, "[-11,0.4,300]", []float64{-10, 0, 245}},
		"int16":          {Input{}, engine.Spec{Type: engine.Int16, Scale: 0.001}, "[1,-40,0]", []float64{1, -32.768, 0}},
		"plain integers": {Input{}, engine.Spec{Type: engine.Int8}, "[1.5,-1.5,200]", []float64{2, -2, 127}},
		"below a type":   {Input{}, engine.Spec{Type: engine.Int8}, "[-128.4,-129,-1000]", []float64{-128, -128, -128}},
	} {
		c.in.Kind, c.spec.Shape = Numbers, []int{1, 3}
		x := &engine.Tensor{Spec: c.spec}
		x.Allocate()
		require.NoError(t, c.in.fill(x, &task.Reading{Resource: "r", Type: task.Float64Array, Value: []byte(c.text)}, &scratch{}), name)
		for i, want := range c.want {
			require.InDelta(t, want, get(x, i), 1e-5, "%s %d", name, i)
		}
	}
}

// The reading is found by its resource, or by its kind if only one reading has it.
func TestChoosingAReading(t *testing.T) {
	e := &task.Task{Readings: []task.Reading{{Resource: "a", Type: task.Float32}, {Resource: "pic", Type: task.Blob}}}
	for _, c := range []struct {
		in   Input
		want string
	}{{Input{Kind: Numbers}, "a"}, {Input{Kind: Image}, "pic"}, {Input{Kind: Numbers, Resource: "a"}, "a"}} {
		r, err := c.in.choose(e)
		require.NoError(t, err)
		require.Equal(t, c.want, r.Resource)
	}
	_, err := (&Input{Kind: Numbers, Resource: "z"}).choose(e)
	require.ErrorContains(t, err, `no reading of resource "z"`)
	e.Readings = append(e.Readings, task.Reading{Resource: "b", Type: task.Int8})
	_, err = (&Input{Kind: Numbers}).choose(e)
	require.ErrorContains(t, err, `"a" and "b"`)
}

// fixed is a session with fixed outputs, for tests of their meaning.
type fixed struct{ in, out []*engine.Tensor }

func (f *fixed) Inputs() []*engine.Tensor  { return f.in }
func (f *fixed) Outputs() []*engine.Tensor { return f.out }
func (f *fixed) Run() error                { return nil }
func (f *fixed) Reset()                    {}

func floats(v ...float32) *engine.Tensor {
	return &engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: []int{1, len(v)}}, F32: v}
}

// Golden values: softmax(1, 2, 3) and softmax(½, 1, 1½) by their formula; the errors calculated by hand.
func TestOutputs(t *testing.T) {
	m := &Manifest{Labels: []string{"a", "b", "c"}}
	two := &Manifest{Labels: []string{"no", "yes"}}
	run := func(o Output, m *Manifest, out ...float32) Answer {
		t.Helper()
		var a Answer
		require.NoError(t, o.read(&a, m, &fixed{[]*engine.Tensor{floats(1, 2)}, []*engine.Tensor{floats(out...)}}))
		return a
	}
	a := run(Output{Kind: Classes, Activation: "softmax"}, m, 1, 2, 3)
	require.Equal(t, "c", a.Label)
	require.InDeltaSlice(t, []float64{0.09003057, 0.24472847, 0.66524096}, a.Scores, 1e-7)
	require.InDelta(t, 0.66524096, a.Confidence, 1e-7)
	a = run(Output{Kind: Classes, Activation: "softmax", Temperature: 2}, m, 1, 2, 3)
	require.InDeltaSlice(t, []float64{0.18632372, 0.30719589, 0.50648039}, a.Scores, 1e-7)
	require.InDelta(t, 3, a.Logits[2], 0)
	a = run(Output{Kind: Classes}, m, 0.09003057, 0.66524096, 0.24472847)
	require.InDelta(t, 0.66524096, a.Confidence, 1e-6, "probabilities stay what they are")
	require.Equal(t, "b", a.Label)
	require.Equal(t, a, run(Output{Kind: Classes, Activation: "none"}, m, 0.09003057, 0.66524096, 0.24472847), "which is what none means")
	a = run(Output{Kind: Classes, Temperature: 2}, m, 0.09003057, 0.24472847, 0.66524096)
	require.InDelta(t, 0.50648039, a.Confidence, 1e-6, "as of logits")
	a = run(Output{Kind: Classes, Activation: "softmax"}, m, 1000, -1000, 0)
	require.InDelta(t, 1, a.Confidence, 0)
	a = run(Output{Kind: Classes, Activation: "softmax"}, m, 1, 2, 2)
	require.Equal(t, "b", a.Label, "the first of equals")
	a = run(Output{Kind: Classes, Activation: "sigmoid"}, two, 2)
	require.Equal(t, "yes", a.Label)
	require.InDelta(t, 0.88079708, a.Confidence, 1e-7)
	a = run(Output{Kind: Classes}, two, 0.25)
	require.Equal(t, "no", a.Label)
	require.InDelta(t, 0.75, a.Confidence, 1e-6)
	for _, v := range []float32{-0.5, 0, 1, 1.5} { // a quantised probability may be slightly outside of 0 to 1
		a = run(Output{Kind: Classes}, two, v)
		certain := min(max(float64(v), 0), 1)
		require.InDeltaSlice(t, []float64{1 - certain, certain}, a.Scores, 1e-9, "%v", v)
		require.LessOrEqual(t, a.Logits[0], 0., "the logarithm of a probability")
		require.LessOrEqual(t, a.Logits[1], 0., "the logarithm of a probability")
	}
	a = run(Output{Kind: Reconstruction, Threshold: 2.5}, m, 2, 4)
	require.InDelta(t, 2.5, a.Error, 0, "(1² + 2²) / 2")
	require.Equal(t, "anomaly", a.Label)
	a = run(Output{Kind: Score, Threshold: 1}, m, 0.5)
	require.Equal(t, "normal", a.Label)
	a = run(Output{Kind: Values, Embedding: 1}, m, 4, 5)
	require.Equal(t, []float64{4, 5}, a.Values)
	require.Equal(t, []float64{4, 5}, a.Embedding)

	var none Answer
	nan := float32(math.NaN())
	o := Output{Kind: Values}
	require.ErrorContains(t, o.read(&none, m, &fixed{[]*engine.Tensor{floats(1)}, []*engine.Tensor{floats(nan)}}), "NaN")
	o = Output{Kind: Classes}
	require.ErrorContains(t, o.read(&none, m, &fixed{[]*engine.Tensor{floats(1)}, []*engine.Tensor{floats(1, 2)}}), "changed its shape")
}

// A picture of a digit is processed by a quantised model from another project.
func TestAForeignModel(t *testing.T) {
	const dir = "../../../shared/data/models/" // beside the checkout
	file, err := os.ReadFile(dir + "mnist_lstm_int8.tflite")
	if err != nil {
		t.Skip("the models are not there: ", err)
	}
	store := t.TempDir()
	m := describe(t, "digits", "1", file, func(m *Manifest) {
		m.Labels = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
		m.Input = Input{Kind: Image, Scale: 1. / 255}
		m.Output = Output{Kind: Classes}
	})
	put(t, store, m, file)
	s := open(t, store)
	for _, digit := range []string{"0", "1", "2", "3", "4"} {
		pic, err := os.ReadFile(dir + "mnist_" + digit + ".png")
		require.NoError(t, err)
		a, err := s.Model("digits").Run(t.Context(), &task.Task{Readings: []task.Reading{*blob(pic)}})
		require.NoError(t, err)
		require.Equal(t, digit, a.Label, "%+v", a)
	}
}

// The manifest's output must fit the model's outputs: they exist, have a readable type and the right number of elements.
func TestOutputsFitTheirMeaning(t *testing.T) {
	spec := func(typ engine.Type, n int) engine.Spec { return engine.Spec{Name: "y", Type: typ, Shape: []int{1, n}} }
	info := &engine.Info{Inputs: []engine.Spec{spec(engine.Float32, 4)}, Outputs: []engine.Spec{spec(engine.Float32, 3), spec(engine.Int8, 4), spec(engine.Bool, 3), spec(engine.Float32, 4096), spec(engine.Float32, 4097)}}
	three := &Manifest{Labels: []string{"a", "b", "c"}}
	for name, c := range map[string]struct {
		output Output
		fits   bool
	}{
		"labels": {Output{Kind: Classes}, true}, "another number of labels": {Output{Kind: Classes, Tensor: 1}, false},
		"a reconstruction": {Output{Kind: Reconstruction, Tensor: 1}, true}, "one of another size": {Output{Kind: Reconstruction}, false},
		"a score of several": {Output{Kind: Score}, false}, "values": {Output{Kind: Values, Tensor: 1}, true},
		"the last embedding": {Output{Kind: Classes, Embedding: 2}, true}, "no embedding": {Output{Kind: Classes, Embedding: 0}, true},
		"an embedding beyond": {Output{Kind: Classes, Embedding: 6}, false}, "an output beyond": {Output{Kind: Values, Tensor: 5}, false},
		"as many values as an answer has": {Output{Kind: Values, Tensor: 3}, true}, "more": {Output{Kind: Values, Tensor: 4}, false},
		"a type that is not read": {Output{Kind: Values, Tensor: 2}, false}, "such an embedding": {Output{Kind: Classes, Embedding: 3}, false},
	} {
		require.Equal(t, c.fits, c.output.fits(three, info) == nil, name)
	}
}

// Pictures have one or three channels, in either order of axes, and inputs have elements.
func TestInputsThatPicturesFit(t *testing.T) {
	for _, c := range []struct {
		kind  string
		shape []int
		fits  bool
	}{
		{Image, []int{1, 8, 9, 1}, true},
		{Image, []int{1, 8, 9, 3}, true},
		{Image, []int{1, 1, 8, 9}, true},
		{Image, []int{1, 3, 8, 9}, true},
		{Image, []int{1, 8, 9}, true},
		{Image, []int{1, 8, 9, 2}, false},
		{Image, []int{1, 8, 9, 4}, false},
		{Image, []int{2, 8, 9, 1}, false},
		{Image, []int{8, 9}, false},
		{Image, []int{1, 1 << 15, 1, 1}, false},
		{Numbers, []int{8, 9}, true},
		{Numbers, []int{1, 0}, false},
		{Numbers, []int{1, maxElements}, true},
		{Numbers, []int{1, maxElements + 1}, false},
	} {
		m := &Manifest{Input: Input{Kind: c.kind}, Output: Output{Kind: Score}}
		info := &engine.Info{Inputs: []engine.Spec{{Type: engine.Float32, Shape: c.shape}}, Outputs: []engine.Spec{{Type: engine.Float32, Shape: []int{1}}}}
		require.Equal(t, c.fits, m.checkTensors(info) == nil, "%s %v", c.kind, c.shape)
	}
}
