package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// A task may be processed locally if operators read all of it; values that a class drops unread are no loss.
func TestWhatIsReadInWhole(t *testing.T) {
	number := task.Reading{Resource: "x", Type: task.Float64, Value: []byte("1")}
	whole := func(typ task.ValueType, value string) task.Reading {
		return task.Reading{Resource: "x", Type: typ, Value: []byte(value)}
	}
	blob := task.Reading{Resource: "img", Type: task.Blob, Value: []byte("AAAA")}
	text := whole(task.String, "note")
	for name, c := range map[string]struct {
		operators string
		drop      bool
		task      task.Task
		resource  string // of a model
		want      bool
	}{
		"a number":                          {"summary window=60s", false, task.Task{Readings: []task.Reading{number}}, "", true},
		"by default":                        {"", false, task.Task{Readings: []task.Reading{number}}, "", true},
		"no operator":                       {"none", false, task.Task{Readings: []task.Reading{number}}, "", false},
		"of another resource":               {"summary window=60s resource=y*", false, task.Task{Readings: []task.Reading{number}}, "", false},
		"a text":                            {"summary window=60s", false, task.Task{Readings: []task.Reading{text}}, "", false},
		"a text beside":                     {"summary window=60s", false, task.Task{Readings: []task.Reading{number, text}}, "", false},
		"a text that is dropped":            {"summary window=60s", true, task.Task{Readings: []task.Reading{number, text}}, "", true},
		"nothing but what is dropped":       {"summary window=60s", true, task.Task{Readings: []task.Reading{text}}, "", false},
		"no finite number":                  {"summary window=60s", false, task.Task{Readings: []task.Reading{whole(task.Float64, "NaN")}}, "", false},
		"infinite":                          {"summary window=60s", false, task.Task{Readings: []task.Reading{whole(task.Float64, "-Inf")}}, "", false},
		"one finite of three":               {"summary window=60s", false, task.Task{Readings: []task.Reading{whole(task.Float64Array, "[NaN, +Inf, 2]")}}, "", true},
		"none finite":                       {"summary window=60s", false, task.Task{Readings: []task.Reading{whole(task.Float64Array, "[NaN, NaN]")}}, "", false},
		"no number":                         {"summary window=60s", false, task.Task{Readings: []task.Reading{whole(task.Float64, "21,5")}}, "", false},
		"nothing":                           {"summary window=60s", false, task.Task{}, "", false},
		"an image alone":                    {"summary window=60s", false, task.Task{Of: 1, Readings: []task.Reading{blob}}, "", true},
		"a part of an image alone":          {"summary window=60s", false, task.Task{Of: 3, Readings: []task.Reading{blob}}, "", false},
		"an image alone, by default":        {"", false, task.Task{Of: 1, Readings: []task.Reading{blob}}, "", false},
		"an image beside a number":          {"summary window=60s", false, task.Task{Of: 1, Readings: []task.Reading{blob, number}}, "", false},
		"an image that an operator names":   {"summary window=60s resource=img*; summary window=60s resource=x", false, task.Task{Of: 1, Readings: []task.Reading{blob, number}}, "", true},
		"a frame of an image":               {"summary window=60s", false, task.Task{Of: 3, Holes: []task.Hole{{Resource: "img"}}}, "", true},
		"a frame of an image, by default":   {"", false, task.Task{Of: 3, Holes: []task.Hole{{Resource: "img"}}}, "", false},
		"a frame that no operator reads":    {"none", true, task.Task{Of: 3, Holes: []task.Hole{{Resource: "img"}}, Cut: []task.Reading{blob}}, "", false},
		"a frame of another resource":       {"summary window=60s resource=y*", true, task.Task{Of: 3, Holes: []task.Hole{{Resource: "img"}}, Cut: []task.Reading{blob}}, "", false},
		"a frame that an operator names":    {"summary window=60s resource=img", true, task.Task{Of: 3, Holes: []task.Hole{{Resource: "img"}}, Cut: []task.Reading{blob}}, "", true},
		"a frame beside a number":           {"summary window=60s resource=x", true, task.Task{Of: 3, Readings: []task.Reading{number}, Holes: []task.Hole{{Resource: "img"}}, Cut: []task.Reading{blob}}, "", true},
		"an image of any name":              {"summary window=60s resource=*", false, task.Task{Of: 1, Readings: []task.Reading{blob, number}}, "", false},
		"an image for a model":              {"none", false, task.Task{Of: 1, Readings: []task.Reading{blob}}, "img", true},
		"an image for a model, and a text":  {"summary window=60s", false, task.Task{Of: 1, Readings: []task.Reading{blob, text}}, "img", false},
		"a number and an image for a model": {"summary window=60s", false, task.Task{Of: 1, Readings: []task.Reading{number, blob}}, "img", true},
		"a piece of a text":                 {"summary window=60s", false, task.Task{Readings: []task.Reading{number}, Cut: []task.Reading{text}}, "", false},
		"a piece of a text that is dropped": {"summary window=60s", true, task.Task{Readings: []task.Reading{number}, Cut: []task.Reading{text}}, "", true},
		"a piece of a number":               {"summary window=60s", false, task.Task{Readings: []task.Reading{number}, Cut: []task.Reading{number}}, "", true},
		"a piece of an image":               {"summary window=60s resource=img*; summary window=60s resource=x", false, task.Task{Readings: []task.Reading{number}, Cut: []task.Reading{blob}}, "", true},
	} {
		one := class(c.operators)
		one.DropUnread = c.drop
		p := start(t, DefaultConfig(), one, &recorder{})
		c.task.Device, c.task.Class, c.task.Received = "d", one.Class, time.Now().UnixNano()
		require.Equal(t, c.want, p.ReadsAllBut(&c.task, c.resource), name)
		c.task.Class = nil
		require.False(t, p.ReadsAllBut(&c.task, c.resource), "%s, without a class", name)
	}
}

