package feed

import (
	"math/rand/v2"
	"time"
)

// camera simulates a camera over a conveyor that sends one JPEG of a part per second, 20 to 300 KB each. It draws a new part each time until it has
// maxFrames of them; then it repeats those in random order, so that at high rates the service is busy and not the feed.
type camera struct {
	device
	frames []frame
}

// maxFrames bounds the stored frames, about 20 MB.
const maxFrames = 256

// frame is a picture with its truth.
type frame struct {
	jpeg []byte
	part *Part
}

func newCamera(rng *rand.Rand) *camera {
	return &camera{device: device{"device-camera", "Line-Camera", "conveyor-camera", "Frame", rng}}
}

func (c *camera) Interval() time.Duration { return time.Second }

func (c *camera) Next(at time.Time) Event {
	f := c.frame()
	ev := c.event(at, Reading{Resource: "Frame", Type: "Binary", BinaryValue: f.jpeg, MediaType: "image/jpeg"})
	severity := f.part.Contrast
	if f.part.Label == Good {
		severity = 0
	}
	ev.Truth = &Truth{Event: ev.ID, Device: ev.Device, Label: f.part.Label, Severity: severity, Shadow: f.part.Shadow, Blur: f.part.Blur}
	return ev
}

// frame draws the next part; sizes and qualities are those of a camera that adapts to its link.
func (c *camera) frame() frame {
	if len(c.frames) == maxFrames {
		return c.frames[c.rng.IntN(maxFrames)]
	}
	for {
		part := NewPart(c.rng)
		img := part.Draw(360+60*c.rng.IntN(5), c.rng)
		f := frame{JPEG(img, 70+c.rng.IntN(25)), part}
		if len(f.jpeg) >= 20_000 && len(f.jpeg) <= 300_000 {
			c.frames = append(c.frames, f)
			return f
		}
	}
}
