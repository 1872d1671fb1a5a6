package batch

import (
	"fmt"
	"testing"
	"time"

	"app-offload/functions/spool"
)

// counter is a spool in which some classes have records and others had some before; taken records return.
type counter struct {
	queues []spool.Queue
	one    []spool.Record
}

func (c *counter) Queues(dst []spool.Queue) []spool.Queue { return append(dst, c.queues...) }
func (c *counter) Take(int, string, spool.Source, int, int, []spool.Record) []spool.Record {
	return c.one
}
func (c *counter) TakeNewest(int, string, int, int, []spool.Record) []spool.Record { return c.one }
func (c *counter) Wait() <-chan struct{}                                           { return nil }

// BenchmarkNext measures one decision with that many classes with records.
func BenchmarkNext(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := &counter{one: make([]spool.Record, 1)}
			for i := range n {
				c.queues = append(c.queues, spool.Queue{Lane: 2, Class: fmt.Sprint("class-", i), Live: 1, LiveBytes: 100})
			}
			s, err := New(DefaultConfig(), c, classes(nil))
			if err != nil {
				b.Fatal(err)
			}
			now := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				now = now.Add(time.Millisecond)
				s.At(now)
			}
		})
	}
}
