package nn

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/functions/engine"
	"app-offload/functions/models"
	"app-offload/functions/task"
)

// Source draws readings of one kind with their ground truth.
type Source struct {
	Labels []string
	draw   func(rng *rand.Rand, small bool) (task.Reading, int)
}

// Parts are pictures of parts on the conveyor, Bearings windows of vibration. The feed's own code draws both.
var (
	Parts    = &Source{feed.PartLabels, drawPart}
	Bearings = &Source{feed.BearingStates, drawBearing}
)

// Draw returns the n-th sample of a seed. small selects pictures of low resolution, which are equally good for training and faster.
func (s *Source) Draw(seed uint64, n int, small bool) (task.Reading, int) {
	return s.draw(rand.New(rand.NewPCG(seed, uint64(n))), small) //nolint:gosec // a count
}

func drawPart(rng *rand.Rand, small bool) (task.Reading, int) {
	p := feed.NewPart(rng)
	height, quality := 360+60*rng.IntN(5), 70+rng.IntN(25)
	if small { // blocks of the encoder, and so their error, are larger relative to the part
		height, quality = 120+20*rng.IntN(4), min(quality+15, 95)
	}
	jpeg := feed.JPEG(p.Draw(height, rng), quality)
	return task.Reading{Resource: "Frame", Type: task.Blob, Encoding: task.Binary, Value: jpeg}, slices.Index(feed.PartLabels, p.Label)
}

// drawBearing returns a window of a bearing that is healthy or has one of the faults, with equal probabilities.
func drawBearing(rng *rand.Rand, _ bool) (task.Reading, int) {
	b, label := feed.NewBearing(rng), rng.IntN(len(feed.BearingStates))
	severity := 0.25 + 0.75*rng.Float64()
	for range 200 { // until the housing resonates
		b.Sample(feed.BearingStates[label], severity)
	}
	var text strings.Builder
	text.WriteByte('[')
	for i := range bearingWindow {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, "%e", b.Sample(feed.BearingStates[label], severity))
	}
	text.WriteByte(']')
	return task.Reading{Resource: "Acceleration", Type: task.Float32Array, Value: []byte(text.String())}, label
}

const bearingWindow = 512

// Collect draws n samples as inputs of a model: real numbers, computed from readings as in its manifest. Unless only is -1, samples of other labels
// are skipped.
func (s *Source) Collect(seed uint64, n int, in models.Input, shape []int, only int) (*Set, error) {
	set := &Set{Inputs: make([][]float32, n), Labels: make([]int, n)}
	errs := make([]error, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range n {
		wg.Add(1)
		slots <- struct{}{}
		go func() {
			defer wg.Done()
			defer func() { <-slots }()
			r, label := s.Draw(seed, i, true)
			if set.Labels[i] = label; only >= 0 && label != only {
				return
			}
			t := engine.Tensor{Spec: engine.Spec{Type: engine.Float32, Shape: shape}}
			t.Allocate()
			errs[i] = in.Fill(&t, &r)
			set.Inputs[i] = t.F32
		}()
	}
	wg.Wait()
	kept := &Set{}
	for i, x := range set.Inputs {
		if errs[i] != nil {
			return nil, fmt.Errorf("sample %d of seed %d: %w", i, seed, errs[i])
		}
		if x != nil {
			kept.Inputs, kept.Labels = append(kept.Inputs, x), append(kept.Labels, set.Labels[i])
		}
	}
	return kept, nil
}
