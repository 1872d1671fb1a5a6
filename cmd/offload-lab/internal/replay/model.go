package replay

import "math"

// folds is into how many parts the records are dealt. Each part is predicted by a model that has not seen it: a model that
// had would agree with its own errors, and the correction by them would correct nothing.
const folds = 5

// ridge holds a model of few records near zero.
const ridge = 1.0

// linear is a model of the measure for one way.
type linear [inputs]float64

// pair is the models of both ways.
type pair struct{ local, cloud linear }

// crossFit gives for each part of the records the models that all other parts teach.
func crossFit(samples []sample) []pair {
	models := make([]pair, folds)
	for f := range models {
		var local, cloud regression
		for i := range samples {
			if i%folds == f {
				continue
			}
			if s := &samples[i]; s.cloud {
				cloud.add(&s.x, s.value)
			} else {
				local.add(&s.x, s.value)
			}
		}
		models[f] = pair{local.solve(), cloud.solve()}
	}
	return models
}

// doublyRobust is the model's word on what the k-th policy would do, corrected by the weighted error on what was done. Where a
// guard decided, the outcome is everybody's.
func (m *pair) doublyRobust(s *sample, k int, weight float64) float64 {
	if s.forced {
		return s.value
	}
	here, there := m.local.at(&s.x), m.cloud.at(&s.x)
	predicted := here
	if s.cloud {
		predicted = there
	}
	would := s.would[k]
	return (1-would)*here + would*there + weight*(s.value-predicted)
}

func (l *linear) at(x *[inputs]float64) (sum float64) {
	for i, v := range x {
		sum += l[i] * v
	}
	return sum
}

// regression gathers the normal equations.
type regression struct {
	a [inputs][inputs]float64
	b [inputs]float64
}

func (r *regression) add(x *[inputs]float64, y float64) {
	for i := range x {
		for k := range i + 1 {
			r.a[i][k] += x[i] * x[k]
		}
		r.b[i] += x[i] * y
	}
}

// solve finds the weights by Cholesky's decomposition, which takes the place of the sums; the ridge keeps it from failing.
func (r *regression) solve() linear {
	var l [inputs][]float64
	for i := range l {
		l[i] = r.a[i][:i+1]
		l[i][i] += ridge
		for k := range l[i] {
			sum := l[i][k] - dot(l[i][:k], l[k])
			if i == k {
				l[i][k] = math.Sqrt(sum)
			} else {
				l[i][k] = sum / l[k][k]
			}
		}
	}
	w := linear(r.b)
	for i := range w {
		w[i] = (w[i] - dot(l[i][:i], w[:])) / l[i][i]
	}
	for i := inputs - 1; i >= 0; i-- {
		w[i] /= l[i][i]
		for k := range i {
			w[k] -= l[i][k] * w[i]
		}
	}
	return w
}

// dot is the sum of the products of a with the first of b.
func dot(a, b []float64) (sum float64) {
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
