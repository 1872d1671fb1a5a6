package models

import (
	"encoding/json"
	"image"
	"image/color"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every key of a manifest, at its bounds and beyond.
func TestTheBoundsOfAManifest(t *testing.T) {
	text := func(n int) string { return strings.Repeat("a", n) }
	many := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = "a"
		}
		return list
	}
	tensors := func(shape ...int) func(*Manifest) { return func(m *Manifest) { m.Inputs = []Tensor{{Shape: shape}} } }
	for _, c := range []struct {
		key  string // "" is valid
		make func(*Manifest)
	}{
		{"", func(*Manifest) {}},
		{"format", func(m *Manifest) { m.Format = 0 }},
		{"format", func(m *Manifest) { m.Format = 2 }},
		{"", func(m *Manifest) { m.Name = text(48) }},
		{"name", func(m *Manifest) { m.Name = text(49) }},
		{"name", func(m *Manifest) { m.Name = "" }},
		{"name", func(m *Manifest) { m.Name = "-a" }},
		{"name", func(m *Manifest) { m.Name = "A" }},
		{"", func(m *Manifest) { m.Name = "0-_a" }},
		{"variant", func(m *Manifest) { m.Variant = "" }},
		{"engine", func(m *Manifest) { m.Engine = "tf" }},
		{"file", func(m *Manifest) { m.File = "../x" }},
		{"file", func(m *Manifest) { m.File = "" }},
		{"sha256", func(m *Manifest) { m.SHA256 = text(63) }},
		{"sha256", func(m *Manifest) { m.SHA256 = text(66) }},
		{"sha256", func(m *Manifest) { m.SHA256 = strings.Repeat("A", 64) }},
		{"sha256", func(m *Manifest) { m.SHA256 = strings.Repeat("g", 64) }},
		{"size", func(m *Manifest) { m.Size = 0 }},
		{"", func(m *Manifest) { m.Size = 1<<31 - 1 }},
		{"size", func(m *Manifest) { m.Size = 1 << 31 }},
		{"", func(m *Manifest) { m.Memory = 16 << 30 }},
		{"memory", func(m *Manifest) { m.Memory = 16<<30 + 1 }},
		{"memory", func(m *Manifest) { m.Memory = -1 }},
		{"", func(m *Manifest) { m.Outputs = make([]Tensor, maxTensors) }},
		{"outputs", func(m *Manifest) { m.Outputs = make([]Tensor, maxTensors+1) }},
		{"", tensors(1, maxElements)},
		{"", tensors(4, maxElements/4)},
		{"inputs[0].shape", tensors(4, maxElements/4+1)},
		{"inputs[0].shape", tensors(maxElements + 1)},
		{"inputs[0].shape", tensors(0)},
		{"inputs[0].shape", tensors(1, -1)},
		{"inputs[0].shape", tensors(1<<20, 1<<20, 1<<20, 1<<20)},
		{"", func(m *Manifest) { m.Labels = many(maxLabels) }},
		{"labels", func(m *Manifest) { m.Labels = many(maxLabels + 1) }},
		{"", func(m *Manifest) { m.Labels = []string{text(maxLabel), "b"} }},
		{"labels", func(m *Manifest) { m.Labels = []string{"b", text(maxLabel + 1)} }},
		{"labels", func(m *Manifest) { m.Labels = []string{"b", ""} }},
		{"labels", func(m *Manifest) { m.Labels = []string{"b", "\n"} }},
		{"", func(m *Manifest) { m.Classes = many(maxClasses) }},
		{"classes", func(m *Manifest) { m.Classes = many(maxClasses + 1) }},
		{"", func(m *Manifest) { m.Classes = []string{text(maxLabel)} }},
		{"classes", func(m *Manifest) { m.Classes = []string{text(maxLabel + 1)} }},
		{"classes", func(m *Manifest) { m.Classes = []string{""} }},
		{"classes", func(m *Manifest) { m.Classes = []string{"\x00"} }},
		{"input.kind", func(m *Manifest) { m.Input.Kind = "" }},
		{"", func(m *Manifest) { m.Input.Resource = text(256) }},
		{"input.resource", func(m *Manifest) { m.Input.Resource = text(257) }},
		{"input.resource", func(m *Manifest) { m.Input.Resource = "\n" }},
		{"", func(m *Manifest) { m.Input.Scale, m.Input.Offset = -1e9, 1e9 }},
		{"input.scale", func(m *Manifest) { m.Input.Scale = 1.1e9 }},
		{"input.offset", func(m *Manifest) { m.Input.Offset = -1.1e9 }},
		{"", func(m *Manifest) { m.Input.Window, m.Input.Resize = "last", "nearest" }},
		{"input.window", func(m *Manifest) { m.Input.Window = "middle" }},
		{"input.resize", func(m *Manifest) { m.Input.Resize = "cubic" }},
		{"", func(m *Manifest) { m.Input.Width, m.Input.Height, m.Input.MaxPixels = 1<<14, 1<<14, maxPixels }},
		{"input.width", func(m *Manifest) { m.Input.Width = 1<<14 + 1 }},
		{"input.height", func(m *Manifest) { m.Input.Height = -1 }},
		{"input.maxPixels", func(m *Manifest) { m.Input.MaxPixels = maxPixels + 1 }},
		{"output.kind", func(m *Manifest) { m.Output.Kind = "" }},
		{"labels", func(m *Manifest) { m.Labels = m.Labels[:1] }},
		{"", func(m *Manifest) { m.Labels, m.Output.Kind = nil, Values }},
		{"", func(m *Manifest) { m.Output.Activation = "sigmoid" }},
		{"output.activation", func(m *Manifest) { m.Output.Activation = "relu" }},
		{"", func(m *Manifest) { m.Output.Tensor, m.Output.Embedding = maxTensors-1, maxTensors }},
		{"output.tensor", func(m *Manifest) { m.Output.Tensor = maxTensors }},
		{"output.tensor", func(m *Manifest) { m.Output.Tensor = -1 }},
		{"output.embedding", func(m *Manifest) { m.Output.Embedding = maxTensors + 1 }},
		{"", func(m *Manifest) { m.Output.Temperature, m.Output.Threshold = 1000, 1e12 }},
		{"output.temperature", func(m *Manifest) { m.Output.Temperature = 1001 }},
		{"output.threshold", func(m *Manifest) { m.Output.Threshold = 1.1e12 }},
		{"", func(m *Manifest) { m.Output.Kind, m.Output.Threshold = Score, 1e-9 }},
		{"output.threshold", func(m *Manifest) { m.Output.Kind = Score }},
		{"output.threshold", func(m *Manifest) { m.Output.Kind = Reconstruction }},
	} {
		m := &Manifest{
			Format: 1, Name: "a", Version: "1", Variant: Edge, Engine: TFLite, File: "model.tflite", SHA256: strings.Repeat("0", 64), Size: 1,
			Labels: []string{"a", "b"}, Input: Input{Kind: Numbers}, Output: Output{Kind: Classes},
		}
		c.make(m)
		err := m.Validate()
		if c.key == "" {
			require.NoError(t, err)
			b, err := json.Marshal(m)
			require.NoError(t, err)
			if len(b) <= maxManifest {
				same, err := ParseManifest(b)
				require.NoError(t, err)
				require.Equal(t, m, same)
				_, err = ParseManifest(append(b, "{}"...))
				require.Error(t, err, "something follows")
				_, err = ParseManifest(append(b, strings.Repeat(" ", maxManifest)...))
				require.Error(t, err, "too long")
			}
			continue
		}
		require.ErrorContains(t, err, c.key+" = ")
		require.NotContains(t, err.Error(), "\n", "nothing else is wrong")
	}
	require.EqualValues(t, 8*10+4<<20, (&Manifest{Size: 10}).memory())
	require.EqualValues(t, 7, (&Manifest{Size: 10, Memory: 7}).memory())
	require.Equal(t, []float32{1, 2}, []float32{(&Input{}).scale(), (&Input{Scale: 2}).scale()})
	require.Equal(t, []int{defaultPixels, 9}, []int{(&Input{}).pixels(), (&Input{MaxPixels: 9}).pixels()})
}