// A reading belongs to the class of its own resource and event.
func TestWhatIsReadIsOfTheClassOfItsEvent(t *testing.T) {
	classes, err := task.NewClasses(map[string]task.ClassConfig{"unread": {MatchDevice: "b*", MatchProfile: "p", MatchSource: "s", MatchResource: "x", Operators: "none"}})
	require.NoError(t, err)
	p := start(t, DefaultConfig(), classes, &recorder{})
	usual := task.Task{Device: "b", Profile: "p", Source: "s", Class: classes.For(&task.Event{}), Received: time.Now().UnixNano()}
	usual.Readings = []task.Reading{{Resource: "x", Type: task.Float64, Value: []byte("1")}}
	for name, change := range map[string]func(*task.Task){
		"device": func(t *task.Task) { t.Device = "a" }, "profile": func(t *task.Task) { t.Profile = "" }, "source": func(t *task.Task) { t.Source = "" },
		"resource": func(t *task.Task) {
			t.Readings = []task.Reading{{Resource: "y", Type: task.Float64, Value: []byte("1")}}
		},
	} {
		other := usual
		change(&other)
		require.True(t, p.ReadsAll(&other), name)
		require.True(t, p.InOrder(&other), name)
		require.False(t, p.ReadsAll(&usual), "beside another "+name)
		require.False(t, p.InOrder(&usual), "beside another "+name)
	}
}

// A resource without room for its state is not read, in whatever form its reading arrives.
func TestThereIsRoomForSoManyResources(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxKeys = 2
	one := class("summary window=60s")
	p := start(t, cfg, one, &recorder{})
	for i, want := range []bool{true, true, false} {
		tk := task.Task{Device: string(rune('a' + i)), Class: one.Class, Received: time.Now().UnixNano(), Readings: []task.Reading{{Resource: "x", Type: task.Float64, Value: []byte("1")}}}
		require.Equal(t, want, p.ReadsAll(&tk), tk.Device)
		require.Equal(t, want, p.ReadsAll(&tk), "the same again")
	}
}

// flaky refuses a number of results, and accepts the following ones.
type flaky struct {
	recorder
	left int
}

func (f *flaky) Publish(r Result) error {
	f.mu.Lock()
	refuse := f.left > 0
	f.left--
	f.mu.Unlock()
	if refuse {
		return errBus
	}
	return f.recorder.Publish(r)
}

// Results that the bus refuses at the stop are offered once more, and counted if it refuses them again.
func TestAStopOffersItsResultsOnceMore(t *testing.T) {
	for left, taken := range []int{1, 1, 0} {
		bus := &flaky{left: left}
		p := start(t, DefaultConfig(), class("summary window=1h"), bus)
		feed(p, scalar("d", "x", 1, 1))
		require.NoError(t, p.Close(t.Context()))
		require.Len(t, bus.all(), taken, "refused %d times", left)
		require.EqualValues(t, 1-taken, p.Counts().Dropped[dropStop])
		require.Zero(t, p.Counts().Pending)
	}
}
