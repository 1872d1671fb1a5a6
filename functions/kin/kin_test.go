package kin

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/task"
)

// A device may have a resource with the name of another one's result. Its event is an echo only with the result's value.
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

// A relay that drops the tags, and changes values or adds a reading that no operator reads, does not feed the service without end, although none of
// its events is an echo by value.
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

// The memory is bounded, and keeps the latest.
func TestKinshipIsBounded(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	for n := range uint64(3*maxKin + 7) {
		k.remember([]uint64{n % (2 * maxKin), 1})
	}
	require.Len(t, k.latest, maxKin)
	require.LessOrEqual(t, len(k.kin), maxKin)
	require.Positive(t, k.kin[1].kept)
	most := 0
	for n := range 2*maxKin + 7 {
		k.deepen("s", []string{fmt.Sprint(n)})
		most = max(most, len(k.depth))
	}
	require.Equal(t, maxKin, most)
}

// silent logs nothing.
type silent struct{}

func (silent) Debugf(string, ...any) {}
func (silent) Infof(string, ...any)  {}
func (silent) Warnf(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// nowhere discards results.
type nowhere struct{}

func (nowhere) Publish(local.Result) error { return nil }

// A result that is published repeatedly, as while the bus is away, is recorded once.
func TestAResultThatIsTriedAgainIsRememberedOnce(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	for n := range 2 {
		published := dtos.NewEvent("P", "d", "R_max")
		require.NoError(t, published.AddSimpleReading("R_max", "Float64", 5.0))
		published.Tags = map[string]any{"class": "default"}
		for range 3 {
			require.NoError(t, k.Sign(nowhere{}).Publish(local.Result{Event: published, Hop: 1}))
			require.Len(t, published.Tags, 1, "the id follows from the tags: it is the same next time")
		}
		require.Len(t, k.latest, 2*(n+1), "the id and the reading")
		require.EqualValues(t, n+1, k.serial)
	}
}

// lines keeps log lines.
type lines struct{ warned, informed []string }

func (l *lines) Debugf(string, ...any) {}
func (l *lines) Infof(format string, args ...any) {
	l.informed = append(l.informed, fmt.Sprintf(format, args...))
}

func (l *lines) Warnf(format string, args ...any) {
	l.warned = append(l.warned, fmt.Sprintf(format, args...))
}
func (l *lines) Errorf(string, ...any) {}

// A result is processed if a class takes its service's results, its hop is below the limit, and it has its tags. Skipped results are counted by
// reason, and logged once for each service or topic.
func TestResultsAreAdmittedByClassAndHop(t *testing.T) {
	var log lines
	k := New("n", "app-offload", 3, &log)
	classes, err := task.NewClasses(map[string]task.ClassConfig{"results": {MatchResultsOf: "wanted"}})
	require.NoError(t, err)
	event := func(id, topic, value, tags string) *task.Event {
		return &task.Event{
			ID: id, Device: "d", Source: "R_max", Topic: topic, Encoding: task.JSON, Tags: []byte(tags),
			Readings: []task.Reading{{Resource: "R_max", Type: task.Float64, Value: []byte(value)}},
		}
	}
	tags := func(service string, hop int) string {
		return fmt.Sprintf(`{"offloadService":"%s","offloadHop":"%d"}`, service, hop)
	}
	for range 2 {
		for _, row := range []struct {
			service string
			hop     int
			want    bool
		}{{"wanted", 1, true}, {"wanted", 2, true}, {"wanted", 3, false}, {"wanted", 4, false}, {"other", 1, false}, {"another", 1, false}} {
			ev := event(uuid.NewString(), "edgex/events/elsewhere", "7", tags(row.service, row.hop))
			require.Equal(t, row.want, k.Admit(ev, classes), "%+v", row)
			require.Equal(t, task.Lineage{Service: row.service, Hop: row.hop}, ev.Lineage)
		}
	}
	require.Empty(t, k.kin, "nothing is learned from a topic that is not the service's own")
	require.Empty(t, k.depth)

	const topic = "edgex/events/device/wanted/P/d/R_max"
	require.True(t, k.Admit(event("first", topic, "8", tags("wanted", 1)), classes))
	for _, topic := range []string{"rules", "rules", "other rules"} {
		echo := event(uuid.NewString(), topic, "8", "")
		require.False(t, k.Admit(echo, classes), "learned from its own topic")
		require.Equal(t, task.MaxHop, echo.Lineage.Hop)
		require.False(t, k.Admit(event("first", topic, "9", ""), classes), "by its id")
	}
	require.True(t, k.Admit(event("new", "rules", "9", ""), classes))
	k.Own()
	require.Equal(t, map[string]uint64{"own": 1, "result": 4, "hops": 4, "echo": 6, "loop": 0}, k.Skipped())
	require.Len(t, log.informed, 2)
	require.Contains(t, log.informed[0], `service="other" `)
	require.Contains(t, log.informed[1], `service="another" `)
	require.Len(t, log.warned, 3)
	require.Contains(t, log.warned[0], `service="wanted" topic="edgex/events/elsewhere" hop=3 limit=3`)
	require.Contains(t, log.warned[1], `topic="rules" `)
	require.Contains(t, log.warned[2], `topic="other rules" `)
	events, devices := k.Looped()
	require.Zero(t, events)
	require.Empty(t, devices)
}

// Published results have the tags of the service, the node and the hop.
func TestPublishedResultsAreTagged(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	for hop, want := range map[int]string{1: "1", 2: "2", task.MaxHop + 1: "255"} {
		published := dtos.NewEvent("P", "d", "R_max")
		published.Tags = map[string]any{"site": "hall"}
		if hop == 1 {
			published.Tags = nil
		}
		caught := caught{}
		require.NoError(t, k.Sign(&caught).Publish(local.Result{Event: published, Hop: hop}))
		delete(caught.tags, "site")
		require.Equal(t, map[string]any{"offloadNode": "n", "offloadService": "app-offload", "offloadHop": want}, caught.tags)
	}
}

// caught keeps the tags of the last published result.
type caught struct{ tags map[string]any }

func (c *caught) Publish(r local.Result) error { c.tags = r.Event.Tags; return nil }

// Texts are compared by their bytes, and numbers by their value, also within an array.
func TestReadingsAreAlikeByValue(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	for _, alike := range [][2]string{{"1", "1.0"}, {"[1, 2]", "1e0,2"}, {"open", "open"}, {"[a, 2]", "[a,2.0]"}} {
		require.Equal(t, k.hash("R", []byte(alike[0])), k.hash("R", []byte(alike[1])), alike)
		require.NotEqual(t, k.hash("R", []byte(alike[0])), k.hash("S", []byte(alike[1])), alike)
	}
	for _, other := range [][2]string{{"1", "2"}, {"[1, 2]", "[2, 1]"}, {"open", "shut"}, {"[a, 2]", "[b, 2]"}, {"[1, 2]", "1"}} {
		require.NotEqual(t, k.hash("R", []byte(other[0])), k.hash("R", []byte(other[1])), other)
	}
}

// A result of a result is recognised by its name, also if another service computed both. The longest matching part of the name counts.
func TestResultsOfResultsAreKnownByName(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	classes, err := task.NewClasses(nil)
	require.NoError(t, err)
	device := func(name string) bool {
		ev := &task.Event{ID: uuid.NewString(), Device: "d", Encoding: task.JSON, Readings: []task.Reading{{Resource: name, Type: task.Float64, Value: []byte("5")}}}
		return k.Admit(ev, classes)
	}
	for _, source := range []string{"R_max", "R_max_mean_x", "Q_max_mean", "T", "T_mean"} {
		ev := &task.Event{
			ID: uuid.NewString(), Device: "d", Source: source, Topic: "edgex/events/device/other/P/d/" + source, Encoding: task.JSON,
			Tags: []byte(`{"offloadHop":"1","offloadService":"other"}`), Readings: []task.Reading{{Resource: source, Type: task.Float64, Value: []byte("7")}},
		}
		require.False(t, k.Admit(ev, classes))
	}
	require.True(t, device("R_max"))
	require.False(t, device("R_max_mean_x"), "of R_max, which is a result, and not of R_max_mean")
	require.True(t, device("Q_max_mean"), "nothing is known of Q_max")
	require.False(t, device("T_mean"), "of T, which is a result that another service has renamed")
}

// An entry recorded twice is removed when both records are too old.
func TestWhatIsRememberedTwiceIsForgotten(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	k.remember([]uint64{1, 1, 2})
	others := func(n, from int) {
		for h := range n {
			k.remember([]uint64{uint64(from + h)})
		}
	}
	others(maxKin-3, 10)
	require.Len(t, k.latest, maxKin)
	others(1, 1<<20)
	require.True(t, k.knows([]uint64{1, 2}))
	others(1, 1<<21)
	require.False(t, k.knows([]uint64{1}))
	require.True(t, k.knows([]uint64{2}))
	others(1, 1<<22)
	require.False(t, k.knows([]uint64{2}))
	require.Len(t, k.kin, maxKin)
}

// An event without tags is a result if all of its readings are; it republishes one beside its own reading if that has a result's name. The latest
// result among its readings is the one that counts.
func TestWhatAnEventHasOfResults(t *testing.T) {
	k := New("n", "app-offload", 3, silent{})
	classes, err := task.NewClasses(nil)
	require.NoError(t, err)
	reading := func(name, value string) task.Reading {
		return task.Reading{Resource: name, Type: task.Float64, Value: []byte(value)}
	}
	for _, value := range []string{"7", "8"} {
		require.False(t, k.Admit(&task.Event{
			ID: "result-" + value, Device: "d", Source: "R_max", Topic: "edgex/events/device/other/P/d/R_max", Encoding: task.JSON,
			Tags: []byte(`{"offloadHop":"1","offloadService":"other"}`), Readings: []task.Reading{reading("R_max", value)},
		}, classes))
	}
	first, second := k.hash("R_max", []byte("7")), k.hash("R_max", []byte("8"))
	for name, c := range map[string]struct {
		id       string
		readings []task.Reading
		want     echo
	}{
		"a result by its id":        {"result-7", []task.Reading{reading("x", "1")}, echo{whole: true}},
		"one by its readings":       {"e", []task.Reading{reading("R_max", "7")}, echo{whole: true, passes: true, value: first, serial: k.kin[first].serial}},
		"two":                       {"e", []task.Reading{reading("R_max", "7"), reading("R_max", "8")}, echo{whole: true, passes: true, value: second, serial: k.kin[second].serial}},
		"passed on":                 {"e", []task.Reading{reading("R_max", "8"), reading("x", "1")}, echo{passes: true, value: second, serial: k.kin[second].serial}},
		"passed on, behind":         {"e", []task.Reading{reading("x", "1"), reading("R_max", "8")}, echo{passes: true, value: second, serial: k.kin[second].serial}},
		"of its own":                {"e", []task.Reading{reading("R_max", "9")}, echo{own: true}},
		"of its own, and passed on": {"e", []task.Reading{reading("R_max", "9"), reading("R_max", "7")}, echo{own: true, passes: true, value: first, serial: k.kin[first].serial}},
		"nothing":                   {"e", []task.Reading{reading("x", "7")}, echo{}},
	} {
		require.Equal(t, c.want, k.compare(&task.Event{ID: c.id, Device: "d", Readings: c.readings}), name)
	}
	require.Less(t, k.kin[first].serial, k.kin[second].serial)
	require.Equal(t, []uint64{maphash.String(k.seed, "x"), maphash.String(k.seed, "y")},
		k.unlike(&task.Event{Readings: []task.Reading{reading("x", "1"), reading("R_max", "7"), reading("y", "2")}}))
}
