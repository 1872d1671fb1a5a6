package functions

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// Tasks of one event and class share the fate of the first if it was dropped, and are not dropped if it was not.
func TestTasksOfAnEventShareTheirFate(t *testing.T) {
	class, other := &task.Class{Name: "a"}, &task.Class{Name: "b"}
	for first, want := range map[shed.Verdict][5]shed.Verdict{ // of verdicts Keep, Other, Reduce, Late, Drop on the next one
		shed.Keep:   {shed.Keep, shed.Other, shed.Keep, shed.Keep, shed.Keep},
		shed.Other:  {shed.Keep, shed.Other, shed.Keep, shed.Keep, shed.Keep},
		shed.Reduce: {shed.Keep, shed.Other, shed.Reduce, shed.Late, shed.Drop},
		shed.Late:   {shed.Late, shed.Late, shed.Late, shed.Late, shed.Late},
		shed.Drop:   {shed.Drop, shed.Drop, shed.Drop, shed.Drop, shed.Drop},
	} {
		for next, same := range want {
			v, event := shed.Verdict(next), &countdown{} // 0 to 4
			of := func(class *task.Class, event *countdown) *job {
				j := &job{event: event}
				j.Task = &task.Task{Class: class}
				return j
			}
			f := fate{}
			require.Equal(t, first, f.of(of(class, event), first))
			require.Equal(t, same, f.of(of(class, event), v), "%d after %d", v, first)
			if first == shed.Late || first == shed.Drop {
				require.Equal(t, v, f.of(of(other, event), v), "%d of another class after %d", v, first)
			}
			require.Equal(t, v, f.of(of(class, &countdown{}), v), "%d of another event after %d", v, first)
		}
	}
}
