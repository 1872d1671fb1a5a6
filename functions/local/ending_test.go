package local

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// delaying keeps the ends of the tasks whose results it got.
type delaying struct {
	sends bool
	ends  []*Ending
}

func (d *delaying) Publish(r Result) error {
	if d.sends {
		r.Ending.Delay(r.Event.Id)
	}
	d.ends = append(d.ends, r.Ending)
	return nil
}

// A worker goes on while the results of earlier tasks are not durable, and each task is reported once with the first error. Results that are not sent
// delay nothing. A task that must stay is returned to its sender if its result finds neither room on the disk nor the bus.
func TestTasksEndOnceTheirResultsAreDurable(t *testing.T) {
	pub := &delaying{}
	w := still(t, class("burn each=0s; deadtime time=1ms name=d"), pub)
	w.p.observe = func(*task.Task, float64) {}
	var reported []error
	do := func(stay bool) {
		one := taskOf("d", 0, task.Reading{Resource: "x", Type: task.Int64, Value: []byte("1")})
		w.do(job{task: one, stay: stay, done: func(_ int, err error) { reported = append(reported, err) }})
	}
	do(false)
	require.Equal(t, []error{nil}, reported)
	require.Len(t, pub.ends, 2)
	require.Same(t, pub.ends[0], pub.ends[1])

	*pub, reported = delaying{sends: true}, nil
	do(true)
	do(false)
	do(true)
	require.NotSame(t, pub.ends[0], pub.ends[1])
	require.Empty(t, reported)
	disk := errors.New("disk")
	pub.ends[1].Done(disk)
	pub.ends[0].Done(nil)
	pub.ends[2].Done(ErrAway)
	require.Equal(t, []error{disk, nil}, reported[:2])
	require.ErrorIs(t, reported[2], ErrClosed)
	require.EqualValues(t, 2, w.p.counts.failed.Load())
	require.False(t, pub.ends[0].Delay("late"), "the task is over")
}

// A window's result that waits behind others for the bus delays no task: the task that closed the window was reported before the result is tried.
func TestAHeldResultDelaysNoTaskThatWasReported(t *testing.T) {
	pub, sent := &recorder{failing: true}, 0
	w := still(t, class("summary window=1s late=0s"), publisherFunc(func(r Result) error {
		if r.Ending.Delay(r.Event.Id) {
			sent++
			defer r.Ending.Done(nil)
		}
		return pub.Publish(r)
	}))
	w.p.observe = func(*task.Task, float64) {}
	reports := make([]int, 4)
	for i := range reports {
		one := scalar("d", "x", time.Duration(i)*time.Second, 1)
		one.Class = &task.Class{Name: "default", Results: task.ResultsBoth}
		w.do(job{task: one, index: i, done: func(i int, _ error) { reports[i]++ }})
	}
	require.Len(t, w.pending.results, 3)
	pub.fail(false)
	w.retry(0)
	require.Len(t, pub.results, 3)
	require.Equal(t, 3, sent, "each once")
	require.Equal(t, []int{1, 1, 1, 1}, reports)
}

type publisherFunc func(Result) error

func (f publisherFunc) Publish(r Result) error { return f(r) }