// A pixel has the same colour in every kind of picture, and a grey pixel stays exact.
func TestPixelsOfAllKindsOfPictures(t *testing.T) {
	area := image.Rect(3, 5, 7, 8)
	grey, full, coded := image.NewGray(area), image.NewNRGBA(area), image.NewYCbCr(area, image.YCbCrSubsampleRatio444)
	for y := area.Min.Y; y < area.Max.Y; y++ {
		for x := area.Min.X; x < area.Max.X; x++ {
			v := uint8(20*x + 7*y)
			grey.SetGray(x, y, color.Gray{Y: v})
			full.SetNRGBA(x, y, color.NRGBA{R: v, G: v / 2, B: v / 3, A: 128})
			i := coded.YOffset(x, y)
			coded.Y[i], coded.Cb[i], coded.Cr[i] = v, v/2, 255-v
			r, g, b := rgb(grey, x, y)
			require.Equal(t, [3]float32{float32(v), float32(v), float32(v)}, [3]float32{r, g, b})
			r, g, b = rgb(full, x, y)
			require.Equal(t, [3]float32{float32(v), float32(v / 2), float32(v / 3)}, [3]float32{r, g, b}, "without its transparency")
			want := color.NRGBAModel.Convert(coded.At(x, y)).(color.NRGBA)
			r, g, b = rgb(coded, x, y)
			require.Equal(t, [3]float32{float32(want.R), float32(want.G), float32(want.B)}, [3]float32{r, g, b})
		}
	}
}

