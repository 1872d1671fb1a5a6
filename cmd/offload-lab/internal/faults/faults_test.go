package faults

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKindsAreChosenByName(t *testing.T) {
	all, err := chosen(nil)
	require.NoError(t, err)
	require.Len(t, all, len(kinds())-2, "hung and kill-work are drawn only where they are named")
	require.False(t, drawn(all, hung) || drawn(all, killsWork))
	two, err := chosen([]string{"cut", "cut"})
	require.NoError(t, err)
	require.Len(t, two, 2)
	quick, err := chosen(quickKinds())
	require.NoError(t, err)
	for _, k := range all {
		require.True(t, slices.ContainsFunc(quick, func(q kind) bool { return q.name == k.name }), "%s is left out when it is quick", k.name)
	}
	_, err = chosen([]string{"luck"})
	require.ErrorContains(t, err, `no kind "luck"`)
}

// Tests of the checks themselves: a harness that detects nothing would find nothing.
func TestWrongsAreSeen(t *testing.T) {
	p := &publisher{seed: 7}
	p.sent.Store(100)
	for _, c := range []struct {
		name string
		rows func(d *database)
		want int // violations
	}{
		{"whole events", func(d *database) { d.take(p.id(1), 0, 1, p.raw(1)); d.take(p.id(2), 0, 1, p.raw(2)) }, 0},
		{"one twice", func(d *database) { d.take(p.id(1), 0, 1, p.raw(1)); d.take(p.id(1), 0, 1, p.raw(1)) }, 1},
		{"one altered", func(d *database) { d.take(p.id(1), 0, 1, p.raw(2)) }, 1},
		{"never published", func(d *database) { d.take(p.id(100), 0, 1, p.raw(100)) }, 1},
		{"of another seed", func(d *database) { d.take((&publisher{seed: 8}).id(1), 0, 1, nil) }, 1},
		{"two counts of chunks", func(d *database) { d.take(p.id(20), 0, 4, nil); d.take(p.id(20), 1, 5, nil) }, 1},
		{"overtaken", func(d *database) { d.take(p.id(6), 0, 1, p.raw(6)); d.take(p.id(1), 0, 1, p.raw(1)); d.overtaken(0) }, 1},
		{"one id, two contents", func(d *database) {
			d.expect("x", []byte("a"))
			d.expect("x", []byte("b"))
			d.take("x", 0, 1, []byte("a"))
			d.take("x", 0, 1, []byte("b"))
		}, 0},
		{"one id, one content twice", func(d *database) {
			d.expect("x", []byte("a"))
			d.take("x", 0, 1, []byte("a"))
			d.take("x", 0, 1, []byte("a"))
		}, 1},
		{"one id, a content of its own making", func(d *database) { d.expect("x", []byte("a")); d.take("x", 0, 1, []byte("c")) }, 1},
		{"of another device", func(d *database) { d.take(p.id(6), 0, 1, p.raw(6)); d.take(p.id(2), 0, 1, p.raw(2)); d.overtaken(0) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrongs := 0
			d := newDatabase("", p, func(string, ...any) { wrongs++ })
			c.rows(d)
			require.Equal(t, c.want, wrongs)
		})
	}
}

func TestMissingEventsAreFound(t *testing.T) {
	p := &publisher{}
	p.sent.Store(10)
	d := newDatabase("", p, t.Errorf)
	d.take(p.id(0), 0, 2, nil) // the other half is missing
	d.take(p.id(1), 0, 1, p.raw(1))
	d.take(p.id(3), 0, 2, nil)
	d.take(p.id(3), 1, 2, nil)
	require.Equal(t, []int{0, 2, 4}, d.missing(5))
	require.Equal(t, 2, d.complete)
	d.expect("x", []byte("a"))
	d.expect("x", []byte("b"))
	require.Equal(t, 2, d.awaited())
	d.take("x", 0, 1, []byte("b"))
	require.Equal(t, 1, d.awaited())
	d.overtaken(0)
	require.Zero(t, d.late)
}
