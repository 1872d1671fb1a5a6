package local

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/task"
)

// ticks returns a worker that has read n Float64 values of one device, one each second, with time stamps in a unit from a start on.
func ticks(t *testing.T, operators string, start time.Time, unit time.Duration, n int) (*worker, *recorder, *[]string) {
	t.Helper()
	bus, said := &recorder{}, &[]string{}
	w := still(t, class(operators), bus)
	w.p.OnNotice(func(text string) { *said = append(*said, text) })
	for i := range n {
		at := start.Add(time.Duration(i) * time.Second)
		one := scalar("d", "x", 0, float64(i))
		one.Origin, one.Received = at.UnixNano()/int64(unit), w.p.now()
		one.Readings[0].Origin = one.Origin
		require.NoError(t, w.process(one))
	}
	return w, bus, said
}

// Device services use time stamps in ms, µs and s: operators see the same times as with ns, and each device is logged once.
func TestTheUnitOfATimeIsRecognised(t *testing.T) {
	now := time.Now().Truncate(time.Minute).Add(-time.Hour)
	for unit, name := range map[time.Duration]string{1: "", time.Microsecond: "us", time.Millisecond: "ms", time.Second: "s"} {
		w, bus, said := ticks(t, "summary window=10s late=0s; rate; deadtime time=7s", now, unit, 31)
		var closed, rates, passed int
		for _, r := range bus.results {
			switch r.Operator {
			case "summary":
				closed++
				require.Equal(t, "10", value(r, "x_count"))
				require.Equal(t, now.Add(time.Duration(closed)*10*time.Second).UnixNano(), r.Event.Origin, "unit %q", name)
			case "rate":
				rates++
				require.Equal(t, "1", value(r, "x_rate"), "unit %q", name)
			case "deadtime":
				passed++
			}
		}
		require.Equal(t, [3]int{3, 30, 5}, [3]int{closed, rates, passed}, "unit %q", name)
		counts := w.p.counts.snapshot()
		require.Zero(t, counts.Replaced)
		if name == "" {
			require.Zero(t, counts.Converted)
			require.Empty(t, *said)
			continue
		}
		require.EqualValues(t, 31, counts.Converted)
		require.Len(t, *said, 1)
		require.Contains(t, (*said)[0], "unit="+name)
	}
}

func TestATimeThatIsNoneIsReplaced(t *testing.T) {
	now := time.Now().UnixNano()
	for _, row := range []struct {
		why  string
		at   int64
		unit string
		want int64
	}{
		{"ns of now", now, "ns", now},
		{"ns of a device that lags by 20 years", now - int64(20*365*24*time.Hour), "ns", now - int64(20*365*24*time.Hour)},
		{"far ahead, for others to judge", math.MaxInt64, "ns", math.MaxInt64},
		{"s", 1_700_000_000, "s", 1_700_000_000_000_000_000},
		{"ms", 1_700_000_000_123, "ms", 1_700_000_000_123_000_000},
		{"us", 1_700_000_000_123_456, "us", 1_700_000_000_123_456_000},
		{"a counter", 1, "", 0},
		{"hours since 1970", 480_000, "", 0},
		{"seconds of uptime", 86_400, "", 0},
		{"between µs and ns", 5e13, "", 0},
		{"below 0", -5, "", 0},
		{"the least", math.MinInt64, "", 0},
		{"far below 0, in no unit", -9_000_000_000_000_001_000, "", 0},
	} {
		ns, unit := inNS(row.at, now)
		require.Equal(t, row.unit, unit, row.why)
		require.Equal(t, row.want, ns, row.why)
	}
	// A gateway and its device without clock batteries agree on 1970.
	ns, unit := inNS(int64(5*time.Minute), int64(6*time.Minute))
	require.Equal(t, int64(5*time.Minute), ns)
	require.Equal(t, "ns", unit)
	const year = int64(365 * 24 * time.Hour)
	for _, c := range [][2]int64{{3 * year, year}, {year, 3 * year}} {
		_, unit = inNS(c[0], c[1])
		require.Empty(t, unit, "years apart")
	}
	for apart, want := range map[int64]string{near: "ns", near + 1: ""} {
		_, unit = inNS(apart+1, 1)
		require.Equal(t, want, unit)
	}

	w, bus, said := ticks(t, "summary window=10s late=0s", time.Unix(0, 1), 1, 1)
	require.EqualValues(t, 1, w.p.counts.snapshot().Replaced)
	require.Len(t, *said, 1)
	w.finish()
	require.InDelta(t, time.Now().UnixNano(), bus.results[0].Event.Origin, float64(time.Minute), "it counts in the window of its reception")
	one := scalar("of the event", "x", 0, 1)
	one.Readings[0].Origin, one.Origin = 0, 5
	require.NoError(t, w.process(one))
	require.Contains(t, (*said)[1], "origin=5")
}

func TestWhatIsSaidOfDevicesIsBounded(t *testing.T) {
	var n notices
	var said []string
	n.say("before", "without a subscriber")
	n.to = func(text string) { said = append(said, text) }
	for i := range 3 * maxSaid {
		for range 2 {
			n.say(strings.Repeat("d", i), "device")
		}
	}
	require.Len(t, said, maxSaid+1)
	require.Contains(t, said[maxSaid], "suppressed")
	require.Len(t, n.said, maxSaid+1)
}

