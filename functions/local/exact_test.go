package local

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// summed returns the summary of a resource with readings of a type.
func summed(t require.TestingT, typ task.ValueType, texts ...string) Result {
	bus := &recorder{}
	w := still(t, class("summary"), bus)
	for i, text := range texts {
		require.NoError(t, w.process(taskOf("d", time.Duration(i), task.Reading{Resource: "x", Type: typ, Value: []byte(text)})))
	}
	w.finish()
	require.Len(t, bus.results, 1, "%v", texts)
	accepted(t, bus.results[0])
	return bus.results[0]
}

func TestResultsHaveAllDigits(t *testing.T) {
	for _, row := range []struct {
		why             string
		typ             task.ValueType
		texts           []string
		min, max, mean  string
		stddev, p50     string
		minType, p50Typ string
	}{
		{"a meter", task.Uint32, []string{"1234567890", "1234567891", "1234567895"}, "1234567890", "1234567895", "1234567892", "2.160246899469287", "1234567891", "Uint64", "Uint64"},
		{"a meter in floats", task.Float64, []string{"1234567890", "1234567891", "1234567895"}, "1234567890", "1234567895", "1234567892", "2.160246899469287", "1234567891", "Float64", "Float64"},
		{"beyond 53 bits", task.Int64, []string{"9007199254740993", "9007199254740995"}, "9007199254740993", "9007199254740995", "9007199254740994", "1", "9007199254740993", "Int64", "Int64"},
		{"below", task.Int64, []string{"-9007199254740993", "-9007199254740995"}, "-9007199254740995", "-9007199254740993", "-9007199254740994", "1", "-9007199254740995", "Int64", "Int64"},
		{"the greatest", task.Uint64, []string{"18446744073709551615", "18446744073709551613"}, "18446744073709551613", "18446744073709551615", "18446744073709552000", "1", "18446744073709551613", "Uint64", "Uint64"},
		{"the least", task.Int64, []string{"-9223372036854775808", "9223372036854775807"}, "-9223372036854775808", "9223372036854775807", "-0.5", "9223372036854775807.5", "-9223372036854775808", "Int64", "Int64"},
		{"sixteen digits", task.Float64, []string{"0.1234567890123456"}, "0.1234567890123456", "0.1234567890123456", "0.1234567890123456", "0", "0.1234567890123456", "Float64", "Float64"},
		{"an array", task.Int64Array, []string{"[9007199254740993, 9007199254740995]"}, "9007199254740993", "9007199254740995", "9007199254740994", "1", "9007199254740993", "Int64", "Int64"},
	} {
		t.Run(row.why, func(t *testing.T) {
			r := summed(t, row.typ, row.texts...)
			require.Equal(t, [3]string{row.min, row.max, row.p50}, [3]string{value(r, "x_min"), value(r, "x_max"), value(r, "x_p50")})
			for name, want := range map[string]string{"x_mean": row.mean, "x_stddev": row.stddev} {
				v, err := strconv.ParseFloat(want, 64)
				require.NoError(t, err)
				require.Equal(t, v, float(t, r, name), name) //nolint:testifylint // to the last digit
			}
			for _, reading := range r.Event.Readings {
				switch reading.ResourceName {
				case "x_min", "x_max":
					require.Equal(t, row.minType, reading.ValueType)
				case "x_p50":
					require.Equal(t, row.p50Typ, reading.ValueType)
				}
			}
		})
	}
}

// The minimum, maximum and mean of any integers are those of exact arithmetic.
func TestIntegersAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		typ := rapid.SampledFrom([]task.ValueType{task.Int64, task.Uint64}).Draw(t, "type")
		var all []*big.Int
		var texts []string
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			v := new(big.Int)
			if typ == task.Int64 {
				v.SetInt64(rapid.Int64().Draw(t, "value"))
			} else {
				v.SetUint64(rapid.Uint64().Draw(t, "value"))
			}
			all, texts = append(all, v), append(texts, v.String())
		}
		r := summed(t, typ, texts...)
		sum := new(big.Int)
		for _, v := range all {
			sum.Add(sum, v)
		}
		slices.SortFunc(all, (*big.Int).Cmp)
		require.Equal(t, all[0].String(), value(r, "x_min"))
		require.Equal(t, all[len(all)-1].String(), value(r, "x_max"))
		require.Equal(t, all[(50*len(all)+99)/100-1].String(), value(r, "x_p50"))
		mean, _ := new(big.Rat).SetFrac(sum, big.NewInt(int64(len(all)))).Float64()
		require.InDelta(t, mean, float(t, r, "x_mean"), math.Abs(mean)*0x1p-52)
	})
}

