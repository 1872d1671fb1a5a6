package functions

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/intake/parse"
	"app-offload/functions/policy"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// reading is one reading of an event as a device service would write it: a value, or its substitute.
type reading struct{ resource, typ, value string }

// eventOf parses an event of these readings, with origins of now.
func eventOf(t *testing.T, device string, n int, readings ...reading) *task.Event {
	t.Helper()
	origin := time.Now().UnixNano()
	var list []string
	for _, r := range readings {
		value := fmt.Sprintf(`"value":%s`, quoted(r.value))
		switch r.typ {
		case "Binary":
			value = fmt.Sprintf(`"mediaType":"image/jpeg","binaryValue":%q`, base64.StdEncoding.EncodeToString([]byte(r.value)))
		case "Object":
			value = `"objectValue":` + r.value
		}
		if r.value == "absent" {
			value = `"units":""`
		}
		list = append(list, fmt.Sprintf(`{"id":"x","origin":%d,"deviceName":%q,"resourceName":%q,"profileName":"P","valueType":%q,%s}`,
			origin, device, r.resource, r.typ, value))
	}
	raw := fmt.Sprintf(`{"apiVersion":"v3","id":"%08d-0000-4000-8000-%012d","deviceName":%q,"profileName":"P","sourceName":"S","origin":%d,"readings":[%s]}`,
		n, n, device, origin, strings.Join(list, ","))
	ev, err := parse.DefaultLimits().Parse([]byte(raw), parse.ContentTypeJSON)
	require.NoError(t, err, raw)
	return ev
}

func quoted(value string) string {
	if value == "null" {
		return value
	}
	text, _ := json.Marshal(value)
	return string(text)
}

var number20 = reading{"Temp", "Float32", "20.0"}

// mixed are events of which operators read only a part.
var mixed = map[string][]reading{
	"a text beside a number":         {number20, {"State", "String", "overflow"}},
	"a text before a number":         {{"State", "String", "overflow"}, number20},
	"an object":                      {number20, {"Frame", "Object", `{"a":[1,2]}`}},
	"an image":                       {number20, {"Image", "Binary", strings.Repeat("jpeg", 25_000)}},
	"an image that is cut":           {number20, {"Image", "Binary", strings.Repeat("jpeg", 100_000)}},
	"texts":                          {number20, {"States", "StringArray", `["a","b"]`}},
	"texts that are cut":             {number20, {"States", "StringArray", "[" + strings.Repeat(`"a",`, 400) + `"b"]`}},
	"a malformed number":             {number20, {"Level", "Float32", "21,5"}},
	"a malformed bool":               {number20, {"On", "Bool", "on"}},
	"an array with a hole":           {number20, {"Wave", "Float64Array", "[1.0,null,3.0]"}},
	"two numbers and an empty value": {number20, {"Level", "Int16", "3"}, {"Flow", "Int16", ""}},
}

// unread are values that no operator can parse as a number.
var unread = []reading{
	{"V", "Float32", "NaN"},
	{"V", "Float64", "+Inf"},
	{"V", "Float64", "-Infinity"},
	{"V", "Float64", ""},
	{"V", "Float64", "null"},
	{"V", "Float64", "absent"},
	{"V", "Float64", "  "},
	{"V", "Float64", "21,5"},
	{"V", "Float64", "0xFF"},
	{"V", "Float64", "1e400"},
	{"V", "Float32", "1e39"},
	{"V", "Float64", "overflow"},
	{"V", "Float64", "1.2.3"},
	{"V", "Float64", "12 °C"},
	{"V", "Float64", "f/gAAAAAAAA="},
	{"V", "Float32", "f8AAAA=="}, // NaN in base64
	{"V", "Float64", "AAAA"},
	{"V", "Float64", "AAAAAA=x"},
	{"V", "Int32", "Q5ZDlg=="},
	{"V", "Int8", "128"},
	{"V", "Uint8", "-1"},
	{"V", "Uint16", "65536"},
	{"V", "Int32", "1.5"},
	{"V", "Int64", "9223372036854775808"},
	{"V", "Uint64", "18446744073709551616"},
	{"V", "Int64", "1.5e0"},
	{"V", "Bool", "on"},
	{"V", "Bool", "2"},
	{"V", "Bool", ""},
	{"V", "Bool", "null"},
	{"V", "Float64Array", "[1.0,null,3.0]"},
	{"V", "Float64Array", "[]"},
	{"V", "Float64Array", ""},
	{"V", "Float64Array", "[NaN, NaN]"},
	{"V", "Float64Array", "[[1,2],[3,4]]"},
	{"V", "Float64Array", `["1.0","2.0"]`},
	{"V", "Float64Array", `[1,"a"]`},
	{"V", "Int8Array", "[1,300]"},
	{"V", "BoolArray", "[true,on]"},
	{"V", "Float64Array", "[1,,2]"},
	{"V", "Float64Array", "[1,2"},
}

