package onnx

import (
	"strings"

	"app-offload/functions/engine"
)

// sums is the plan of an Einsum: an axis for each letter, and one for each dimension that "..." stands for.
type summation struct {
	length  [256]int
	in      [][]byte // letters of each input, digits for the dimensions of "..."
	out     []byte
	letters []byte // of the output, then those that are summed
}

func (c *call) equation() (s summation) {
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

// expandDots writes digits for "...", the last of them for the last dimension.
func expandDots(term string, hidden int) []byte {
	digits := "01234567"
	if hidden < 0 || hidden > len(digits) {
		return nil
	}
	return []byte(strings.Replace(term, "...", digits[len(digits)-hidden:], 1))
}

// implied is the output of an equation without one: letters that occur once, in the order of the alphabet.
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

func einsum(c *call) {
	s := c.equation()
	shape, all := c.ints(len(s.out)), c.ints(len(s.letters))
	for i, l := range s.letters {
		all[i] = s.length[l]
		if i < len(s.out) {
			shape[i] = all[i]
		}
	}
	x := c.input(0)
	y := c.output(0, x.Type, shape)
	c.macs(all...)
	strides := make([][]int, len(c.in)) // of each input along all letters
	for i, letters := range s.in {
		strides[i] = c.ints(len(all))
		own := c.strides(c.in[i].Shape)
		for k, l := range letters {
			if c.in[i].Shape[k] != 1 {
				strides[i][strings.IndexByte(string(s.letters), l)] += own[k]
			}
		}
	}
	index, summed := c.ints(len(all)), product(all[len(shape):])
	for k := range y.Elements() {
		var sum float64
		for range summed {
			p := 1.0
			for i, st := range strides {
				from := 0
				for a, at := range index {
					from += at * st[a]
				}
				p *= at(&c.in[i].Tensor, from)
			}
			sum += p
			advance(index, all)
		}
		put(&y.Tensor, k, sum)
	}
}