func TestExtremesKeepRMSAndCrest(t *testing.T) {
	for _, row := range []struct {
		values                   []float64
		mean, stddev, rms, crest float64
	}{
		{[]float64{1e308, 1e308, 1.7e308}, 1.2333333333333333e308, 3.2998316455372216e307, 1.2767145334803704e308, 1.3315427649795275},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, math.MaxFloat64, 0, math.MaxFloat64, 1},
		{[]float64{math.MaxFloat64, -math.MaxFloat64}, 0, math.MaxFloat64, math.MaxFloat64, 1},
		{[]float64{1e-200, 3e-200}, 2e-200, 1e-200, 2.23606797749979e-200, 1.3416407864998738},
		{[]float64{0, 1e-300}, 5e-301, 5e-301, 7.071067811865475e-301, 1.4142135623730951},
		{[]float64{5e-324, 5e-324}, 5e-324, 0, 5e-324, 1},
		{[]float64{1e-300, 1e300}, 5e299, 5e299, 7.071067811865475e299, 1.4142135623730951},
	} {
		for _, together := range []bool{true, false} {
			var texts []string
			typ := task.Float64
			for _, v := range row.values {
				texts = append(texts, strconv.FormatFloat(v, 'g', -1, 64))
			}
			if together {
				typ, texts = task.Float64Array, []string{"[" + strings.Join(texts, ",") + "]"}
			}
			r := summed(t, typ, texts...)
			for name, want := range map[string]float64{"x_mean": row.mean, "x_stddev": row.stddev, "x_rms": row.rms, "x_crest": row.crest} {
				require.InDelta(t, want, float(t, r, name), math.Abs(want)*1e-12, "%s of %v", name, row.values)
			}
		}
	}
}

func TestDeadbandTellsNeighboursApart(t *testing.T) {
	for _, row := range []struct {
		typ      task.ValueType
		notation string
		texts    []string
		passed   int
	}{
		{task.Int64, "deadband band=0", []string{"9007199254740992", "9007199254740993", "9007199254740993"}, 2},
		{task.Uint64, "deadband band=0", []string{"18446744073709551614", "18446744073709551615"}, 2},
		{task.Uint64, "deadband band=2", []string{"18446744073709551613", "18446744073709551615", "18446744073709551610"}, 2},
		{task.Float64, "deadband band=0", []string{"0.1234567890123456", "0.1234567890123457"}, 2},
		{task.Float64, "deadband band=1e300", []string{"1e308", "-1e308"}, 2},
		{task.Float64, "deadband percent=50", []string{"1e308", "0.6e308", "0.4e308"}, 2},
		{task.Float64, "deadband percent=1000", []string{"1e308", "-1.7e308"}, 1},
		{task.Int64, "deadband band=1e19", []string{"-9223372036854775808", "9223372036854775807"}, 2},
	} {
		bus := &recorder{}
		w := still(t, class(row.notation), bus)
		for i, text := range row.texts {
			require.NoError(t, w.process(taskOf("d", time.Duration(i), task.Reading{Resource: "x", Type: row.typ, Value: []byte(text)})))
		}
		require.Len(t, bus.results, row.passed, fmt.Sprint(row))
	}
}

func TestRangeKnowsIntegersByTheirLastDigit(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("range high=9007199254740992"), bus)
	for i, text := range []string{"9007199254740992", "9007199254740993"} {
		require.NoError(t, w.process(taskOf("d", time.Duration(i), task.Reading{Resource: "x", Type: task.Int64, Value: []byte(text)})))
	}
	require.Len(t, bus.results, 1)
	require.Equal(t, "9007199254740993", value(bus.results[0], "x_range_value"))

	w = still(t, class("range high=18446744073709551616"), bus)
	require.NoError(t, w.process(taskOf("d", 0, task.Reading{Resource: "x", Type: task.Uint64, Value: []byte("18446744073709551615")})))
	require.Len(t, bus.results, 1, "the greatest of its type is below 2⁶⁴")
}

// A resource whose type changes, after a change of its device profile, begins anew and mixes nothing.
func TestAChangeOfTypeBeginsAnew(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary"), bus)
	for i, typ := range []task.ValueType{task.Int32, task.Uint32, task.Float64} {
		require.NoError(t, w.process(taskOf("d", time.Duration(i), task.Reading{Resource: "x", Type: typ, Value: []byte("7")})))
	}
	w.finish()
	require.Len(t, bus.results, 3)
	for _, r := range bus.results {
		require.Equal(t, [3]string{"1", "7", "7"}, [3]string{value(r, "x_count"), value(r, "x_min"), value(r, "x_p50")})
	}
}

// Integers of a sliding window are exact over all of its parts.
func TestSlidingIntegersAreExact(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("summary window=3s slide=1s late=0s"), bus)
	for i, text := range []string{"9007199254740993", "9007199254740995", "9007199254740991", "9007199254740997"} {
		require.NoError(t, w.process(taskOf("d", time.Duration(i)*time.Second, task.Reading{Resource: "x", Type: task.Int64, Value: []byte(text)})))
	}
	w.finish()
	var got [][2]string
	for _, r := range bus.results {
		got = append(got, [2]string{value(r, "x_min"), value(r, "x_max")})
	}
	require.Equal(t, [][2]string{
		{"9007199254740993", "9007199254740993"},
		{"9007199254740993", "9007199254740995"},
		{"9007199254740991", "9007199254740995"},
		{"9007199254740991", "9007199254740997"},
	}, got[:4])
}

// The mean of integers of 64 bits is exact, even if each of them differs from the nearest float64.
func TestTheMeanOfWideIntegers(t *testing.T) {
	for text, mean := range map[string]string{
		"[9007199254740993, 9007199254740995]": "9007199254740994", "[-9007199254740993, -9007199254740995]": "-9007199254740994",
		"[9223372036854775807, 9223372036854775805]": "9223372036854776000", "[9007199254740993, -9007199254740992]": "0.5",
	} {
		bus := &recorder{}
		w := still(t, class("summary"), bus)
		require.NoError(t, w.process(taskOf("d", 0, task.Reading{Resource: "x", Type: task.Int64Array, Value: []byte(text)})))
		w.finish()
		require.Equal(t, mean, value(bus.results[0], "x_mean"), text)
	}
}