func TestRateOfCounters(t *testing.T) {
	for _, row := range []struct {
		why       string
		operators string
		typ       task.ValueType
		values    []string
		rates     []string
		resets    int64
		falls     int64
	}{
		{"a wrap", "rate counter=true", task.Uint16, []string{"65530", "65535", "4"}, []string{"5", "5"}, 0, 0},
		{"a reset", "rate counter=true", task.Uint16, []string{"30000", "30010", "3", "8"}, []string{"10", "5"}, 1, 0},
		{"of 8 bits", "rate counter=true", task.Uint8, []string{"250", "3"}, []string{"9"}, 0, 0},
		{"of 32 bits", "rate counter=true", task.Uint32, []string{"4294967290", "4"}, []string{"10"}, 0, 0},
		{"of 64 bits", "rate counter=true", task.Uint64, []string{"18446744073709551610", "4"}, []string{"10"}, 0, 0},
		{"beyond 53 bits", "rate counter=true", task.Uint64, []string{"9007199254740992", "9007199254740993"}, []string{"1"}, 0, 0},
		{"signed, to its least value", "rate counter=true", task.Int16, []string{"32767", "-32768"}, []string{"1"}, 0, 0},
		{"signed, to 0", "rate counter=true", task.Int32, []string{"2147483640", "2"}, []string{"10"}, 0, 0},
		{"a little back", "rate counter=true", task.Uint32, []string{"100", "99", "101"}, []string{"2"}, 1, 0},
		{"a fraction more, and none", "rate counter=true", task.Float64, []string{"1", "1.25", "1.25"}, []string{"0.25", "0"}, 0, 0},
		{"floats do not wrap", "rate counter=true", task.Float64, []string{"65535", "4", "6"}, []string{"2"}, 1, 0},
		{"behind a filter", "deadband | rate counter=true", task.Uint16, []string{"65530", "65530", "4"}, []string{"5"}, 0, 0},
		{"the last of an array", "rate counter=true", task.Uint16Array, []string{"[1, 65530]", "[2, 4]"}, []string{"10"}, 0, 0},
		{"a warning by default", "rate", task.Uint16, []string{"65530", "65535", "4"}, []string{"5", "-65531"}, 0, 1},
		{"no warning for what swings", "rate", task.Int16, []string{"100", "-100", "100", "-100"}, []string{"-200", "200", "-200"}, 0, 0},
		{"a warning where it only rose", "rate", task.Float64, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "0"}, []string{"1", "1", "1", "1", "1", "1", "1", "1", "-9"}, 0, 1},
		{"no warning for half of it", "rate", task.Float64, []string{"92", "93", "94", "95", "96", "97", "98", "99", "100", "50"}, []string{"1", "1", "1", "1", "1", "1", "1", "1", "-50"}, 0, 0},
		{"no warning for a swing after a rise", "rate", task.Float64, []string{"91", "92", "93", "94", "95", "96", "97", "98", "99", "90"}, []string{"1", "1", "1", "1", "1", "1", "1", "1", "-9"}, 0, 0},
	} {
		t.Run(row.why, func(t *testing.T) {
			bus := &recorder{}
			w := still(t, class(row.operators), bus)
			var said []string
			w.p.OnNotice(func(text string) { said = append(said, text) })
			for i, text := range row.values {
				one := taskOf("d", time.Duration(i)*time.Second, task.Reading{Resource: "x", Type: row.typ, Value: []byte(text)})
				require.NoError(t, w.process(one))
			}
			var rates []string
			for _, r := range bus.results {
				rates = append(rates, value(r, "x_rate"))
			}
			require.Equal(t, row.rates, rates)
			counts := w.p.counts.snapshot()
			require.Equal(t, [2]int64{row.resets, row.falls}, [2]int64{counts.Resets, counts.Falls})
			require.Len(t, said, int(row.falls))
			if row.falls > 0 {
				require.Contains(t, said[0], `counter=true: device="d" resource="x"`)
			}
		})
	}
}

// A reading without a time has the time of its event, or that of its reception if the event has none.
func TestAReadingWithoutATimeHasItsEvents(t *testing.T) {
	received := epoch + int64(time.Hour)
	for _, c := range []struct{ reading, event, want int64 }{
		{epoch + 1, epoch + 2, epoch + 1},
		{0, epoch + 2, epoch + 2},
		{-1, epoch + 2, epoch + 2},
		{0, 0, received},
	} {
		bus := &recorder{}
		w := still(t, class("deadband"), bus)
		one := scalar("d", "x", 0, 1)
		one.Readings[0].Origin, one.Origin, one.Received = c.reading, c.event, received
		require.NoError(t, w.process(one))
		require.InDelta(t, c.want, bus.results[0].Event.Origin, 1e6)
		require.Zero(t, w.p.counts.snapshot().Replaced)
	}
}

// A time may be ahead of this node's clock by MaxAhead, and no further.
func TestHowFarATimeMayBeAhead(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("deadband"), bus)
	w.p.clock = clock.New(clock.NewFake(time.Unix(0, epoch)))
	for i, ahead := range []int64{w.rules.limits.ahead, w.rules.limits.ahead + 1} {
		one := scalar("d", "x", 0, float64(i))
		one.Received = w.p.now()
		one.Readings[0].Origin = epoch + ahead
		require.NoError(t, w.process(one))
		require.EqualValues(t, i, w.p.counts.ahead.Load())
		require.Equal(t, epoch+ahead*int64(1-i), bus.results[i].Event.Origin)
	}
}

// The clock of this node may be set while it runs: a time of reception is converted with the present clock.
func TestReceptionFollowsTheWallClock(t *testing.T) {
	fake := clock.NewFake(time.Unix(0, epoch))
	bus := &recorder{}
	w := still(t, class("deadband"), bus)
	w.p.clock = clock.New(fake)
	one := scalar("d", "x", 0, 1)
	one.Readings[0].Origin, one.Origin, one.Received = 0, 0, w.p.now()
	fake.Step(240 * time.Hour)
	require.NoError(t, w.process(one))
	require.Equal(t, epoch+int64(240*time.Hour), bus.results[0].Event.Origin)
}
