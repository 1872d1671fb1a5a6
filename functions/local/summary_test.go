package local

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// point is one reading for the reference: values, and time in ms.
type point struct {
	at     int64
	values []float64
}

// reference computes the windows as documented: value by value, window by window, without sharing. It returns the values of each window by its end,
// only of those closed by time, and the number of late values.
func reference(points []point, window, slide, late int64) (windows map[int64][]float64, tardy int) {
	windows = map[int64][]float64{}
	high := int64(math.MinInt64 / 2)
	for _, p := range points {
		last := p.at/slide*slide + window // end of the last window that holds the point
		if last <= high-late {
			tardy += len(p.values)
		} else {
			for end := p.at/slide*slide + slide; end <= last; end += slide {
				if end > high-late {
					windows[end] = append(windows[end], p.values...)
				}
			}
		}
		high = max(high, p.at)
	}
	for end := range windows {
		if end > high-late {
			delete(windows, end)
		}
	}
	return windows, tardy
}

func drawPoints(t *rapid.T) []point {
	n := rapid.IntRange(1, 60).Draw(t, "n")
	points, now := make([]point, n), int64(rapid.IntRange(0, 5000).Draw(t, "start"))
	for i := range points {
		now += int64(rapid.OneOf(rapid.IntRange(0, 400), rapid.IntRange(0, 5000)).Draw(t, "step"))
		at := now - int64(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 3000)).Draw(t, "delay"))
		points[i] = point{max(at, 0), rapid.SliceOfN(rapid.Float64Range(-1000, 1000), 1, 5).Draw(t, "values")}
	}
	return points
}

func TestWindowsEqualTheReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slide := int64(rapid.SampledFrom([]int{100, 500, 1000}).Draw(t, "slide"))
		window := slide * int64(rapid.IntRange(1, 6).Draw(t, "parts"))
		late := int64(rapid.IntRange(0, 20).Draw(t, "late")) * 100
		late = min(late, 10*window)
		points := drawPoints(t)
		want, tardy := reference(points, window, slide, late)

		bus := &recorder{}
		w := still(t, class(fmt.Sprintf("summary window=%dms slide=%dms late=%dms percentiles=50,90", window, slide, late)), bus)
		strays := 0
		for _, p := range points {
			before := w.p.counts.late.Load()
			require.NoError(t, w.process(arrayTask("d", "x", time.Duration(p.at)*time.Millisecond, p.values...)))
			if strays++; w.p.counts.late.Load() == before {
				strays = 0
			}
			if strays == maxStray-1 {
				t.Skip("taken for a clock that was set back")
			}
		}
		require.EqualValues(t, tardy, w.p.counts.late.Load())
		require.Len(t, bus.results, len(want))
		previous := int64(0)
		for _, r := range bus.results {
			require.Greater(t, r.Event.Origin, previous, "windows come in order")
			previous = r.Event.Origin
			compare(t, r, want[(r.Event.Origin-epoch)/int64(time.Millisecond)])
		}
	})
}

func compare(t require.TestingT, r Result, values []float64) {
	require.NotEmpty(t, values)
	slices.Sort(values)
	n, mean, square, variance := float64(len(values)), 0.0, 0.0, 0.0
	for _, v := range values {
		mean += v / n
		square += v * v / n
	}
	for _, v := range values {
		variance += (v - mean) * (v - mean) / n
	}
	peak := max(math.Abs(values[0]), math.Abs(values[len(values)-1]))
	require.Equal(t, fmt.Sprint(len(values)), value(r, "x_count"))
	require.Equal(t, decimal(values[0]), value(r, "x_min"))
	require.Equal(t, decimal(values[len(values)-1]), value(r, "x_max"))
	require.Equal(t, decimal(nearest(values, 50)), value(r, "x_p50"))
	require.Equal(t, decimal(nearest(values, 90)), value(r, "x_p90"))
	require.InDelta(t, mean, float(t, r, "x_mean"), 1e-3)
	require.InDelta(t, math.Sqrt(variance), float(t, r, "x_stddev"), 1e-3)
	require.InDelta(t, math.Sqrt(square), float(t, r, "x_rms"), 1e-3)
	if square > 1e-6 {
		require.InEpsilon(t, peak/math.Sqrt(square), float(t, r, "x_crest"), 1e-5)
	}
}

func TestASilentDeviceClosesItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{}
		p := start(t, DefaultConfig(), class("summary window=10s late=1s"), bus)
		// The device's clock is off by a day: only the distance counts.
		feed(p, scalar("d", "x", 2*time.Second, 1), scalar("d", "x", 4*time.Second, 3))
		time.Sleep(6900 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, bus.all(), "10 s of the device's time plus 1 s are over after 7 s")
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		require.Len(t, bus.all(), 1)
		r := bus.all()[0]
		require.Equal(t, "silence", r.Event.Tags["closed"])
		require.Equal(t, epoch+10e9, r.Event.Origin)
		require.InDelta(t, 2, float(t, r, "x_mean"), 1e-9)
		feed(p, scalar("d", "x", 5*time.Second, 9))
		require.EqualValues(t, 1, p.Counts().Late)
		require.NoError(t, p.Close(t.Context()))
		require.Len(t, bus.all(), 1, "nothing is published twice")
	})
}

// The device's clock may also be ahead of the node's, or stand still: a window closes when the device's time has passed its end and late.
func TestASilentDeviceClosesItsWindowByItsOwnClock(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, -5 * time.Second, 0, 5 * time.Second, 50 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			bus := &recorder{}
			p := start(t, DefaultConfig(), class("summary window=10s late=1s"), bus)
			one := scalar("d", "x", 0, 1)
			at := time.Now().Truncate(10 * time.Second).Add(ahead).Truncate(10 * time.Second).Add(3 * time.Second)
			one.Received, one.Origin = time.Now().UnixNano(), at.UnixNano()
			one.Readings[0].Origin = one.Origin
			feed(p, one)
			time.Sleep(7900 * time.Millisecond)
			synctest.Wait()
			require.Empty(t, bus.all(), "%v ahead", ahead)
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			require.Len(t, bus.all(), 1, "%v ahead", ahead)
			require.NoError(t, p.Close(t.Context()))
		})
	}
}

func TestASlidingWindowRunsOutAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := &recorder{}
		p := start(t, DefaultConfig(), class("summary window=30s slide=10s late=0s"), bus)
		feed(p, scalar("d", "x", time.Second, 1))
		time.Sleep(time.Hour / 2)
		synctest.Wait()
		require.Len(t, bus.all(), 3, "the value is part of three windows, and then of none")
		require.NoError(t, p.Close(t.Context()))
	})
}

func TestAClockSetBackBeginsAnew(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary window=10s late=0s"), bus)
	require.NoError(t, w.process(scalar("d", "x", time.Hour, 1)))
	for i := range 20 {
		require.NoError(t, w.process(scalar("d", "x", time.Duration(i)*time.Second, 2)))
	}
	require.EqualValues(t, maxStray-1, w.p.counts.late.Load())
	require.Equal(t, "clock", bus.results[0].Event.Tags["closed"])
	require.Equal(t, epoch+10e9, bus.results[1].Event.Origin)
	require.Equal(t, fmt.Sprint(10-(maxStray-1)), value(bus.results[1], "x_count"))
}

func TestAClockFarAheadIsNotBelieved(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary window=10s late=0s"), bus)
	wrong := scalar("d", "x", time.Second, 1)
	wrong.Readings[0].Origin += int64(24 * time.Hour)
	require.NoError(t, w.process(wrong))
	require.NoError(t, w.process(scalar("d", "x", 2*time.Second, 3)))
	require.NoError(t, w.process(scalar("d", "x", 11*time.Second, 5)))
	require.EqualValues(t, 1, w.p.counts.ahead.Load())
	require.Zero(t, w.p.counts.late.Load())
	require.Equal(t, "2", value(bus.results[0], "x_count"))
}

