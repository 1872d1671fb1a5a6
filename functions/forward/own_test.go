package forward

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// The ids of a result follow from its content alone, and stay the same across versions: the cloud recognises a repetition by them.
func TestTheIDsOfAResultStay(t *testing.T) {
	r := summary("1.5")
	r.Event.Readings = append(r.Event.Readings, r.Event.Readings[0])
	name(&r)
	require.Equal(t, []string{"7a4a9432-8daa-5660-a127-d66131310d42", "43248359-177c-52e0-a8e7-679fbc32fa18", "2f042d19-59bf-59f0-a75c-92bcfc8bb63c"}, []string{r.Event.Id, r.Event.Readings[0].Id, r.Event.Readings[1].Id})
}

// The class of results is that of the data, unless it has one of its own; it never asks for local work.
func TestTheClassOfResults(t *testing.T) {
	for _, c := range []struct {
		of, own *task.Class
		want    task.Class
	}{
		{
			&task.Class{Name: "c", Priority: 7, TTL: time.Hour, Weight: 3, OnFull: "dropOldest", Complexity: 9, Model: "m", NeverLeave: true}, nil,
			task.Class{Name: "c-results", Priority: 7, TTL: time.Hour, Weight: 3, OnFull: "dropOldest"},
		},
		{&task.Class{Name: "c", OnFull: "local"}, nil, task.Class{Name: "c-results", OnFull: "refuse"}},
		{&task.Class{Name: "c", Priority: 7}, &task.Class{Name: "x", Priority: 2, Weight: 5, OnFull: "local"}, task.Class{Name: "c-results", Priority: 2, Weight: 5, OnFull: "refuse"}},
	} {
		f := &Forwarder{Class: func(name string) *task.Class {
			require.Equal(t, "c-results", name)
			return c.own
		}}
		require.Equal(t, &c.want, f.own(c.of))
	}
}

// A result up to the largest message leaves, with the time and the size of a whole task.
func TestTheLargestResult(t *testing.T) {
	r := summary("1.5")
	f, _, _ := forwarder(task.ResultsCloud, new([]*task.Task), nil)
	class := &task.Class{Name: "c"}
	whole, err := f.task(class, &r)
	require.NoError(t, err, "0 is no limit")
	require.Equal(t, []any{int64(5), r.Event.Origin, "P", 1, 1., task.JSON}, []any{whole.Received, whole.Origin, whole.Profile, whole.Of, whole.Score, whole.Encoding})
	class.Largest = len(whole.Data)
	_, err = f.task(class, &r)
	require.NoError(t, err)
	class.Largest--
	_, err = f.task(class, &r)
	require.ErrorIs(t, err, ErrTooLarge)
}