// through runs an event through a service with a policy and returns its account.
func through(t *testing.T, name string, class task.ClassConfig, ev *task.Event) (status.Counts, *Service) {
	t.Helper()
	cfg := testConfig(t, nil, name)
	cfg.Writable.Policy.PPOWeights = shippedWeights
	cfg.Writable.Classes = map[string]task.ClassConfig{"default": class}
	s := open(t, cfg, &bin{})
	done := make(chan error, 1)
	s.Submit([]*task.Event{ev}, func(_ int, err error) { done <- err })
	require.NoError(t, <-done)
	return s.Counts(), s
}

// Data that no operator reads is sent, whatever the policy, and none of it counts as local.
func TestNothingIsLostByBeingProcessed(t *testing.T) {
	for _, one := range policy.List() {
		name := one.Name
		for what, readings := range mixed {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				counts, _ := through(t, name, task.ClassConfig{}, eventOf(t, "d", 1, readings...))
				require.Zero(t, counts.Local, "%+v", counts)
				require.NotZero(t, counts.Spooled)
			})
		}
	}
	for i, r := range unread {
		t.Run(fmt.Sprintf("unread/%d %s %q", i, r.typ, r.value), func(t *testing.T) {
			t.Parallel()
			counts, _ := through(t, "edge", task.ClassConfig{}, eventOf(t, "d", 1, r))
			require.Equal(t, [2]int64{0, 1}, [2]int64{counts.Local, counts.Spooled})
		})
	}
}

// The whole event arrives if its text could not be read locally, and can be joined there.
func TestWhatIsUnreadArrivesWhole(t *testing.T) {
	for what, readings := range mixed {
		t.Run(what, func(t *testing.T) {
			b := startBroker(t)
			c := startCloud(t, b, "n1", nil)
			s := open(t, testConfig(t, b, "edge"), &bin{})
			s.Start()
			ev := eventOf(t, "d", 1, readings...)
			done := make(chan error, 1)
			s.Submit([]*task.Event{ev}, func(_ int, err error) { done <- err })
			require.NoError(t, <-done)
			eventually(t, 10*time.Second, "the event arrives", func() bool {
				raw, err := task.Join(c.tasks())
				return err == nil && bytes.Equal(raw, ev.Raw)
			})
		})
	}
}

// The user may choose to lose data: a class that says so, or one that must not leave.
func TestAClassMayLoseWhatIsUnread(t *testing.T) {
	dropping := task.ClassConfig{DropUnread: true}
	staying := task.ClassConfig{NeverLeave: true}
	for _, row := range []struct {
		why      string
		class    task.ClassConfig
		readings []reading
		want     status.Counts
	}{
		{"the class drops it", dropping, mixed["a text beside a number"], status.Counts{Local: 1}},
		{"of a value too", dropping, mixed["a malformed number"], status.Counts{Local: 1}},
		{"nothing is read at all", dropping, []reading{{"State", "String", "overflow"}}, status.Counts{Spooled: 1}},
		{"the class must not leave", staying, mixed["a text beside a number"], status.Counts{Local: 1}},
		{"a bad value cannot leave", staying, mixed["a malformed number"], status.Counts{Dropped: map[string]int64{ReasonUnread: 1}}},
		{"an image by its size", task.ClassConfig{Operators: "summary resource=Image; range resource=Temp high=80"}, mixed["an image"], status.Counts{Local: 1}},
		{"an image by chance", task.ClassConfig{Operators: "summary"}, mixed["an image"], status.Counts{Spooled: 1}},
		{"a resource without operator", task.ClassConfig{Operators: "range resource=Temp high=80"}, []reading{number20, {"Level", "Int16", "3"}}, status.Counts{Spooled: 1}},
	} {
		t.Run(row.why, func(t *testing.T) {
			counts, _ := through(t, "edge", row.class, eventOf(t, "d", 1, row.readings...))
			if row.want.Dropped == nil {
				row.want.Dropped = map[string]int64{}
			}
			row.want.Accepted = 1
			require.Equal(t, row.want, counts)
		})
	}
}

