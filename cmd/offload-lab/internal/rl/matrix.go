package rl

// The three products a network needs, on flat row-major slices. Several rows are worked on at a time because one running sum
// is bound by the latency of its additions, and a value that was loaded once is used four or eight times.

// affine computes y[i] = w·x[i] + b for n rows: x is n×in, w is out×in, y is n×out.
func affine(y, x, w, b []float64, n, in, out int) {
	i := 0
	for ; i+2 <= n; i += 2 {
		affineTwo(y[i*out:(i+2)*out], x[i*in:(i+2)*in], w, b, in, out)
	}
	if i < n {
		affineOne(y[i*out:(i+1)*out], x[i*in:(i+1)*in], w, b, in, out)
	}
}

func affineTwo(y, x, w, b []float64, in, out int) {
	x0, x1 := x[:in:in], x[in:2*in:2*in]
	y0, y1 := y[:out:out], y[out:2*out:2*out]
	x1 = x1[:len(x0)]
	o := 0
	for ; o+4 <= out; o += 4 {
		w0, w1, w2, w3 := four(w, o, in)
		w0, w1, w2, w3 = w0[:len(x0)], w1[:len(x0)], w2[:len(x0)], w3[:len(x0)]
		var a0, a1, a2, a3, c0, c1, c2, c3 float64
		for k, u := range x0 {
			v := x1[k]
			p, q, r, s := w0[k], w1[k], w2[k], w3[k]
			a0 += u * p
			a1 += u * q
			a2 += u * r
			a3 += u * s
			c0 += v * p
			c1 += v * q
			c2 += v * r
			c3 += v * s
		}
		y0[o], y0[o+1], y0[o+2], y0[o+3] = a0+b[o], a1+b[o+1], a2+b[o+2], a3+b[o+3]
		y1[o], y1[o+1], y1[o+2], y1[o+3] = c0+b[o], c1+b[o+1], c2+b[o+2], c3+b[o+3]
	}
	for ; o < out; o++ {
		y0[o], y1[o] = dot(w[o*in:(o+1)*in], x0)+b[o], dot(w[o*in:(o+1)*in], x1)+b[o]
	}
}

func affineOne(y, x, w, b []float64, in, out int) {
	o := 0
	for ; o+4 <= out; o += 4 {
		w0, w1, w2, w3 := four(w, o, in)
		w0, w1, w2, w3 = w0[:len(x)], w1[:len(x)], w2[:len(x)], w3[:len(x)]
		var a0, a1, a2, a3 float64
		for k, u := range x {
			a0 += u * w0[k]
			a1 += u * w1[k]
			a2 += u * w2[k]
			a3 += u * w3[k]
		}
		y[o], y[o+1], y[o+2], y[o+3] = a0+b[o], a1+b[o+1], a2+b[o+2], a3+b[o+3]
	}
	for ; o < out; o++ {
		y[o] = dot(w[o*in:(o+1)*in], x) + b[o]
	}
}

// four is the rows o … o+3 of a matrix that is n wide.
func four(m []float64, o, n int) (a, b, c, d []float64) {
	return m[o*n : (o+1)*n], m[(o+1)*n : (o+2)*n], m[(o+2)*n : (o+3)*n], m[(o+3)*n : (o+4)*n]
}

func dot(a, b []float64) float64 {
	b = b[:len(a)]
	var sum float64
	for k, v := range a {
		sum += v * b[k]
	}
	return sum
}

// weightGradient adds the gradient of n rows to dw and db: dw[o] += Σ dy[i][o]·x[i], db[o] += Σ dy[i][o].
func weightGradient(dw, db, dy, x []float64, n, in, out int) {
	i := 0
	for ; i+4 <= n; i += 4 {
		x0, x1, x2, x3 := four(x, i, in)
		d0, d1, d2, d3 := four(dy, i, out)
		for o := range out {
			addFour(dw[o*in:(o+1)*in], d0[o], d1[o], d2[o], d3[o], x0, x1, x2, x3)
			db[o] += d0[o] + d1[o] + d2[o] + d3[o]
		}
	}
	for ; i < n; i++ {
		for o := range out {
			d := dy[i*out+o]
			add(dw[o*in:(o+1)*in], d, x[i*in:(i+1)*in])
			db[o] += d
		}
	}
}

// inputGradient sets dx[i] = Σ dy[i][o]·w[o] for n rows.
func inputGradient(dx, dy, w []float64, n, in, out int) {
	for i := range n {
		row, d := dx[i*in:(i+1)*in], dy[i*out:(i+1)*out]
		clear(row)
		o := 0
		for ; o+4 <= out; o += 4 {
			w0, w1, w2, w3 := four(w, o, in)
			addFour(row, d[o], d[o+1], d[o+2], d[o+3], w0, w1, w2, w3)
		}
		for ; o < out; o++ {
			add(row, d[o], w[o*in:(o+1)*in])
		}
	}
}

func addFour(to []float64, a0, a1, a2, a3 float64, v0, v1, v2, v3 []float64) {
	v0, v1, v2, v3 = v0[:len(to)], v1[:len(to)], v2[:len(to)], v3[:len(to)]
	for k := range to {
		to[k] += a0*v0[k] + a1*v1[k] + a2*v2[k] + a3*v3[k]
	}
}

func add(to []float64, a float64, v []float64) {
	v = v[:len(to)]
	for k := range to {
		to[k] += a * v[k]
	}
}
