package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// An operator with a history needs the order of a device's tasks, if it works on any of their readings.
func TestOperatorsThatRememberNeedTheOrder(t *testing.T) {
	for notation, inOrder := range map[string]bool{
		"none": false, "burn each=1us": false, "rate": true, "summary window=60s": true, "deadband band=1 | burn each=1us": true,
		"burn each=1us; range high=8": true, "rate resource=y*": false, "rate resource=x*": true,
	} {
		p := start(t, DefaultConfig(), class(notation), &recorder{})
		one := scalar("d", "x1", time.Second, 1)
		require.Equal(t, inOrder, p.InOrder(one), notation)
		one.Readings, one.Cut = nil, one.Readings
		require.Equal(t, inOrder, p.InOrder(one), "%s, a piece", notation)
		one.Cut, one.Holes = nil, make([]task.Hole, 1)
		require.True(t, p.InOrder(one), "a frame")
	}
}

// A task without a class has no operators, unless its resource has a class of its own.
func TestATaskWithoutAClass(t *testing.T) {
	classes, err := task.NewClasses(map[string]task.ClassConfig{"x": {MatchResource: "x*", Operators: "rate"}})
	require.NoError(t, err)
	p := start(t, DefaultConfig(), classes, &recorder{})
	for resource, inOrder := range map[string]bool{"x1": true} {
		one := scalar("d", resource, time.Second, 1)
		one.Class = nil
		require.Equal(t, inOrder, p.InOrder(one), resource)
	}
	p = start(t, DefaultConfig(), none{}, &recorder{})
	one := scalar("d", "x", time.Second, 1)
	one.Class = nil
	require.False(t, p.InOrder(one))
	require.Equal(t, []error{nil}, feed(p, one))
	require.EqualValues(t, 1, p.Counts().Skipped[skipNoOperator])
}

// none has no classes.
type none struct{}

func (none) All() []*task.Class                          { return nil }
func (none) ForResource(*task.Event, string) *task.Class { return nil }