// Numbers in the notations of device services are read, and missing values in an array are reported.
func TestNumbersOfDeviceServicesAreRead(t *testing.T) {
	for _, row := range []struct {
		reading
		mean float64
	}{
		{reading{"V", "Float32", "Q5ZDlg=="}, 300.528},
		{reading{"V", "Float64", "QHLIcrAgxJw="}, 300.528},
		{reading{"V", "Float64", "Q5ZDlg=="}, 300.528},
		{reading{"V", "Float32", " 20.0 "}, 20},
		{reading{"V", "Float64", "0x1p4"}, 16},
		{reading{"V", "Float64", "1_000"}, 1000},
		{reading{"V", "Int64", "1e3"}, 1000},
		{reading{"V", "Int16", "20.0"}, 20},
		{reading{"V", "Float64", "1e308"}, 1e308},
		{reading{"V", "Uint64", "18446744073709551615"}, 1 << 64},
		{reading{"V", "Bool", "true"}, 1},
		{reading{"V", "Float64Array", "[1,NaN,3]"}, 2},
		{reading{"V", "BoolArray", "[true, false]"}, 0.5},
		{reading{"V", "Float32Array", "[Q5ZDlg==, Q5ZDlg==]"}, 300.528},
	} {
		t.Run(row.typ+" "+row.value, func(t *testing.T) {
			cfg := testConfig(t, nil, "edge")
			bus := &bin{}
			s := open(t, cfg, bus)
			done := make(chan error, 1)
			s.Submit([]*task.Event{eventOf(t, "d", 1, row.reading)}, func(_ int, err error) { done <- err })
			require.NoError(t, <-done)
			require.EqualValues(t, 1, s.Counts().Local)
			require.NoError(t, s.Stop())
			require.Len(t, bus.results, 1)
			values := map[string]string{}
			for _, r := range bus.results[0].Event.Readings {
				values[r.ResourceName] = r.Value
			}
			require.JSONEq(t, fmt.Sprint(row.mean), values["V_mean"])
			if strings.Contains(row.value, "NaN") {
				require.Equal(t, "1", values["V_missing"], "%v", values)
			} else {
				require.NotContains(t, values, "V_missing")
			}
		})
	}
}

// With more resources than operators can remember, the events without room reach the cloud, all of them and in order, whatever the policy draws.
func TestResourcesWithoutRoomLeaveInOrder(t *testing.T) {
	const devices, room, rounds = 30, 10, 40
	for _, name := range []string{"edge", "random"} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t)
			c := startCloud(t, b, "n1", nil)
			cfg := testConfig(t, b, name)
			cfg.Local.MaxKeys = room
			cfg.Writable.Policy.LinkDown = "deadline"
			bus := &bin{}
			s := open(t, cfg, bus)
			s.Start()
			var taken sync.WaitGroup
			for round := range rounds {
				events := make([]*task.Event, devices)
				for d := range events {
					events[d] = event(fmt.Sprintf("device-%d", d), round*devices+d)
				}
				taken.Add(devices)
				s.Submit(events, func(_ int, err error) {
					if err != nil {
						t.Error(err)
					}
					taken.Done()
				})
			}
			taken.Wait()
			all := int64(devices * rounds)
			eventually(t, 20*time.Second, "all is accounted for", func() bool {
				n := s.Counts()
				return n.Local+n.Receipted == all && n.Balance == 0
			})
			require.EqualValues(t, room, s.local.Counts().Keys)
			require.Positive(t, s.local.Counts().Full)
			last := map[string]int64{}
			for _, one := range c.tasks() {
				require.Greater(t, one.Origin, last[one.Device], "device %s is out of order", one.Device)
				last[one.Device] = one.Origin
			}
			require.NoError(t, s.Stop())
			values := int64(0)
			for _, r := range bus.results {
				for _, reading := range r.Event.Readings {
					if reading.ResourceName == "R_count" {
						n, err := strconv.ParseInt(reading.Value, 10, 64)
						require.NoError(t, err)
						values += n
					}
				}
			}
			require.Equal(t, s.Counts().Local, values, "what counts as local is in a result")
		})
	}
}
