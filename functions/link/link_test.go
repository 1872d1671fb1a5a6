package link

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// message sends one message on a link with that rate in bytes a second and that round trip.
func message(l *Link, life uint64, size int, rate float64, trip time.Duration) {
	began := time.Now()
	alone := l.Start(life, size, size, began)
	time.Sleep(trip + time.Duration(float64(size)/rate*1e9))
	l.Ack(life, size, alone, began, time.Now())
}

func TestGoodputAndRoundTripAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		require.Zero(t, l.State())
		life := l.Open()
		for range 200 {
			message(l, life, 100, 1e6, 40*time.Millisecond)
			time.Sleep(time.Second)
		}
		require.InEpsilon(t, 100/0.0401, l.State().Goodput, 0.01, "small messages give a lower bound")
		require.True(t, l.State().AtLeast)
		require.Equal(t, 64<<10, l.Carries(time.Second, 64<<10), "and keep no batch small")
		require.InDelta(t, 0.040, l.State().RTT, 0.001)
		require.InDelta(t, 0.040, l.State().RTT95, 0.001)
		for range 20 {
			message(l, life, 100_000, 1e6, 40*time.Millisecond)
			time.Sleep(time.Second)
		}
		require.InDelta(t, 1e6, l.State().Goodput, 5e4, "idle time and round trip do not count")
		require.False(t, l.State().AtLeast)
		require.InDelta(t, 0.040, l.State().RTT, 0.001, "large messages do not measure it")
		for range 10 {
			message(l, life, 1000, 1e6, 400*time.Millisecond)
		}
		require.Greater(t, l.State().RTT95, 0.35)
		require.Equal(t, int(l.State().Goodput), l.Carries(time.Second, 1))
	})
}

func TestGoodputOfABusyLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New()
		life := l.Open()
		// Four messages are always in flight: the round trip is hidden, the bandwidth is not.
		var starts []time.Time
		for range 4 {
			starts = append(starts, time.Now())
			l.Start(life, 50_000, 50_000, time.Now())
		}
		time.Sleep(100 * time.Millisecond)
		for range 50 {
			time.Sleep(50 * time.Millisecond)
			l.Ack(life, 50_000, false, starts[0], time.Now())
			starts = append(starts[1:], time.Now())
			l.Start(life, 50_000, 50_000, time.Now())
		}
		require.InDelta(t, 1e6, l.State().Goodput, 5e4)
		require.EqualValues(t, 200_000, l.State().InflightBytes)
		l.Close()
		require.False(t, l.State().Up)
		require.Zero(t, l.State().InflightBytes)
		l.Ack(life, 50_000, false, starts[0], time.Now())
		require.Zero(t, l.State().InflightBytes, "a late answer of an old connection is not measured")
		require.InDelta(t, 1e6, l.State().Goodput, 5e4, "what was known is kept")
	})
}

// Messages that overlap by no more than a round trip leave the link idle between them, which says nothing about its rate.
func TestMessagesThatOverlapByARoundTrip(t *testing.T) {
	const rate, trip = 1e6, 40 * time.Millisecond
	seconds := func(bytes int) time.Duration { return time.Duration(float64(bytes) / rate * 1e9) }
	for _, c := range []struct {
		sizes []int
		every time.Duration
	}{
		{[]int{10_000}, 30 * time.Millisecond},
		{[]int{20_000, 300}, 25 * time.Millisecond},
		{[]int{30_000, 5_000, 5_000}, 20 * time.Millisecond},
		{[]int{10_000}, 11 * time.Millisecond},
	} {
		l, now := New(), time.Unix(1e9, 0)
		life := l.Open()
		for range 20 {
			l.Start(life, 100, 100, now)
			l.Ack(life, 100, true, now, now.Add(trip))
			now = now.Add(time.Second)
		}
		type message struct {
			bytes       int
			alone       bool
			began, acks time.Time
		}
		var under []message
		free := now
		for i := range 200 {
			for len(under) > 0 && !under[0].acks.After(now) {
				m := under[0]
				under = under[1:]
				l.Ack(life, m.bytes, m.alone, m.began, m.acks)
			}
			m := message{bytes: c.sizes[i%len(c.sizes)], began: now}
			m.alone = l.Start(life, m.bytes, m.bytes, now)
			if free.Before(now) {
				free = now
			}
			free = free.Add(seconds(m.bytes))
			m.acks = free.Add(trip)
			under = append(under, m)
			now = now.Add(c.every)
		}
		require.InEpsilon(t, rate, l.State().Goodput, 0.1, "%v every %v", c.sizes, c.every)
	}
}

