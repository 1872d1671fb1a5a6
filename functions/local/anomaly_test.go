package local

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnAnomalySaysWhatIsNew(t *testing.T) {
	var values []float64
	var times []time.Duration
	for i := range 700 {
		v := float64(i % 10)
		if i >= 650 {
			v += 40
		}
		values, times = append(values, v), append(times, time.Duration(i+1)*time.Second)
	}
	bus := run(t, "anomaly", values, times)
	require.NotEmpty(t, bus.results)
	require.Less(t, len(bus.results), 10)
	first := bus.results[0]
	accepted(t, first)
	require.Equal(t, "event-651000000000", first.Event.Tags["originEventId"])
	require.Equal(t, "value high", value(first, "x_anomaly_what"))
	require.InDelta(t, 40, float(t, first, "x_anomaly_value"), 0)
	require.Greater(t, float(t, first, "x_anomaly"), 0.3)
}

// During its warm-up every value is new, and nothing is published.
func TestAnAnomalyNeedsItsWarmup(t *testing.T) {
	values, times := make([]float64, 100), make([]time.Duration, 100)
	for i := range values {
		values[i], times[i] = float64(i/70*9+i%2), time.Duration(i+1)*time.Second
	}
	require.Empty(t, run(t, "anomaly warmup=100", values, times).results)
	require.NotEmpty(t, run(t, "anomaly warmup=50", values, times).results)
}

// above is the lowest score that raises an alarm.
func TestAnAnomalyBeginsAtItsScore(t *testing.T) {
	values, times := make([]float64, 30), make([]time.Duration, 30)
	for i := range values {
		values[i], times[i] = float64(i/29*9+i%2), time.Duration(i+1)*time.Second
	}
	bus := run(t, "anomaly warmup=20", values, times)
	require.Len(t, bus.results, 1)
	score := float(t, bus.results[0], "x_anomaly")
	require.Len(t, run(t, fmt.Sprintf("anomaly warmup=20 above=%v", score), values, times).results, 1)
	require.Empty(t, run(t, fmt.Sprintf("anomaly warmup=20 above=%v", math.Nextafter(score, 1)), values, times).results)
}

func TestAnArrayGivesOneAnomaly(t *testing.T) {
	bus := &recorder{}
	w := still(t, class("anomaly warmup=100"), bus)
	for i := range 30 {
		require.NoError(t, w.process(arrayTask("d", "x", time.Duration(i)*time.Second, 0, 1, 0, 1)))
	}
	require.NoError(t, w.process(arrayTask("d", "x", time.Minute, 0, 50, 90, 1)))
	require.Len(t, bus.results, 1)
	require.InDelta(t, 50, float(t, bus.results[0], "x_anomaly_value"), 0)
}
