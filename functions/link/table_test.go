package link

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A new connection measures as if nothing had been in flight on the previous one: the measurements are kept, and no more.
func TestANewConnectionBeginsWithNothingUnderWay(t *testing.T) {
	now := time.Unix(1000, 0)
	links := [2]*Link{New(), New()}
	for i, l := range links {
		life := l.Open()
		l.RoundTrip(40*time.Millisecond, now)
		l.Start(life, 100_000, 100_000, now)
		l.Ack(life, 100_000, true, now, now.Add(time.Second))
		if i == 0 { // this one breaks in the middle of a measurement
			l.Start(life, 9_000, 9_000, now.Add(2*time.Second))
			l.Start(life, 70_000, 70_000, now.Add(2*time.Second))
			l.Ack(life, 3_000, false, now.Add(2*time.Second), now.Add(2100*time.Millisecond))
		} else {
			l.Start(life, 9_000, 9_000, now.Add(2*time.Second)) // their growth is known
			l.Start(life, 70_000, 70_000, now.Add(2*time.Second))
		}
		l.Close()
		require.Zero(t, l.Ahead(now.Add(3*time.Second)).InflightBytes)
	}
	at := now.Add(10 * time.Second)
	lives := [2]uint64{links[0].Open(), links[1].Open()}
	for range 3 {
		for _, size := range []int{70_000, 500, 9_000} {
			for i, l := range links {
				require.True(t, l.Start(lives[i], size, size, at), "nothing else is on its way")
				require.False(t, l.Start(lives[i], size, size, at))
			}
			for range 2 {
				require.Equal(t, links[1].Ahead(at.Add(50*time.Millisecond)), links[0].Ahead(at.Add(50*time.Millisecond)))
				at = at.Add(120 * time.Millisecond)
				for i, l := range links {
					l.Ack(lives[i], size, false, at.Add(-240*time.Millisecond), at)
				}
				require.Equal(t, links[1].State(), links[0].State())
			}
		}
	}
}

// A message that travelled alone measures the bandwidth if it took longer than the variation of round trips: twice the difference between the mean
// and the shortest, and at least a quarter of the shortest. Below that it is a bound.
func TestWhatMeasuresTheBandwidth(t *testing.T) {
	const trip = 40 * time.Millisecond
	for _, row := range []struct {
		size   int
		jitter time.Duration // of the latest round trip
		took   time.Duration // beyond the shortest round trip
		bound  bool
	}{
		{smallMessage - 1, 0, time.Second, true}, // too small to say
		{smallMessage, 0, time.Second, false},
		{8 << 10, 0, 9999 * time.Microsecond, true},
		{8 << 10, 0, 10001 * time.Microsecond, false},
		{8 << 10, 80 * time.Millisecond, 19 * time.Millisecond, true}, // the mean is 10 ms above the shortest
		{8 << 10, 80 * time.Millisecond, 21 * time.Millisecond, false},
	} {
		l, now := New(), time.Unix(1000, 0)
		life := l.Open()
		for range 16 {
			l.RoundTrip(trip, now)
		}
		if row.jitter > 0 {
			l.RoundTrip(trip+row.jitter, now)
		}
		l.Start(life, row.size, row.size, now)
		l.Ack(life, row.size, true, now, now.Add(trip+row.took))
		require.Equal(t, row.bound, l.State().AtLeast, "%+v: %+v", row, l.State())
		if !row.bound {
			require.InEpsilon(t, float64(row.size)/row.took.Seconds(), l.State().Goodput, 0.001)
		}
		require.Equal(t, [2]any{int64(0), time.Duration(0)}, [2]any{l.bytes, l.busy}, "the next measurement begins with nothing")
	}
}

// The quantiles are those of the latest stretches, the lower one if two are equally near.
func TestTheQuantilesOfTheRate(t *testing.T) {
	var r rates
	tenth, half := r.quantiles(7)
	require.Equal(t, [2]float64{7, 7}, [2]float64{tenth, half}, "before the first")
	for n := 1; n <= 25; n++ {
		r.add(float64(100-n)*rateStretch, rateStretch) // each slower than the one before
		tenth, half = r.quantiles(7)
		slowest := float64(100 - n)
		require.InDelta(t, slowest+float64((n-1)/10), tenth, 1e-9, n)
		require.InDelta(t, slowest+float64((n-1)/2), half, 1e-9, n)
	}
	r = rates{}
	r.add(1, rateStretch*0.99)
	require.Zero(t, r.n, "a stretch is not over")
	r.add(1, rateStretch*2.01)
	require.Equal(t, 3, r.n, "and then three are, as slow as each other")
	tenth, half = r.quantiles(0)
	require.InDelta(t, 2/(3*rateStretch), tenth, 1e-9)
	require.InDelta(t, tenth, half, 1e-9)
	r.add(1e6, rateStretch*10*rateStretches)
	require.Equal(t, rateStretches, r.n)
	tenth, _ = r.quantiles(0)
	require.InDelta(t, 1e6/(rateStretch*10*rateStretches), tenth, 1e-9)
}

// A message of records, even the smallest, shows their growth; one without records, such as a probe, does not.
func TestWhatSaysHowMuchRecordsGrow(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	l.Start(life, 0, 50, now)
	require.Zero(t, l.State().Growth)
	l.Start(life, 1, 3, now)
	require.InDelta(t, 3, l.State().Growth, 1e-9)
	l.Start(life, 1, 1, now)
	require.InDelta(t, 3-2*0.1/smallMessage, l.State().Growth, 1e-9, "by its size")
	l.Start(life, 10*smallMessage, 10*smallMessage, now)
	require.InDelta(t, 3-2*0.1, l.State().Growth, 1e-3, "and a tenth at most")
}
