package onnx

import (
	"slices"
	"strings"

	"app-offload/functions/engine"
)

// summation is the plan of an Einsum: an axis for each letter, and one for each dimension of "...". It is kept until an input has another shape, so
// that a run does not allocate.
type summation struct {
	length  [256]int
	in      [][]byte // letters of each input; digits for the dimensions of "..."
	out     []byte
	letters []byte // of the output, followed by the summed letters

	shapes  [][]int // of the inputs
	all     []int   // lengths of the letters
	strides [][]int // of each input along all letters
	index   []int   // of the current product
}

// fits reports whether the inputs have the shapes of the plan.
func (s *summation) fits(in []*value) bool {
	if s == nil || len(s.shapes) != len(in) {
		return false
	}
	for i, v := range in {
		if v == nil || !slices.Equal(v.Shape, s.shapes[i]) {
			return false
		}
	}
	return true
}

func (c *call) equation() *summation {
	s := &summation{}
	text := strings.ReplaceAll(c.string("equation", ""), " ", "")
	left, right, explicit := strings.Cut(text, "->")
	terms := strings.Split(left, ",")
	if len(terms) != len(c.in) {
		c.fail("equation %.64q for %d inputs", text, len(c.in))
	}
	rest := 0
	for i, term := range terms {
		x := c.input(i, engine.Float32, engine.Float64)
		hidden := 0
		if strings.Contains(term, "...") {
			hidden = len(x.Shape) - len(term) + 3
		}
		letters := expandDots(term, hidden)
		if hidden < 0 || len(letters) != len(x.Shape) {
			c.fail("%.64q does not fit %s", term, &x.Spec)
		}
		rest = max(rest, hidden)
		for k, l := range letters {
			if d := x.Shape[k]; s.length[l] <= 1 {
				s.length[l] = d
			} else if d != s.length[l] && d != 1 {
				c.fail("axis %q has the lengths %d and %d", l, s.length[l], d)
			}
		}
		s.in = append(s.in, letters)
	}
	if !explicit {
		right = implied(left)
	}
	s.out = expandDots(right, rest)
	s.letters = append([]byte{}, s.out...)
	for _, letters := range s.in {
		for _, l := range letters {
			if !strings.Contains(string(s.letters), string(rune(l))) {
				s.letters = append(s.letters, l)
			}
		}
	}
	return s
}

// expandDots replaces "..." by digits, the last of them for the last dimension.
func expandDots(term string, hidden int) []byte {
	digits := "01234567"
	if hidden < 0 || hidden > len(digits) {
		return nil
	}
	return []byte(strings.Replace(term, "...", digits[len(digits)-hidden:], 1))
}

// implied returns the output of an equation without one: letters that occur once, in alphabetical order.
func implied(left string) string {
	out := ""
	if strings.Contains(left, "...") {
		out = "..."
	}
	for l := byte('A'); l <= 'z'; l++ {
		if strings.Count(left, string(rune(l))) == 1 {
			out += string(rune(l))
		}
	}
	return out
}

// summed plans the sum for the inputs of this run.
func (c *call) summed() *summation {
	s := c.equation()
	c.charge(len(s.letters)*(len(c.in)+2)+256, 8)
	s.all, s.index = make([]int, len(s.letters)), make([]int, len(s.letters))
	for i, l := range s.letters {
		s.all[i] = s.length[l]
	}
	for i, letters := range s.in {
		strides, own := make([]int, len(s.letters)), c.strides(c.in[i].Shape)
		for k, l := range letters {
			if c.in[i].Shape[k] != 1 {
				strides[strings.IndexByte(string(s.letters), l)] += own[k]
			}
		}
		s.strides, s.shapes = append(s.strides, strides), append(s.shapes, slices.Clone(c.in[i].Shape))
	}
	return s
}

func einsum(c *call) {
	if !c.sum.fits(c.in) {
		c.sum = c.summed()
	}
	s := c.sum
	for i := range c.in {
		c.input(i, engine.Float32, engine.Float64)
	}
	x := c.input(0)
	y := c.output(0, x.Type, s.all[:len(s.out)])
	c.macs(s.all...)
	clear(s.index)
	summed := engine.Product(s.all[len(s.out):])
	for k := range y.Elements() {
		var sum float64
		for range summed {
			p := 1.0
			for i, st := range s.strides {
				from := 0
				for a, at := range s.index {
					from += at * st[a]
				}
				p *= at(&c.in[i].Tensor, from)
			}
			sum += p
			advance(s.index, s.all)
		}
		put(&y.Tensor, k, sum)
	}
}