// Fitting of pictures of another size.
func TestPicturesAreFitted(t *testing.T) {
	p := &picture{w: 4, h: 2, depth: 1, data: []float32{0, 1, 2, 3, 4, 5, 6, 7}}
	for name, c := range map[string]struct {
		in   Input
		h, w int
		want []float32
	}{
		"the same":          {Input{Resize: "none"}, 2, 4, p.data},
		"nearest":           {Input{Resize: "nearest"}, 1, 2, []float32{5, 7}},
		"nearest, larger":   {Input{Resize: "nearest"}, 2, 8, []float32{0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7}},
		"bilinear":          {Input{}, 1, 2, []float32{2.5, 4.5}},
		"cropped":           {Input{Crop: true, Resize: "none"}, 2, 2, []float32{1, 2, 5, 6}},
		"cropped, bilinear": {Input{Crop: true}, 1, 1, []float32{3.5}},
	} {
		got, err := c.in.fit(p, c.h, c.w)
		require.NoError(t, err, name)
		require.Equal(t, c.want, got.data, name)
	}
	for size, want := range map[[2]int][]float32{{1, 100}: {0, 1, 2, 3}, {100, 1}: {1, 5}} {
		require.Equal(t, want, p.crop(size[0], size[1]).data, "of a picture that narrow a line is left")
	}
	_, err := (&Input{Resize: "none"}).fit(p, 2, 2)
	require.ErrorContains(t, err, "4×2 pixels, the model wants 2×2")
}

// One value is enough for two labels, but neither for more nor for shares.
func TestHowManyValuesTheLabelsNeed(t *testing.T) {
	classes, shares := &Output{Kind: Classes}, &Output{Kind: Classes, Activation: "softmax"}
	for _, c := range []struct {
		o         *Output
		n, labels int
		want      bool
	}{{classes, 3, 3, true}, {classes, 1, 2, true}, {classes, 1, 3, false}, {classes, 2, 3, false}, {shares, 2, 2, true}, {shares, 1, 2, false}} {
		require.Equal(t, c.want, c.o.counts(c.n, c.labels, 9), "%+v", c)
	}
}
