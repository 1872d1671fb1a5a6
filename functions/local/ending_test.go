package local

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// delaying keeps the ends of the tasks whose results it got.
type delaying struct{ ends []*Ending }

func (d *delaying) Publish(r Result) error {
	if r.Ending != nil {
		r.Ending.Delay(r.Event.Id)
	}
	d.ends = append(d.ends, r.Ending)
	return nil
}

// A worker goes on while the results of earlier tasks are not durable, and each task is reported once with the first error. Results of a class that
// sends none delay nothing.
func TestTasksEndOnceTheirResultsAreDurable(t *testing.T) {
	classes := class("burn each=0s; deadtime time=1ms name=d")
	pub := &delaying{}
	w := still(t, classes, pub)
	w.p.observe = func(*task.Task, float64) {}
	var reported []error
	do := func(results string) {
		one := taskOf("d", 0, task.Reading{Resource: "x", Type: task.Int64, Value: []byte("1")})
		one.Class = &task.Class{Name: one.Class.Name, Results: results}
		w.do(job{task: one, done: func(_ int, err error) { reported = append(reported, err) }})
	}
	do(task.ResultsBus)
	require.Equal(t, []error{nil}, reported)
	require.Equal(t, []*Ending{nil, nil}, pub.ends)

	pub.ends, reported = nil, nil
	do(task.ResultsBoth)
	do(task.ResultsCloud)
	require.NotSame(t, pub.ends[0], pub.ends[1])
	require.Empty(t, reported)
	disk := errors.New("disk")
	pub.ends[1].Done(disk)
	require.Equal(t, []error{disk}, reported)
	pub.ends[0].Done(nil)
	require.Equal(t, []error{disk, nil}, reported)
	require.EqualValues(t, 1, w.p.counts.failed.Load())
}
