package feed

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"math/rand/v2"
	"time"
)

// camera looks at a conveyor and sends a JPEG a second, 20 to 300 KB each. The frames are drawn once and then sent in
// random order: it is the service that is to be busy, not the feed.
type camera struct {
	device
	frames [][]byte
}

func newCamera(rng *rand.Rand) *camera {
	c := &camera{device: device{"device-camera", "Line-Camera", "conveyor-camera", "Frame", rng}}
	for len(c.frames) < 16 {
		if f := frame(rng, len(c.frames)); len(f) >= 20_000 && len(f) <= 300_000 {
			c.frames = append(c.frames, f)
		}
	}
	return c
}

func (c *camera) Interval() time.Duration { return time.Second }

func (c *camera) Next(at time.Time) Event {
	f := c.frames[c.rng.IntN(len(c.frames))]
	return c.event(at, Reading{Resource: "Frame", Type: "Binary", BinaryValue: f, MediaType: "image/jpeg"})
}

// frame draws boxes on a belt under sensor noise; size and quality differ from frame to frame.
func frame(rng *rand.Rand, n int) []byte {
	width := 320 + 80*(n%8)
	img := image.NewGray(image.Rect(0, 0, width, width*3/4))
	noise := 4 + rng.IntN(24)
	left, top := rng.IntN(width/2), rng.IntN(width/3)
	for y := range img.Rect.Dy() {
		for x := range width {
			level := 60 + 40*y/img.Rect.Dy()
			if x > left && x < left+width/4 && y > top && y < top+width/5 {
				level = 170
			}
			img.SetGray(x, y, color.Gray{Y: uint8(min(255, max(0, level+rng.IntN(2*noise)-noise)))}) // clamped to a byte
		}
	}
	var b bytes.Buffer
	_ = jpeg.Encode(&b, img, &jpeg.Options{Quality: 60 + rng.IntN(35)}) // a bytes.Buffer takes every write
	return b.Bytes()
}
