package local

import (
	"context"
	"fmt"
	"testing"
	"time"

	"app-offload/functions/task"
)

type discard struct{}

func (discard) Publish(Result) error { return nil }

// BenchmarkOperator measures one reading on one worker, without the queue: a scalar, and an array of 512.
func BenchmarkOperator(b *testing.B) {
	for _, op := range []string{"summary window=60s", "summary window=60s percentiles=", "summary window=60s slide=1s", "deadband band=100 max=60s", "range low=-300 high=300", "rate limit=1e9", "anomaly above=0.99"} {
		for _, size := range []int{1, 512} {
			b.Run(fmt.Sprintf("%s/%d", op, size), func(b *testing.B) {
				w := still(b, class(op), discard{})
				tasks := stream(size)
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					t := tasks[i%len(tasks)]
					at := epoch + int64(i)*int64(100*time.Millisecond)
					t.Origin, t.Received, t.Readings[0].Origin = at, at, at
					if err := w.process(t); err != nil {
						b.Fatal(err)
					}
					i++
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(i)/float64(size), "ns/value")
			})
		}
	}
}

func stream(size int) []*task.Task {
	tasks := make([]*task.Task, 64)
	for i := range tasks {
		values := make([]float64, size)
		for j := range values {
			values[j] = float64(i*31+j*7%101) / 8
		}
		tasks[i] = arrayTask("press-1", "Force", time.Second, values...)
		if size == 1 {
			tasks[i] = scalar("press-1", "Force", time.Second, values[0])
		}
	}
	return tasks
}

// BenchmarkProcess measures the whole path through the queues, in slices of 64 tasks of 16 devices.
func BenchmarkProcess(b *testing.B) {
	cfg := DefaultConfig()
	p := start(b, cfg, class("summary window=60s"), discard{})
	items := make([]Item, 64)
	for i := range items {
		items[i] = Item{Task: scalar(fmt.Sprint("d", i%16), "x", time.Second, float64(i)), Cycles: 1}
	}
	done := make(chan struct{}, len(items))
	report := func(int, error) { done <- struct{}{} }
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		p.Process(context.Background(), items, report)
		for range items {
			<-done
		}
		n += len(items)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/task")
	_ = p.Close(context.Background())
}
