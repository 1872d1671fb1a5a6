package local

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// series draws scalar readings in ascending order, as value and time.
func series(t *rapid.T) (values []float64, times []time.Duration) {
	at := time.Duration(0)
	for range rapid.IntRange(1, 80).Draw(t, "n") {
		at += time.Duration(rapid.IntRange(1, 3000).Draw(t, "step")) * time.Millisecond
		values = append(values, float64(rapid.IntRange(-50, 50).Draw(t, "value"))/4)
		times = append(times, at)
	}
	return values, times
}

// outputs returns the values of a resource's results, with their times.
func outputs(t require.TestingT, results []Result, name string) (values []float64, times []time.Duration) {
	for _, r := range results {
		accepted(t, r)
		values = append(values, float(t, r, name))
		times = append(times, time.Duration(r.Event.Origin-epoch))
	}
	return values, times
}

func run(t require.TestingT, operators string, values []float64, times []time.Duration) *recorder {
	bus := &recorder{}
	w := still(t, class(operators), bus)
	for i, v := range values {
		require.NoError(t, w.process(scalar("d", "x", times[i], v)))
	}
	return bus
}

func TestDeadbandEqualsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values, times := series(t)
		band := float64(rapid.IntRange(0, 20).Draw(t, "band")) / 4
		percent := float64(rapid.SampledFrom([]int{0, 10, 100}).Draw(t, "percent"))
		longest := time.Duration(rapid.SampledFrom([]int{0, 5}).Draw(t, "max")) * time.Second
		if percent > 0 {
			band = 0
		}
		var wantValues []float64
		var wantTimes []time.Duration
		for i, v := range values {
			n := len(wantValues)
			if n > 0 {
				width := band
				if percent > 0 {
					width = math.Abs(wantValues[n-1]) * percent / 100
				}
				old := longest > 0 && times[i]-wantTimes[n-1] >= longest
				if math.Abs(v-wantValues[n-1]) <= width && !old {
					continue
				}
			}
			wantValues, wantTimes = append(wantValues, v), append(wantTimes, times[i])
		}
		bus := run(t, fmt.Sprintf("deadband band=%v percent=%v max=%v", band, percent, longest), values, times)
		gotValues, gotTimes := outputs(t, bus.results, "x_deadband")
		require.Equal(t, wantValues, gotValues)
		require.Equal(t, wantTimes, gotTimes)
	})
}

func TestDeadbandSendsTheLastHeldValueAfterMax(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{}
		p := start(t, DefaultConfig(), class("deadband band=5 max=60s"), bus)
		feed(p, scalar("d", "x", 0, 1))
		time.Sleep(10 * time.Second)
		feed(p, scalar("d", "x", 10*time.Second, 2), scalar("d", "x", 11*time.Second, 3))
		time.Sleep(49 * time.Second)
		require.Len(t, bus.all(), 1)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Len(t, bus.all(), 2)
		require.Equal(t, "3", value(bus.all()[1], "x_deadband"))
		require.Equal(t, epoch+11e9, bus.all()[1].Event.Origin)
		time.Sleep(time.Hour / 2)
		synctest.Wait()
		require.Len(t, bus.all(), 2, "silence stays visible")
		require.NoError(t, p.Close(t.Context()))
	})
}

