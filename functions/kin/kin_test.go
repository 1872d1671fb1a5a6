package kin

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/task"
)

// A device may have a resource that is called like a result of another one. It is an echo only with the result's value.
func TestADeviceMayHaveAResourceNamedLikeAResult(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	classes, err := task.NewClasses(nil)
	require.NoError(t, err)
	published := dtos.NewEvent("P", "d", "R_summary")
	require.NoError(t, published.AddSimpleReading("R_max", "Float64", 5000.25))
	require.NoError(t, published.AddSimpleReading("R_min", "Float64", 1.5))
	require.NoError(t, published.AddSimpleReading("A_deadband", "Float64Array", []float64{1, 2.5}))
	require.NoError(t, k.Sign(nowhere{}).Publish(local.Result{Event: published, Hop: 1}))
	reading := func(name, value string) task.Reading {
		return task.Reading{Resource: name, Type: task.Float64, Value: []byte(value)}
	}
	for name, row := range map[string]struct {
		id       string
		readings []task.Reading
		want     bool
	}{
		"another value":           {"1", []task.Reading{reading("R_max", "5001")}, true},
		"beside device data":      {"2", []task.Reading{reading("R", "5"), reading("R_max", "5000.25")}, true},
		"an echo":                 {"3", []task.Reading{reading("R_max", "5000.25"), reading("R_min", "1.5")}, false},
		"an echo of a part":       {"4", []task.Reading{reading("R_max", "5.00025e+03")}, false},
		"an echo with its id":     {published.Id, []task.Reading{reading("other", "1")}, false},
		"an echo of an array":     {"6", []task.Reading{reading("A_deadband", "[1,25e-1]")}, false},
		"the value, not the name": {"5", []task.Reading{reading("Q_max", "5000.25")}, true},
	} {
		ev := &task.Event{ID: row.id, Device: "other", Readings: row.readings, Encoding: task.JSON}
		require.Equal(t, row.want, k.Admit(ev, classes), name)
	}
	require.Equal(t, uint64(4), k.Skipped()["echo"])
}

// A relay that drops the tags, and changes values or adds a reading that no operator reads, does not feed the service without end, although none of its events is
// an echo by value.
func TestAChangedResultIsComputedOnOnce(t *testing.T) {
	for relay, change := range map[string]func(names []string, values []float64) ([]string, []float64){
		"adds a reading": func(names []string, values []float64) ([]string, []float64) {
			return append(names, "seen"), append(values, rand.Float64())
		},
		"doubles values": func(names []string, values []float64) ([]string, []float64) {
			for i := range values {
				values[i] *= 2
			}
			return names, values
		},
	} {
		k := New("n", "app-offload", 3, silent{})
		classes, err := task.NewClasses(nil)
		require.NoError(t, err)
		names, values := []string{"x_y"}, []float64{1.5}
		computed := 0
		for ; computed < 100; computed++ {
			ev := &task.Event{ID: uuid.NewString(), Device: "d", Encoding: task.JSON}
			for i, name := range names {
				ev.Readings = append(ev.Readings, task.Reading{Resource: name, Type: task.Float64, Value: fmt.Append(nil, values[i])})
			}
			if !k.Admit(ev, classes) {
				break
			}
			published := dtos.NewEvent("P", "d", names[0]+"_summary")
			require.NoError(t, published.AddSimpleReading(names[0]+"_summary_max", "Float64", values[0]))
			require.NoError(t, k.Sign(nowhere{}).Publish(local.Result{Event: published, Hop: 1}))
			names, values = change([]string{names[0] + "_summary_max"}, values[:1])
		}
		require.Equal(t, 2, computed, "%s: the device's event and its changed result", relay)
	}
}

// What is remembered is bounded, and the latest is kept.
func TestKinshipIsBounded(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	for n := range uint64(3*maxKin + 7) {
		k.remember([]uint64{n % (2 * maxKin), 1})
	}
	require.Len(t, k.latest, maxKin)
	require.LessOrEqual(t, len(k.kin), maxKin)
	require.Positive(t, k.kin[1].kept)
	for n := range 2*maxKin + 7 {
		k.deepen("s", []string{fmt.Sprint(n)})
	}
	require.LessOrEqual(t, len(k.depth), maxKin)
}

func TestLineageOfTags(t *testing.T) {
	for tags, want := range map[string]task.Lineage{
		``:                   {},
		`{"a":"b"}`:          {},
		`{"x":"offloadHop"}`: {},
		`{"offloadHop":"1","offloadService":"s","offloadNode":"n"}`: {Node: "n", Service: "s", Hop: 1},
		`{"offloadHop":2,"offloadService":"s"}`:                     {Service: "s", Hop: 2}, // a rule made a number of it
		`{"offloadHop":"x"}`:                                        {Hop: task.MaxHop},
		`{"offloadHop":null}`:                                       {Hop: task.MaxHop},
		`{"offloadHop":-1}`:                                         {Hop: task.MaxHop},
		`{"offloadHop":1e99}`:                                       {Hop: task.MaxHop},
		`{"offloadService":"s"}`:                                    {Service: "s", Hop: task.MaxHop},
		`{"offload\u0048op":"1"}`:                                   {Hop: 1},
	} {
		ev := &task.Event{Encoding: task.JSON, Tags: []byte(tags)}
		require.Equal(t, want, ev.Tagged(), tags)
	}
}

// silent logs nothing.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// nowhere takes results.
type nowhere struct{}

func (nowhere) Publish(local.Result) error { return nil }

// A result that is published again and again, as while the bus is away, is remembered once.
func TestAResultThatIsTriedAgainIsRememberedOnce(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	for n := range 2 {
		published := dtos.NewEvent("P", "d", "R_max")
		require.NoError(t, published.AddSimpleReading("R_max", "Float64", 5.0))
		for range 3 {
			require.NoError(t, k.Sign(nowhere{}).Publish(local.Result{Event: published, Hop: 1}))
		}
		require.Len(t, k.latest, 2*(n+1), "the id and the reading")
		require.EqualValues(t, n+1, k.serial)
	}
}