func TestASampledWindowSaysSo(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary window=10s late=0s samples=16 name=fast percentiles=99.9"), bus)
	for i := range 100 {
		require.NoError(t, w.process(scalar("d", "x", time.Duration(i), float64(i))))
	}
	w.finish()
	r := bus.results[0]
	require.Equal(t, "16 of 100", r.Event.Tags["sampled"])
	require.Equal(t, "stop", r.Event.Tags["closed"])
	require.Equal(t, "100", value(r, "x_fast_count"))
	require.NotEmpty(t, value(r, "x_fast_p99_9"))
	require.Equal(t, "x_fast", r.Source)
	accepted(t, r)
}

func TestMemoryOfWindowsComesBack(t *testing.T) {
	w := still(t, class("summary window=1s slide=100ms late=0s"), &recorder{})
	free := w.budget.free
	for i := range 2000 {
		require.NoError(t, w.process(arrayTask("d", fmt.Sprint("x", i%7), time.Duration(i)*time.Millisecond, make([]float64, 300)...)))
	}
	require.Less(t, w.budget.free, free)
	w.finish()
	require.Equal(t, free, w.budget.free)
}

func TestTheSizeOfABinaryCountsOnce(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("deadband"), bus)
	whole := taskOf("cam", 0, task.Reading{Resource: "Image", Type: task.Blob, Value: []byte("aGVsbG8=")})
	require.NoError(t, w.process(whole))
	frame := taskOf("cam", time.Second)
	frame.Of, frame.Readings = 3, nil
	frame.Holes = []task.Hole{{Resource: "Image", Length: 300_000, Encoding: task.Binary}}
	require.NoError(t, w.process(frame))
	piece := taskOf("cam", time.Second, task.Reading{Resource: "Image", Type: task.Blob, Value: make([]byte, 99), Encoding: task.Binary})
	piece.Chunk, piece.Of = 1, 3
	require.NoError(t, w.process(piece))
	require.Len(t, bus.results, 2)
	require.EqualValues(t, 2, w.p.counts.values.Load())
	require.Equal(t, "5", value(bus.results[0], "Image_deadband"))
	require.Equal(t, "300000", value(bus.results[1], "Image_deadband"))
	accepted(t, bus.results[1])
}

// The size of a binary is a value for every operator, whether it is in a reading or was cut out of a frame.
func TestSizesAreSummedUp(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary window=10s percentiles=100"), bus)
	require.NoError(t, w.process(taskOf("cam", 0, task.Reading{Resource: "Image", Type: task.Blob, Value: []byte("aGVsbG8=")})))
	for i, size := range []int{300, 100} {
		frame := taskOf("cam", time.Duration(i)*time.Second)
		frame.Of, frame.Holes = 3, []task.Hole{{Resource: "Image", Length: size, Encoding: task.Binary}}
		require.NoError(t, w.process(frame))
	}
	for text, encoding := range map[string]task.Encoding{"\x01\x02\x03\x04": task.CBOR, "\x01\x02\x03": task.Binary} {
		require.NoError(t, w.process(taskOf("raw", 0, task.Reading{Resource: "Raw", Type: task.Blob, Value: []byte(text), Encoding: encoding})))
	}
	w.finish()
	require.InDelta(t, 3.5, float(t, bus.results[1], "Raw_mean"), 0, "bytes that are not base64")
	for name, want := range map[string]string{"count": "3", "min": "5", "max": "300", "mean": "135", "p100": "300"} {
		require.Equal(t, want, value(bus.results[0], "Image_"+name), name)
	}
	require.Equal(t, "bytes", bus.results[0].Event.Readings[1].Units)
	require.Equal(t, "bytes", bus.results[1].Event.Readings[1].Units)
}

