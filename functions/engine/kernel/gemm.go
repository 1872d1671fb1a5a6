package kernel

// Packed holds the weights of a layer with int8 inputs in the layout of Gemm: panels of four outputs, with two weights in each word of 64 bits. One
// multiplication then computes two products that do not mix: the sum of a lane stays within 32 bits, and Gemm corrects the borrow of a negative lower
// sum from the upper one.
type Packed struct {
	K, N  int // inputs and outputs
	words []int64
}

// panel is the number of outputs that Gemm computes together.
const panel = 4

// Pack packs the weights of n outputs with k inputs each, w[output·k + input].
func Pack(w []int8, n, k int) *Packed {
	panels := (n + panel - 1) / panel
	p := &Packed{K: k, N: n, words: make([]int64, panels*k*2)}
	at := func(j, i int) int64 {
		if j >= n {
			return 0
		}
		return int64(w[j*k+i])
	}
	for b := range panels {
		for i := range k {
			word := (b*k + i) * 2
			p.words[word] = at(b*panel, i) + at(b*panel+1, i)<<32
			p.words[word+1] = at(b*panel+2, i) + at(b*panel+3, i)<<32
		}
	}
	return p
}

// PackedBytes returns the memory of packed weights of n outputs with k inputs each.
func PackedBytes(n, k int) int { return (n + panel - 1) / panel * k * 2 * 8 }

// Gemm computes sums[row·N + output] = Σ x[row·K + i]·w[output·K + i] for m rows. K is at most 2¹⁶, so that no sum overflows.
func (p *Packed) Gemm(sums []int32, x []int8, m int) {
	k, n := p.K, p.N
	for b := 0; b*panel < n; b++ {
		w := p.words[b*k*2 : (b+1)*k*2]
		outputs := min(n-b*panel, panel)
		r := 0
		for ; r+2 <= m; r += 2 {
			a0, a1, c0, c1 := dot2(x[r*k:(r+1)*k], x[(r+1)*k:(r+2)*k], w)
			store(sums[r*n+b*panel:], outputs, a0, a1)
			store(sums[(r+1)*n+b*panel:], outputs, c0, c1)
		}
		if r < m {
			a0, a1 := dot1(x[r*k:(r+1)*k], w)
			store(sums[r*n+b*panel:], outputs, a0, a1)
		}
	}
}

func dot2(x, y []int8, w []int64) (a0, a1, c0, c1 int64) {
	y = y[:len(x)]
	w = w[:2*len(x)]
	for i, v := range x {
		w0, w1 := w[2*i], w[2*i+1]
		xv, yv := int64(v), int64(y[i])
		a0 += xv * w0
		a1 += xv * w1
		c0 += yv * w0
		c1 += yv * w1
	}
	return a0, a1, c0, c1
}

func dot1(x []int8, w []int64) (a0, a1 int64) {
	w = w[:2*len(x)]
	for i, v := range x {
		a0 += int64(v) * w[2*i]
		a1 += int64(v) * w[2*i+1]
	}
	return a0, a1
}

// store splits the lanes.
func store(to []int32, outputs int, a0, a1 int64) {
	low, high := int32(a0), int32(a1)
	lanes := [panel]int32{low, int32((a0 - int64(low)) >> 32), high, int32((a1 - int64(high)) >> 32)}
	copy(to[:outputs], lanes[:outputs])
}
