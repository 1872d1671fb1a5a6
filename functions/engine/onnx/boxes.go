package onnx

import (
	"cmp"
	"slices"

	"app-offload/functions/engine"
)

// box is a rectangle, by its corners.
type box struct{ y1, x1, y2, x2 float32 }

func (b box) area() float32 { return (b.y2 - b.y1) * (b.x2 - b.x1) }

// overlap returns the intersection over the union.
func (b box) overlap(o box) float32 {
	h, w := min(b.y2, o.y2)-max(b.y1, o.y1), min(b.x2, o.x2)-max(b.x1, o.x1)
	if h <= 0 || w <= 0 {
		return 0
	}
	return h * w / (b.area() + o.area() - h*w)
}

func boxOf(v []float32, centred bool) box {
	if centred {
		return box{v[1] - v[3]/2, v[0] - v[2]/2, v[1] + v[3]/2, v[0] + v[2]/2}
	}
	return box{min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3])}
}

// nonMaxSuppression selects the boxes with the best scores, and drops boxes that overlap a better one of their class.
func nonMaxSuppression(c *call) {
	boxes, scores := c.rank(c.input(0, engine.Float32), 3, 3), c.rank(c.input(1, engine.Float32), 3, 3)
	n, classes, centred := boxes.Shape[1], scores.Shape[1], c.int("center_point_box", 0) != 0
	if boxes.Shape[2] != 4 || scores.Shape[0] != boxes.Shape[0] || scores.Shape[2] != n {
		c.fail("%s and %s do not fit", &boxes.Spec, &scores.Spec)
	}
	limit, most, least := 0, float32(0), float32(0)
	filtered := false
	if v := c.numbers(2); len(v) > 0 {
		limit = v[0]
	}
	if c.optional(3) != nil {
		most = c.scalar(3)
	}
	if c.optional(4) != nil {
		least, filtered = c.scalar(4), true
	}
	c.macs(boxes.Shape[0], classes, n, n)
	var found []int
	order := c.ints(n)
	for b := range boxes.Shape[0] {
		at := func(i int) box { return boxOf(boxes.F32[(b*n+i)*4:], centred) }
		for class := range classes {
			score := scores.F32[(b*classes+class)*n:][:n]
			for i := range order {
				order[i] = i
			}
			slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(score[j], score[i]) })
			first := len(found)
			for _, i := range order {
				if (len(found)-first)/3 >= limit || filtered && score[i] <= least {
					break
				}
				hidden := false
				for k := first + 2; k < len(found) && !hidden; k += 3 {
					hidden = at(found[k]).overlap(at(i)) > most
				}
				if !hidden {
					found = append(found, b, class, i)
				}
			}
		}
	}
	shape := c.shape(len(found)/3, 3)
	y := c.output(0, engine.Int64, shape)
	for i, v := range found {
		y.I64[i] = int64(v)
	}
}
