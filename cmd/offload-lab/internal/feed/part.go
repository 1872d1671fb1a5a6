package feed

import (
	"bytes"
	"image"
	"image/jpeg"
	"math"
	"math/rand/v2"
)

// Labels of a part, in the order of the models' outputs.
const (
	Good    = "good"
	Scratch = "scratch"
	Dent    = "dent"
)

// PartLabels lists the labels of parts.
var PartLabels = []string{Good, Scratch, Dent}

// Part is a metal plate on the conveyor as the camera sees it, with its defect and the disturbances of the picture. Lengths are relative to the
// picture's height, grey levels are 0 to 255.
type Part struct {
	Label    string  // good, scratch or dent
	Contrast float64 // of the defect, 0 barely visible to 1
	Shadow   float64 // maximum share of light taken by a shadow, 0 means no shadow
	Blur     float64 // length of the motion blur, 0 means no blur

	x, y, width, height, turn float64 // centre, size and angle of the plate
	belt, metal, light        float64 // levels of conveyor and plate, and slope of the light across the picture
	noise                     float64 // maximum deviation by the sensor
	grain                     [64]float64

	defectX, defectY, reach, sin, cos, thick float64 // of the defect, in the plate's own axes
	bright                                   float64 // 1 or −1
	shadowAt, shadowTurn, shadowEdge         float64
}

// NewPart draws a part with its disturbances: three of five are good.
func NewPart(rng *rand.Rand) *Part {
	between := func(low, top float64) float64 { return low + (top-low)*rng.Float64() }
	p := &Part{
		Label: PartLabels[[]int{0, 0, 0, 1, 2}[rng.IntN(5)]], Contrast: between(0.4, 1),
		x: between(0.65, 0.68), y: between(0.485, 0.515), width: between(0.43, 0.45), height: between(0.33, 0.35), turn: between(-0.03, 0.03),
		belt: between(45, 75), metal: between(140, 185), light: between(-25, 25), noise: between(4, 14),
		bright: 1,
	}
	p.sin, p.cos = math.Sincos(between(0, math.Pi))
	for i := range p.grain {
		p.grain[i] = between(-2, 2)
	}
	if rng.IntN(2) == 0 {
		p.bright = -1
	}
	p.defectX, p.defectY = between(-0.28, 0.28), between(-0.2, 0.2)
	if p.Label == Scratch {
		p.reach, p.thick = between(0.12, 0.22), between(0.016, 0.026)
	} else {
		p.reach = between(0.06, 0.1)
	}
	if rng.IntN(3) == 0 {
		p.Shadow = between(0.15, 0.5)
	}
	p.shadowAt, p.shadowTurn, p.shadowEdge = between(-0.3, 0.3), between(0, 2*math.Pi), between(0.15, 0.4)
	if rng.IntN(3) == 0 {
		p.Blur = between(0.01, 0.05)
	}
	return p
}

// Draw renders the part in a picture of that height and 4/3 of that width. rng provides the sensor's noise.
func (p *Part) Draw(height int, rng *rand.Rand) *image.Gray {
	img := image.NewGray(image.Rect(0, 0, height*4/3, height))
	w := img.Rect.Dx()
	row := make([]float64, w)
	sinTurn, cosTurn := math.Sincos(p.turn)
	sinShadow, cosShadow := math.Sincos(p.shadowTurn)
	blur := int(p.Blur * float64(height))
	for y := range height {
		v := (float64(y)+0.5)/float64(height) - p.y
		belt := p.belt + 6*math.Sin(40*v)
		for x := range row {
			u := (float64(x)+0.5)/float64(height) - p.x
			level := belt
			if a, b := u*cosTurn+v*sinTurn, v*cosTurn-u*sinTurn; math.Abs(a) < p.width && math.Abs(b) < p.height {
				level = p.plate(a, b)
			}
			level += p.light * u
			if p.Shadow > 0 {
				depth := (u*cosShadow+v*sinShadow-p.shadowAt)/p.shadowEdge + 0.5
				level *= 1 - p.Shadow*min(max(depth, 0), 1)
			}
			row[x] = level
		}
		smear(row, blur)
		p.expose(img.Pix[y*img.Stride:][:w], row, rng)
	}
	return img
}

// plate is the level of the metal at a point of the plate.
func (p *Part) plate(a, b float64) float64 {
	if hole := math.Abs(a) - p.width/2; hole*hole+b*b < 0.05*0.05 { // two holes that show the conveyor
		return p.belt - 15
	}
	level := p.metal + p.grain[int((b+p.height)*90)%len(p.grain)]
	dx, dy := a-p.defectX, b-p.defectY
	switch p.Label {
	case Scratch:
		along, across := dx*p.cos+dy*p.sin, dy*p.cos-dx*p.sin
		if math.Abs(along) < p.reach && math.Abs(across) < p.thick {
			level += p.bright * 90 * p.Contrast * (1 - across*across/(p.thick*p.thick))
		}
	case Dent: // light comes from one side: one slope is dark, the other bright
		if r := (dx*dx + dy*dy) / (p.reach * p.reach); r < 1 {
			level += 180 * p.Contrast * (dx*p.cos + dy*p.sin) / p.reach * (1 - r)
		}
	}
	return level
}

// smear averages each pixel with the previous ones, as the motion of a part does during an exposure.
func smear(row []float64, n int) {
	if n < 2 {
		return
	}
	sum := row[0] * float64(n)
	kept := make([]float64, n)
	for i := range kept {
		kept[i] = row[0]
	}
	for x, v := range row {
		sum += v - kept[x%n]
		kept[x%n] = v
		row[x] = sum / float64(n)
	}
}

// expose adds the sensor's noise, the sum of two uniform distributions, and clamps to a byte.
func (p *Part) expose(to []uint8, row []float64, rng *rand.Rand) {
	var bits uint64
	for x, v := range row {
		if x%4 == 0 {
			bits = rng.Uint64()
		}
		n := float64(bits&0xff)/255 + float64(bits>>8&0xff)/255 - 1
		bits >>= 16
		to[x] = uint8(min(max(v+p.noise*n, 0), 255))
	}
}

// JPEG encodes a picture as the camera does.
func JPEG(img image.Image, quality int) []byte {
	var b bytes.Buffer
	_ = jpeg.Encode(&b, img, &jpeg.Options{Quality: quality}) // a bytes.Buffer never fails
	return b.Bytes()
}