func TestBatchesAreMeasuredInMessageBytes(t *testing.T) {
	l := New()
	require.Equal(t, 7, l.Carries(time.Second, 7), "nothing is known yet")
	life := l.Open()
	now := time.Now()
	l.Start(life, 10_000, 20_000, now) // a readable form doubles the bytes
	l.Ack(life, 20_000, true, now, now.Add(time.Second))
	require.InDelta(t, 10_000, l.Carries(time.Second, 7), 100)
	l.Stalled()
	require.InDelta(t, 5_000, l.Carries(time.Second, 7), 100)
	l.Backlog(3, 300, 0.5)
	require.EqualValues(t, 3, l.State().BacklogTasks)
}

// The time allowed for an acknowledgement follows from the measurements.
func TestALinkIsLateByItsOwnMeasure(t *testing.T) {
	l := New()
	require.Equal(t, unmeasuredTakes, l.Takes(1000), "nothing is known yet")
	life := l.Open()
	now := time.Now()
	l.Start(life, 100_000, 100_000, now)
	l.Ack(life, 100_000, true, now, now.Add(time.Second))
	require.InDelta(t, 2, (l.Takes(100_000) - usualDelay).Seconds(), 0.01)
	l.RoundTrip(time.Second, now)
	require.InDelta(t, 6, (l.Takes(100_000) - usualDelay).Seconds(), 0.01)
}

// A link that becomes slow shows immediately, and a burst of acknowledgements after a wait says nothing about speed.
func TestGoodputFollowsTheLink(t *testing.T) {
	l := New()
	life, now := l.Open(), time.Now()
	send := func(n int) {
		for range n {
			l.Start(life, 250_000, 250_000, now)
		}
	}
	ack := func(after time.Duration) {
		now = now.Add(after)
		l.Ack(life, 250_000, false, now, now)
	}
	for range 20 {
		send(1)
		ack(time.Millisecond)
	}
	require.Greater(t, l.State().Goodput, 100e6)
	send(12)
	ack(time.Second)
	require.Less(t, l.State().Goodput, 5e6)
	ack(time.Second)
	require.Less(t, l.State().Goodput, 1e6)
	ack(8 * time.Second)
	for range 9 {
		ack(time.Microsecond)
	}
	require.InDelta(t, 2.5e6/8, l.State().Goodput, 0.2e6, "ten batches in eight seconds")
}

// Quantiles show dips that the smoothed goodput has forgotten, and follow a link that has changed.
func TestQuantilesOfGoodput(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	send := func(messages int, rate float64) {
		for range messages {
			l.Start(life, 50_000, 50_000, now)
			now = now.Add(time.Duration(50_000 / rate * 1e9))
			l.Ack(life, 50_000, false, now, now)
		}
	}
	require.Zero(t, l.State().Goodput10)
	send(1, 1e6)
	require.Equal(t, l.State().Goodput, l.State().Goodput10, "the first stretch is not over")
	require.Equal(t, l.State().Goodput, l.State().Goodput50)
	for range 10 { // 5 s, of which 1 s at a tenth
		send(80, 1e6)
		send(2, 1e5)
	}
	send(20, 1e6)
	require.InEpsilon(t, 1e6, l.State().Goodput, 0.5)
	require.InEpsilon(t, 1e5, l.State().Goodput10, 0.01, "a fifth of the time is so slow")
	require.InEpsilon(t, 1e6, l.State().Goodput50, 0.01)
	send(30*60, 30*50_000)
	require.InEpsilon(t, 1.5e6, l.State().Goodput10, 0.01, "the latest minute alone counts")
	send(1, 1000)
	require.InEpsilon(t, 1e3, l.State().Goodput10, 0.05, "a stall of 50 s is many stretches")
}