// The value that a deadband sends after a silence is handled like any other: it passes the rest of its chain, and has the type of its reading.
func TestAHeldValueGoesThroughItsChain(t *testing.T) {
	for operators, want := range map[string][2]string{
		"deadband band=5 max=1s":                                     {"x_deadband", "[3]"},
		"deadband band=5 max=1s | deadtime time=1ms":                 {"x_deadtime", "[3]"},
		"deadband band=5 max=1s | rate":                              {"x_rate", "4"},
		"deadband band=5 max=1s | range high=2":                      {"x_range_value", "3"},
		"deadband band=5 max=1s | summary window=1s percentiles=100": {"x_p100", "3"},
	} {
		synctest.Test(t, func(t *testing.T) {
			bus := &recorder{}
			p := start(t, DefaultConfig(), class(operators), bus)
			reading := func(at time.Duration, text string) *task.Task {
				return taskOf("d", at, task.Reading{Resource: "x", Type: task.Int16Array, Value: []byte(text)})
			}
			feed(p, reading(0, "[1]"))
			feed(p, reading(time.Second/4, "[2]"), reading(time.Second/2, "[2, 3]"))
			time.Sleep(time.Minute)
			require.NoError(t, p.Close(t.Context()))
			all := bus.all()
			require.Equal(t, want[1], value(all[len(all)-1], want[0]), operators)
		})
	}
}

func TestFiltersKeepTypeAndText(t *testing.T) {
	for _, tc := range []struct {
		typ  task.ValueType
		text string
		want string
	}{
		{task.Uint64, "18446744073709551615", "18446744073709551615"}, // a float64 would round it
		{task.Bool, "true", "true"},
		{task.Float32, "1.250000e+00", "1.250000e+00"},
		{task.Int8, "-7", "-7"},
		{task.Int16, "1e2", "100"}, // not the notation of an Int16 for core-data
		{task.Int16Array, "[1, 2,2 ,3]", "[1, 2, 3]"},
		{task.BoolArray, "[true, false]", "[1, 0]"},
		{task.Float64Array, "[1.2345678901, 1e-7]", "[1.2345678901, 1e-07]"},
		{task.Int64Array, "[9007199254740993, -9223372036854775808]", "[9007199254740993, -9223372036854775808]"},
		{task.Uint64Array, "[18446744073709551615, 9007199254740993]", "[18446744073709551615, 9007199254740993]"},
	} {
		bus := &recorder{}
		w := still(t, class("deadband"), bus)
		require.NoError(t, w.process(taskOf("d", 0, task.Reading{Resource: "x", Type: tc.typ, Value: []byte(tc.text), Units: "V"})))
		require.Len(t, bus.results, 1, tc.text)
		require.Equal(t, tc.want, value(bus.results[0], "x_deadband"))
		typ := tc.typ
		if typ.IsArray() && !typ.IsInteger() {
			typ = task.Float64Array
		}
		require.Equal(t, []string{"V", typ.String()}, []string{bus.results[0].Event.Readings[0].Units, bus.results[0].Event.Readings[0].ValueType})
		accepted(t, bus.results[0])
	}
}

func TestDeadtimeEqualsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values, times := series(t)
		gap := time.Duration(rapid.IntRange(1, 10_000).Draw(t, "gap")) * time.Millisecond
		var want []time.Duration
		for _, at := range times {
			if n := len(want); n == 0 || at-want[n-1] >= gap {
				want = append(want, at)
			}
		}
		_, got := outputs(t, run(t, fmt.Sprintf("deadtime time=%v", gap), values, times).results, "x_deadtime")
		require.Equal(t, want, got)
	})
}

func TestDeadtimeLetsAllChunksOfAnArrayThrough(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("deadtime time=10s"), bus)
	for i := range 3 {
		chunk := arrayTask("d", "x", time.Second, float64(i))
		chunk.Chunk, chunk.Of = i+1, 4
		require.NoError(t, w.process(chunk))
	}
	require.Len(t, bus.results, 3)
	require.NoError(t, w.process(scalar("d", "x", time.Second, 9)), "no chunk")
	late := arrayTask("d", "x", 2*time.Second, 9)
	late.Chunk, late.Of = 1, 4
	require.NoError(t, w.process(late), "of another array")
	require.Len(t, bus.results, 3)
}

func TestRangeEqualsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values, times := series(t)
		low, high := -5.0, 5.0
		slack := float64(rapid.IntRange(0, 8).Draw(t, "hysteresis")) / 2
		state := "normal"
		var want []string
		for _, v := range values {
			next := state
			switch {
			case v > high:
				next = "high"
			case v < low:
				next = "low"
			case v <= high-slack && v >= low+slack:
				next = "normal"
			}
			if next != state {
				want = append(want, fmt.Sprint(next, " ", v))
			}
			state = next
		}
		bus := run(t, fmt.Sprintf("range low=%v high=%v hysteresis=%v", low, high, slack), values, times)
		var got []string
		for _, r := range bus.results {
			accepted(t, r)
			got = append(got, fmt.Sprint(value(r, "x_range"), " ", float(t, r, "x_range_value")))
		}
		require.Equal(t, want, got)
	})
}

func TestRangeTellsHowBadAndHowLong(t *testing.T) {
	bus := run(t, "range high=10 hysteresis=1", []float64{5, 11, 14, 12, 9.5, 8},
		[]time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second, 4 * time.Second, 5 * time.Second})
	require.Len(t, bus.results, 2)
	back := bus.results[1]
	require.Equal(t, "normal", value(back, "x_range"))
	require.InDelta(t, 14, float(t, back, "x_range_extreme"), 0)
	require.InDelta(t, 4, float(t, back, "x_range_seconds"), 0)
	require.Equal(t, "event-5000000000", back.Event.Tags["originEventId"])
}

// A value may be outside for less than a second, but never for a negative time, even if the device's clock is set back.
func TestRangeTellsShortTimes(t *testing.T) {
	for back, want := range map[time.Duration]float64{1250 * time.Millisecond: 0.25, time.Second: 0, time.Millisecond: 0} {
		bus := run(t, "range high=10", []float64{11, 5}, []time.Duration{time.Second, back})
		require.InDelta(t, want, float(t, bus.results[1], "x_range_seconds"), 0)
	}
}

func TestASpikeInsideAnArrayAlarms(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("range low=-3 high=3"), bus)
	require.NoError(t, w.process(arrayTask("d", "x", 0, 0, 1, 9, -4, 0)))
	require.NoError(t, w.process(arrayTask("d", "x", 1, 0, 1, 2)))
	require.Len(t, bus.results, 2)
	require.InDelta(t, 9, float(t, bus.results[0], "x_range_value"), 0)
}

func TestRateEqualsTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values, times := series(t)
		over := time.Duration(rapid.IntRange(0, 5000).Draw(t, "over")) * time.Millisecond
		var want []string
		last := 0
		for i := 1; i < len(values); i++ {
			if gap := times[i] - times[last]; gap >= over {
				want = append(want, decimal((values[i]-values[last])/gap.Seconds()))
				last = i
			}
		}
		var got []string
		for _, r := range run(t, fmt.Sprintf("rate over=%v", over), values, times).results {
			accepted(t, r)
			got = append(got, value(r, "x_rate"))
		}
		require.Equal(t, want, got)
	})
}

func TestRateAlarmsOnceEachWay(t *testing.T) {
	second := time.Second
	bus := run(t, "rate limit=2", []float64{0, 1, 5, 9, 9.5, 0},
		[]time.Duration{second, 2 * second, 3 * second, 4 * second, 5 * second, 6 * second})
	var got []string
	for _, r := range bus.results {
		accepted(t, r)
		got = append(got, value(r, "x_rate_alarm"))
	}
	require.Equal(t, []string{"high", "normal", "low"}, got)
	require.Empty(t, run(t, "rate limit=2", []float64{0, 2, 0}, []time.Duration{second, 2 * second, 3 * second}).results, "it is not above the limit")
}

func TestRateNeedsTimesOfTheirOwn(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("rate"), bus)
	for range 3 {
		require.NoError(t, w.process(scalar("d", "x", time.Second, 1)))
	}
	require.Empty(t, bus.results)
	require.EqualValues(t, 2, w.p.counts.stale.Load())
}

