package decide

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// Only a task that is too large, may leave, and is not read locally has no target; the first of them is reported.
func TestUnsendable(t *testing.T) {
	sized := func(n, largest int, never bool) *task.Task {
		return &task.Task{Data: make([]byte, n), Class: &task.Class{Largest: largest, NeverLeave: never}}
	}
	bare := sized(0, 0, false).Size()
	for name, c := range map[string]struct {
		tasks []*task.Task
		reads bool
		want  [2]int
	}{
		"none":             {nil, false, [2]int{}},
		"one too large":    {[]*task.Task{sized(11, bare+10, false)}, false, [2]int{bare + 11, bare + 10}},
		"exactly":          {[]*task.Task{sized(10, bare+10, false)}, false, [2]int{}},
		"read here":        {[]*task.Task{sized(11, bare+10, false)}, true, [2]int{}},
		"must not leave":   {[]*task.Task{sized(11, bare+10, true)}, false, [2]int{}},
		"without a limit":  {[]*task.Task{sized(11, 0, false)}, false, [2]int{}},
		"the first of two": {[]*task.Task{sized(1, bare+10, false), sized(12, bare+10, false), sized(13, bare+10, false)}, false, [2]int{bare + 12, bare + 10}},
	} {
		r := &Rules{local: Local{Reads: func(*task.Task) bool { return c.reads }}}
		size, largest, found := r.Unsendable(c.tasks)
		require.Equal(t, c.want, [2]int{size, largest}, name)
		require.Equal(t, c.want[0] > 0, found, name)
	}
}
