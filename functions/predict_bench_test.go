package functions

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/local"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// BenchmarkLocalPrediction measures the error of predicted operator times, as the mean of |ln(predicted/real)|, so that half and double weigh alike:
// of the model's regression, and of a smoothed ratio to the configured work, which the regression replaced. The tasks are arrays of 1–2,000 numbers,
// log-uniform, on the default operators.
func BenchmarkLocalPrediction(b *testing.B) {
	model, err := score.New(score.DefaultConfig())
	require.NoError(b, err)
	classes, err := task.NewClasses(nil)
	require.NoError(b, err)
	p, err := local.New(local.DefaultConfig(), classes, &bin{}, nil)
	require.NoError(b, err)
	b.Cleanup(func() { _ = p.Close(b.Context()) })

	class, idle, smoothing := classes.All()[0], &host.State{}, score.DefaultConfig().Smoothing
	var own, other, measured float64
	ratio, n := 1.0, 0
	for b.Loop() {
		n++
		t := numbers(class, int(math.Pow(2000, float64(n*7919%1000)/1000)))
		guess := model.Estimate(t, idle)
		plain := guess.Cycles / score.DefaultConfig().EdgeMcycles
		var took time.Duration
		done := make(chan error, 1)
		p.Process(b.Context(), []local.Item{{Task: t, Cycles: guess.Cycles, Took: &took}}, func(_ int, err error) { done <- err })
		require.NoError(b, <-done)
		real := took.Seconds()
		if n > 100 { // both have settled
			own, other = own+math.Abs(math.Log(guess.LocalTime/real)), other+math.Abs(math.Log(ratio*plain/real))
			measured++
		}
		model.ObserveLocal(class, t.Size(), t.Complexity, real)
		ratio += max(smoothing, 1/float64(n+1)) * (min(real/plain, 100) - ratio)
	}
	b.ReportMetric(own/measured, "regression-error")
	b.ReportMetric(other/measured, "ratio-error")
}

// numbers returns a task with an array of that many numbers.
func numbers(class *task.Class, n int) *task.Task {
	text := append([]byte("["), bytes.Repeat([]byte("1.25,"), n)...)
	text[len(text)-1] = ']'
	now := time.Now().UnixNano()
	return &task.Task{
		EventID: "e", Device: "d", Profile: "P", Source: "S", Origin: now, Received: now, Of: 1, Class: class,
		Encoding: task.JSON, Data: text, Complexity: class.Complexity,
		Readings: []task.Reading{{Resource: "R", Type: task.Float64Array, Origin: now, Value: text}},
	}
}