// Only readings that are older without interruption show that the device's clock was set back, even if the newer ones are too near for a rate.
func TestRateIgnoresSingleOlderReadings(t *testing.T) {
	second := time.Second
	values, times := []float64{0}, []time.Duration{100 * second}
	for range 3 {
		for range maxStray - 1 {
			values, times = append(values, 7), append(times, 50*second)
		}
		values, times = append(values, 8), append(times, times[0]+second*time.Duration(len(values)/maxStray+1))
	}
	got, _ := outputs(t, run(t, "rate over=20s", append(values, 40), append(times, 120*second)).results, "x_rate")
	require.Equal(t, []float64{2}, got)
}

func TestAChainPublishesOnlyAtItsEnd(t *testing.T) {
	second := time.Second
	bus := run(t, "deadband band=1 | rate | deadtime time=3s", []float64{0, 0.5, 2, 4, 4.5, 10},
		[]time.Duration{second, 2 * second, 3 * second, 4 * second, 5 * second, 7 * second})
	values, times := outputs(t, bus.results, "x_deadtime")
	require.Equal(t, []float64{1, 2}, values)
	require.Equal(t, []time.Duration{3 * second, 7 * second}, times)
	require.Equal(t, "deadtime", bus.results[0].Event.Tags["operator"])
}

// The unit of a rate is the unit of the value per second.
func TestTheUnitOfARate(t *testing.T) {
	for units, want := range map[string]string{"": "per second", "kN": "kN/s"} {
		for operators, at := range map[string]int{"rate": 0, "rate limit=1": 1} {
			bus := &recorder{}
			w := still(t, class(operators), bus)
			for i, v := range []string{"1", "5"} {
				require.NoError(t, w.process(taskOf("d", time.Duration(i)*time.Second, task.Reading{Resource: "x", Type: task.Int16, Units: units, Value: []byte(v)})))
			}
			require.Equal(t, want, bus.results[0].Event.Readings[at].Units, operators)
		}
	}
}

// The unit of a derived value stays with it, in windows and after a silence.
func TestTheUnitOfADerivedValue(t *testing.T) {
	for operators, name := range map[string]string{
		"rate | summary percentiles=50":      "x_mean x_p50",
		"rate | deadband band=1e9 max=1s":    "x_deadband",
		"rate | range high=1":                "x_range_value",
		"deadband | rate | deadtime time=1s": "x_deadtime",
	} {
		bus := &recorder{}
		w := still(t, class(operators), bus)
		for i, v := range []string{"1", "5", "6"} {
			at := time.Duration(i) * time.Second / 4
			require.NoError(t, w.process(taskOf("d", at, task.Reading{Resource: "x", Type: task.Int16, Units: "kN", Value: []byte(v)})))
		}
		e := w.table.oldest()
		w.wakeChain(e, e.chains[0], w.p.now()+int64(time.Minute))
		w.finish()
		all := bus.results[len(bus.results)-1].Event.Readings
		for name := range strings.FieldsSeq(name) {
			at := slices.IndexFunc(all, func(r dtos.BaseReading) bool { return r.ResourceName == name })
			require.GreaterOrEqual(t, at, 0, "%s of %s", name, operators)
			require.Equal(t, "kN/s", all[at].Units, "%s of %s", name, operators)
		}
	}
}

// No two integers of 64 bits differ by more than a band beyond their range.
func TestIntegersApart(t *testing.T) {
	most := number{rank: math.MaxUint64, whole: true}
	for band, want := range map[float64]bool{0: true, 0.5: true, 1 << 63: true, math.Nextafter(1<<64, 0): true, 1 << 64: false, 1e300: false} {
		require.Equal(t, want, most.apart(number{whole: true}, band), band)
	}
}

// The distance of two times has no sign.
func TestTimesApart(t *testing.T) {
	require.Equal(t, []int64{2, 2, 0}, []int64{apart(1, 3), apart(3, 1), apart(3, 3)})
}
