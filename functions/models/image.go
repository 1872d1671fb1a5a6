package models

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	_ "image/jpeg" // decoders
	_ "image/png"
	"math"
)

// maxScans bounds the passes over a JPEG. A progressive one can have a scan of all its pixels in 20 bytes, so that a megabyte keeps a worker busy
// for many seconds.
const maxScans = 100

// picture is pixels as numbers from 0 to 255, line by line, channel by channel.
type picture struct {
	w, h, depth int
	data        []float32
}

// picture reads a binary reading. Width and height are bounded before memory is taken.
func (in *Input) picture(b []byte, h, w, depth int) (*picture, error) {
	if in.Kind == Raw {
		return in.raw(b, h, w, depth)
	}
	head, format, err := image.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("a picture in JPEG or PNG was expected: %w", err)
	}
	if head.Width < 1 || head.Height < 1 || head.Width > in.pixels()/head.Height {
		return nil, fmt.Errorf("the picture (%s) has %d×%d pixels, at most %d are allowed", format, head.Width, head.Height, in.pixels())
	}
	if n := bytes.Count(b, []byte{0xff, 0xda}); format == "jpeg" && n > maxScans {
		return nil, fmt.Errorf("the picture (jpeg) has %d scans, at most %d are allowed; a progressive one has about 10", n, maxScans)
	}
	decoded, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("decoding the picture (%s, %d×%d pixels, %d bytes): %w", format, head.Width, head.Height, len(b), err)
	}
	return pixelsOf(decoded, depth), nil
}

// raw reads bytes as they are: Width×Height pixels with the channels of the model's input.
func (in *Input) raw(b []byte, h, w, depth int) (*picture, error) {
	if in.Width > 0 {
		w = in.Width
	}
	if in.Height > 0 {
		h = in.Height
	}
	if w > in.pixels()/h || len(b) != w*h*depth {
		return nil, fmt.Errorf("the binary has %d bytes, %d×%d pixels of %d channels were expected", len(b), w, h, depth)
	}
	p := &picture{w: w, h: h, depth: depth, data: make([]float32, len(b))}
	for i, v := range b {
		p.data[i] = float32(v)
	}
	return p, nil
}

// pixelsOf reads an image in sRGB as it stands, without its alpha, in three channels or as luma by ITU-R BT.601.
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
					p.data[at] = red // a grey pixel stays exactly what it is
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

// crop keeps the largest part in the middle that has the ratio of w and h.
func (p *picture) crop(h, w int) *picture {
	cw, ch := p.w, p.h
	if int64(p.w)*int64(h) > int64(p.h)*int64(w) {
		cw = max(1, int((int64(p.h)*int64(w)+int64(h)/2)/int64(h)))
	} else {
		ch = max(1, int((int64(p.w)*int64(h)+int64(w)/2)/int64(w)))
	}
	cw, ch = min(cw, p.w), min(ch, p.h)
	x0, y0 := (p.w-cw)/2, (p.h-ch)/2
	out := &picture{w: cw, h: ch, depth: p.depth, data: make([]float32, 0, cw*ch*p.depth)}
	for y := y0; y < y0+ch; y++ {
		out.data = append(out.data, p.data[(y*p.w+x0)*p.depth:(y*p.w+x0+cw)*p.depth]...)
	}
	return out
}

// weight is where an output pixel lies between two input pixels.
type weight struct {
	low, high int
	share     float32 // of high
}

// between is the rule of TensorFlow's tf.image.resize, bilinear without antialiasing: pixels are areas whose centres are at halves.
func between(i, in, out int) weight {
	at := (float32(i)+0.5)*(float32(in)/float32(out)) - 0.5
	floor := float32(math.Floor(float64(at)))
	low := max(int(floor), 0)
	return weight{low: low, high: min(int(floor)+1, in-1), share: at - floor}
}

// nearest is its rule for nearest neighbours.
func nearest(i, in, out int) weight {
	at := min(int(math.Floor(float64((float32(i)+0.5)*(float32(in)/float32(out))))), in-1)
	return weight{low: at, high: at}
}

// resize computes each pixel from at most four.
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