// Elements that are not numbers are left out and counted: in the window's results over all its parts, and as a tag of immediate results.
func TestMissingElementsAreCounted(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary window=3s slide=1s late=0s; deadtime time=1ms"), bus)
	for i, text := range []string{"[1, NaN, 3]", "[2]", "[NaN, 4, Inf]"} {
		require.NoError(t, w.process(taskOf("d", time.Duration(i)*time.Second, task.Reading{Resource: "x", Type: task.Float64Array, Value: []byte(text)})))
	}
	w.finish()
	var windows []string
	var tags []any
	for _, r := range bus.results {
		if r.Operator == "summary" {
			windows = append(windows, value(r, "x_count")+"-"+value(r, "x_missing"))
		} else {
			tags = append(tags, r.Event.Tags["missing"])
		}
	}
	require.Equal(t, []string{"2-1", "3-1", "4-3"}, windows[:3])
	require.Equal(t, []any{"1", nil, "2"}, tags)
	require.EqualValues(t, 3, w.p.Counts().Skipped[skipNotFinite])
}

// Consecutive readings that are too old mean that a clock was set back. The chunks of one array are one reading.
func TestChunksAreOneReadingOfAClockSetBack(t *testing.T) {
	for operators, count := range map[string]func(c Counts) int64{
		"summary window=10s late=0s": func(c Counts) int64 { return c.Late }, "rate": func(c Counts) int64 { return c.Stale },
	} {
		bus := &recorder{}
		w := still(t, class(operators), bus)
		require.NoError(t, w.process(scalar("d", "x", time.Hour, 1)))
		for i := range 3 * maxStray {
			chunk := arrayTask("d", "x", time.Minute, float64(i))
			chunk.Chunk, chunk.Of = i+1, 3*maxStray
			require.NoError(t, w.process(chunk))
		}
		require.EqualValues(t, 3*maxStray, count(w.p.Counts()), operators)
		for i := range maxStray + 2 {
			require.NoError(t, w.process(scalar("d", "x", time.Duration(i)*time.Second, 1)))
		}
		require.LessOrEqual(t, count(w.p.Counts()), int64(4*maxStray), "%s: it continues with the new time", operators)
	}
}

// The same values give the same sample, whatever their type.
func TestASampleDependsOnItsValuesOnly(t *testing.T) {
	quantiles := func(typ task.ValueType) string {
		bus := &recorder{}
		w := still(t, class("summary window=1s late=0s samples=16 percentiles=10,50,90"), bus)
		for i := range 300 {
			at := time.Duration(i) * 10 * time.Millisecond
			require.NoError(t, w.process(taskOf("d", at, task.Reading{Resource: "x", Type: typ, Value: fmt.Append(nil, i*i%1009)})))
		}
		w.finish()
		text := ""
		for _, r := range bus.results {
			text += fmt.Sprint(value(r, "x_p10"), " ", value(r, "x_p50"), " ", value(r, "x_p90"), "; ")
		}
		return text
	}
	want := quantiles(task.Float64)
	require.Equal(t, want, quantiles(task.Int32))
	require.Equal(t, "49 512 961; 269 663 882; 70 508 960; ", want)
}

// A window that is closed releases its memory immediately.
func TestAClosedWindowReleasesItsMemory(t *testing.T) {
	for _, typ := range []task.ValueType{task.Float64Array, task.Int32Array} {
		w := still(t, class("summary window=1s late=0s"), &recorder{})
		free := w.budget.free
		reading := func(at time.Duration, n int) {
			value := "[" + strings.Repeat("1, ", n-1) + "1]"
			require.NoError(t, w.process(taskOf("d", at, task.Reading{Resource: "x", Type: typ, Value: []byte(value)})))
		}
		reading(0, 200)
		require.Less(t, w.budget.free, free)
		reading(time.Second, 1)
		require.Equal(t, free, w.budget.free)
	}
}
