package kernel

// GemmF32 computes out[row·n + output] = Σ x[row·k + i]·w[output·k + i] for m rows. The order of the additions differs on processors that compute
// eight values at once, and so do the last bits of the sums.
func GemmF32(out, x, w []float32, m, n, k int) {
	for r := range m {
		row := x[r*k : (r+1)*k]
		j := 0
		for ; j+4 <= n; j += 4 {
			rows4F32((*[4]float32)(out[r*n+j:]), row, w[j*k:(j+4)*k])
		}
		for ; j < n; j++ {
			out[r*n+j] = dotF32(row, w[j*k:(j+1)*k])
		}
	}
}

// rows4F32 multiplies a row with four rows.
func rows4F32(out *[4]float32, x, w []float32) {
	k, n := len(x), 0
	if wide && k >= 8 {
		n = k &^ 7
		dot4Wide(&x[0], &w[0], k, n, out)
	} else {
		*out = [4]float32{}
	}
	if n < k {
		s0, s1, s2, s3 := dot4F32(x[n:], w[n:k], w[k+n:2*k], w[2*k+n:3*k], w[3*k+n:])
		out[0], out[1], out[2], out[3] = out[0]+s0, out[1]+s1, out[2]+s2, out[3]+s3
	}
}

func dotF32(x, w []float32) (s float32) {
	w = w[:len(x)]
	for i, v := range x {
		s += v * w[i]
	}
	return s
}

func dot4F32(x, w0, w1, w2, w3 []float32) (s0, s1, s2, s3 float32) {
	w0, w1, w2, w3 = w0[:len(x)], w1[:len(x)], w2[:len(x)], w3[:len(x)]
	for i, v := range x {
		s0 += v * w0[i]
		s1 += v * w1[i]
		s2 += v * w2[i]
		s3 += v * w3[i]
	}
	return s0, s1, s2, s3
}

// AddScaledF32 computes to[i] += by·from[i] for all of to.
func AddScaledF32(to, from []float32, by float32) {
	from = from[:len(to)]
	n := 0
	if wide && len(to) >= 8 {
		n = len(to) &^ 7
		addScaledWide(&to[0], &from[0], n, by)
	}
	for i := n; i < len(to); i++ {
		to[i] += by * from[i]
	}
}
