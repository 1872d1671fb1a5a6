package functions

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/task"
)

// Tasks that wait for a model hold up no task of the operators, and each group keeps its order.
func TestNothingOfTheOperatorsWaitsForAModel(t *testing.T) {
	var p Pipeline
	of := func(device, model string) *job {
		return &job{Case: decide.Case{Task: &task.Task{Device: device, Class: &task.Class{Name: model + ".", Model: model}}}}
	}
	release, done := make(chan struct{}), make(chan []string, 2)
	p.eachAfterwards([]*job{of("camera-1", "defects"), of("pump-1", ""), of("camera-2", "defects"), of("pump-2", "")}, func(jobs []*job) {
		if jobs[0].Task.Class.Model != "" {
			<-release
		}
		done <- []string{jobs[0].Task.Device, jobs[1].Task.Device}
	})
	require.Equal(t, []string{"pump-1", "pump-2"}, <-done)
	close(release)
	require.Equal(t, []string{"camera-1", "camera-2"}, <-done)
	p.working.Wait()
}

// Small records share a buffer. A large one has a buffer of its own size, with as many of the following records as a shared one would hold.
func TestABufferHoldsFewRecords(t *testing.T) {
	for name, c := range map[string]struct {
		sizes []int
		want  int
	}{
		"small":                       {[]int{10}, sharedBuffer},
		"an eighth":                   {[]int{sharedBuffer / 8}, sharedBuffer},
		"a byte more":                 {[]int{sharedBuffer/8 + 1}, sharedBuffer/8 + 1},
		"a large one alone":           {[]int{9 * sharedBuffer, 10}, 9 * sharedBuffer},
		"the last that fits":          {[]int{sharedBuffer / 2, sharedBuffer / 2, 10}, sharedBuffer},
		"the first that does not fit": {[]int{sharedBuffer / 2, sharedBuffer/2 + 1}, sharedBuffer / 2},
	} {
		var jobs []*job
		for _, size := range c.sizes {
			jobs = append(jobs, &job{Case: decide.Case{Task: &task.Task{Class: &task.Class{}, Data: make([]byte, max(size-recordOverhead, 0))}}})
		}
		require.Equal(t, c.want, bufferSize(jobs), name)
	}
}
