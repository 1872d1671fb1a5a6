package nn

import (
	"context"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
)

// Set is samples with their ground truth. For an autoencoder, inputs are their own targets and Labels is empty.
type Set struct {
	Inputs [][]float32
	Labels []int
}

// Recipe configures the training of a network by Adam (Kingma and Ba, 2015).
type Recipe struct {
	Epochs int
	Batch  int
	Rate   float64
	Decay  float64 // of weights, per step at full rate
	Smooth float64 // share of a label's weight distributed to all labels
	Mirror bool    // pictures are randomly mirrored on both axes
	Seed   uint64  // of the order
}

// parts is the number of parts of a batch, for any number of processors.
const parts = 4

// adam is the optimiser's state for one list of weights.
type adam struct{ mean, square []float32 }

// trainer is the state of one training.
type trainer struct {
	net    *Net
	recipe Recipe
	passes [parts]*pass
	inputs [parts][]float32
	w, b   []adam
	steps  int
}

// Train updates the weights until all epochs are done or ctx ends. progress is called after each epoch with its mean loss.
func (n *Net) Train(ctx context.Context, set *Set, r Recipe, progress func(epoch int, loss float64)) error {
	t := &trainer{net: n, recipe: r}
	for i := range t.passes {
		t.passes[i], t.inputs[i] = n.newPass(), make([]float32, n.H*n.W*n.C)
	}
	for i := range n.nodes {
		d := &n.nodes[i]
		t.w = append(t.w, adam{make([]float32, len(d.w)), make([]float32, len(d.w))})
		t.b = append(t.b, adam{make([]float32, len(d.b)), make([]float32, len(d.b))})
	}
	rng := rand.New(rand.NewPCG(r.Seed, 0x7472))
	all := r.Epochs * (len(set.Inputs) / r.Batch)
	for epoch := range r.Epochs {
		order := rng.Perm(len(set.Inputs))
		sum := 0.0
		for ; len(order) >= r.Batch; order = order[r.Batch:] {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			sum += t.step(set, order[:r.Batch], rng.Uint64(), share(t.steps, all))
		}
		progress(epoch+1, sum/float64(len(set.Inputs)/r.Batch))
	}
	return nil
}

// share returns the fraction of the rate at a step: it rises over the first tenth, since the first steps of Adam are as large as the rate and would
// leave ReLU units without a gradient, then falls along half a cosine.
func share(step, all int) float64 {
	rise := min(1, float64(step+1)/(float64(all)/10))
	return rise * 0.5 * (1 + math.Cos(math.Pi*float64(step)/float64(all)))
}

// step learns from one batch and returns its mean loss.
func (t *trainer) step(set *Set, batch []int, draw uint64, share float64) float64 {
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range parts {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			t.part(i, set, batch[i*len(batch)/parts:(i+1)*len(batch)/parts], draw+uint64(i))
			<-slots
		}()
	}
	wg.Wait()
	loss := 0.0
	for _, p := range t.passes {
		loss += p.loss / float64(len(batch))
	}
	t.steps++
	for i := range t.net.nodes {
		d := &t.net.nodes[i]
		t.update(d.w, &t.w[i], share, len(batch), t.recipe.Decay, func(p *pass) []float32 { return p.dw[i] })
		t.update(d.b, &t.b[i], share, len(batch), 0, func(p *pass) []float32 { return p.db[i] })
	}
	return loss
}

// part sums the gradients of some samples.
func (t *trainer) part(i int, set *Set, samples []int, draw uint64) {
	p := t.passes[i]
	p.loss = 0
	for k := range p.dw {
		clear(p.dw[k])
		clear(p.db[k])
	}
	rng := rand.New(rand.NewPCG(draw, uint64(i)))
	for _, s := range samples {
		x := set.Inputs[s]
		if t.recipe.Mirror {
			mirror(t.inputs[i], x, t.net, rng.IntN(4))
			x = t.inputs[i]
		}
		out := t.net.forward(p, x)
		slope := p.slopes[len(p.slopes)-1]
		if len(set.Labels) == 0 {
			p.loss += squares(slope, out, x)
		} else {
			p.loss += entropy(slope, out, set.Labels[s], t.recipe.Smooth)
		}
		t.net.backward(p)
	}
}

// mirror copies a picture, mirrored on the axes whose bits are set.
func mirror(to, from []float32, n *Net, axes int) {
	for y := range n.H {
		fy := y
		if axes&1 != 0 {
			fy = n.H - 1 - y
		}
		for x := range n.W {
			fx := x
			if axes&2 != 0 {
				fx = n.W - 1 - x
			}
			copy(to[(y*n.W+x)*n.C:][:n.C], from[(fy*n.W+fx)*n.C:][:n.C])
		}
	}
}

// squares is the mean squared error of a reconstruction with its gradients.
func squares(slope, out, x []float32) (loss float64) {
	for i, v := range out {
		e := v - x[i]
		slope[i] = 2 * e / float32(len(out))
		loss += float64(e*e) / float64(len(out))
	}
	return loss
}

// entropy is the cross entropy of a softmax against smoothed labels, with its gradients.
func entropy(slope, logits []float32, label int, smooth float64) (loss float64) {
	p := Softmax(logits)
	for i, v := range p {
		want := smooth / float64(len(p))
		if i == label {
			want += 1 - smooth
		}
		loss -= want * math.Log(max(v, 1e-12))
		slope[i] = float32(v - want)
	}
	return loss
}

// Softmax turns logits into probabilities.
func Softmax(logits []float32) []float64 {
	most, sum := math.Inf(-1), 0.0
	for _, v := range logits {
		most = max(most, float64(v))
	}
	p := make([]float64, len(logits))
	for i, v := range logits {
		p[i] = math.Exp(float64(v) - most)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p
}

// update moves weights along the mean gradient of the batch.
func (t *trainer) update(w []float32, a *adam, share float64, samples int, decay float64, gradient func(*pass) []float32) {
	const keepMean, keepSquare = 0.9, 0.999
	rate := t.recipe.Rate * share
	step := float32(rate * math.Sqrt(1-math.Pow(keepSquare, float64(t.steps))) / (1 - math.Pow(keepMean, float64(t.steps))))
	shrink := float32(1 - rate*decay)
	var lists [parts][]float32
	for i, p := range t.passes {
		lists[i] = gradient(p)
	}
	for i := range w {
		g := float32(0)
		for _, l := range lists {
			g += l[i]
		}
		g /= float32(samples)
		a.mean[i] = keepMean*a.mean[i] + (1-keepMean)*g
		a.square[i] = keepSquare*a.square[i] + (1-keepSquare)*g*g
		w[i] = w[i]*shrink - step*a.mean[i]/(float32(math.Sqrt(float64(a.square[i])))+1e-8)
	}
}