// A round trip measured behind a queue does not lengthen the queue: it neither puts more on the link, nor makes the link look faster.
func TestQueueingIsNoDistance(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	l.RoundTrip(20*time.Millisecond, now)
	for range baseTrips - 1 {
		l.RoundTrip(900*time.Millisecond, now)
	}
	require.Equal(t, 20*time.Millisecond, l.BaseTrip())
	require.Greater(t, l.State().RTT, 0.5, "what is shown is what tasks meet")
	for range 20 { // 100 kB/s, each message on an idle link
		alone := l.Start(life, 50_000, 50_000, now)
		started := now
		now = now.Add(520 * time.Millisecond)
		l.Ack(life, 50_000, alone, started, now)
	}
	require.InEpsilon(t, 100e3, l.State().Goodput, 0.05)
	l.RoundTrip(900*time.Millisecond, now)
	require.Equal(t, 900*time.Millisecond, l.BaseTrip(), "the way is longer by now")
}

// The room for a message is the size of recent ones plus a quarter, not that of incompressible records.
func TestRoomForAMessageFollowsItsGrowth(t *testing.T) {
	l := New()
	require.Equal(t, 150_000+1024, l.Message(100_000), "nothing is measured")
	life := l.Open()
	l.Start(life, 100_000, 20_000, time.Now())
	require.Equal(t, 25_000+1024, l.Message(100_000))
}

// A known goodput counts like a measurement, and a copy is independent.
func TestALinkThatIsKnownAndItsCopy(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	l.Known(100e3, 0.05, now)
	require.InDelta(t, 100e3, l.State().Goodput, 1e-6)
	require.InDelta(t, 0.05, l.State().RTT, 1e-9)
	l.Start(life, 50_000, 50_000, now)
	own := l.Copy()
	own.Ack(life, 50_000, true, now, now.Add(time.Second))
	require.Zero(t, own.State().InflightBytes)
	require.EqualValues(t, 50_000, l.State().InflightBytes)
	require.EqualValues(t, 50_000, l.Ahead(now).InflightBytes)
	l.Ack(life, 50_000, true, now, now.Add(time.Second))
	require.Zero(t, l.State().InflightBytes)
}

// However fast acknowledgements arrive, by a clock that stands still meanwhile, the goodput is a number.
func TestGoodputIsANumberOnAClockThatStands(t *testing.T) {
	for _, size := range []int{1, smallMessage, foldBytes} {
		l, now := New(), time.Unix(1000, 0)
		life := l.Open()
		for range 3 {
			l.Ack(life, size, l.Start(life, 1, size, now), now, now)
			seen := l.State()
			for _, rate := range []float64{seen.Goodput, seen.Goodput10, seen.Goodput50} {
				require.False(t, math.IsInf(rate, 0) || math.IsNaN(rate), "%d bytes: %v", size, seen)
			}
			require.Positive(t, seen.Goodput)
		}
	}
}

// A message whose transmission takes less than the variation of round trips gives only a lower bound of the goodput: subtracting a round trip leaves
// noise. Once the transmission can be told from it, or shows a faster link than known, it counts.
func TestGoodputIsNotTheNoiseOfTheRoundTrip(t *testing.T) {
	l := New()
	life := l.Open()
	now := time.Now()
	send := func(message int, took time.Duration) {
		alone := l.Start(life, 10, message, now)
		l.Ack(life, message, alone, now, now.Add(took))
		now = now.Add(took + time.Second)
	}
	for i := range 16 {
		send(100, time.Duration(200+10*i)*time.Microsecond)
	}
	for _, took := range []time.Duration{201 * time.Microsecond, 330 * time.Microsecond} {
		send(5000, took)
		require.True(t, l.State().AtLeast)
		require.LessOrEqual(t, l.State().Goodput, 5000/took.Seconds())
	}
	send(100_000, 10_200*time.Microsecond) // 10 ms of these in flight
	require.False(t, l.State().AtLeast)
	require.InEpsilon(t, 10e6, l.State().Goodput, 0.01)
	send(5000, 990*time.Microsecond)
	require.InEpsilon(t, 10e6, l.State().Goodput, 0.05)
	for range 200 {
		send(20_000, 330*time.Microsecond)
	}
	require.Greater(t, l.State().Goodput, 50e6, "a link that has become faster is known as such")
}

// After a stall, a link measured only by small messages is not taken for as fast as before by the next small one.
func TestAStallOutlastsTheNextSmallMessage(t *testing.T) {
	l := New()
	life := l.Open()
	now := time.Now()
	send := func() {
		alone := l.Start(life, 100, 100, now)
		l.Ack(life, 100, alone, now, now.Add(time.Millisecond))
	}
	for range 500 {
		send()
	}
	before := l.State().Goodput
	l.Stalled()
	require.InEpsilon(t, before/2, l.State().Goodput, 1e-9)
	send()
	require.True(t, l.State().AtLeast)
	require.Less(t, l.State().Goodput, 0.6*before)
}

// A connection is up from Open to Close, and reports under the number of an earlier one change nothing.
func TestAnEarlierConnectionIsNotMeasured(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	require.False(t, l.State().Up)
	seen := map[uint64]bool{}
	for range 3 {
		life := l.Open()
		require.True(t, l.State().Up)
		require.False(t, seen[life])
		seen[life] = true
		require.True(t, l.Start(life, 1, 100_000, now))
		for old := range seen {
			if old != life {
				require.False(t, l.Start(old, 1, 5, now))
				l.Ack(old, 100_000, true, now, now.Add(time.Hour))
			}
		}
		require.EqualValues(t, 100_000, l.State().InflightBytes)
		require.Zero(t, l.State().Goodput)
		l.Close()
		require.False(t, l.State().Up)
		require.Zero(t, l.State().InflightBytes)
	}
}

// A measurement of goodput ends with foldBytes, or with smallMessage once the link is idle or has been busy for foldBusy.
func TestWhenAMeasurementEnds(t *testing.T) {
	for _, c := range []struct {
		bytes int
		busy  time.Duration
		more  bool // a message is still in flight
		ends  bool
	}{
		{foldBytes, time.Millisecond, true, true},
		{foldBytes - 1, time.Millisecond, true, false},
		{smallMessage, foldBusy, true, true},
		{smallMessage, foldBusy - 1, true, false},
		{smallMessage - 1, foldBusy, true, false},
		{smallMessage, time.Millisecond, false, true},
	} {
		l, now := New(), time.Unix(1000, 0)
		life := l.Open()
		alone := l.Start(life, 1, c.bytes, now)
		if c.more {
			l.Start(life, 1, 1, now)
		}
		l.Ack(life, c.bytes, alone, now, now.Add(c.busy))
		require.Equal(t, c.ends, l.State().Goodput > 0, "%+v", c)
		require.False(t, l.State().AtLeast, "%+v", c)
	}
}

// A stall also halves the remembered sums: the next measurement, at the remaining rate, changes nothing.
func TestAStallOutlastsTheNextMeasurement(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	l.Known(1e6, 0, now)
	l.Stalled()
	require.InDelta(t, 5e5, l.State().Goodput, 1e-6)
	alone := l.Start(life, 1, 500_000, now)
	l.Ack(life, 500_000, alone, now, now.Add(time.Second))
	require.InDelta(t, 5e5, l.State().Goodput, 1)
}

// Small messages measured before any large one decay with busy time, as large ones do.
func TestSmallMeasurementsFade(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	for _, took := range []time.Duration{time.Second, 3 * time.Second} {
		alone := l.Start(life, 1, 1000, now)
		l.Ack(life, 1000, alone, now, now.Add(took))
		now = now.Add(took)
	}
	kept := math.Exp(-3)
	require.InDelta(t, (1000*kept+1000)/(kept+3), l.State().Goodput, 1e-9)
}

// A link with compression is late by the records' own size: a message may turn out larger than recent ones.
func TestGrowthBelowOneMakesNoLinkLateSooner(t *testing.T) {
	for message, want := range map[int]time.Duration{1000: time.Second, 50_000: time.Second, 100_000: 2 * time.Second} {
		l, now := New(), time.Unix(1000, 0)
		life := l.Open()
		l.Known(1e5, 0, now)
		l.Start(life, 50_000, message, now)
		require.Equal(t, usualDelay+want, l.Takes(50_000), "a message of %d", message)
	}
}
