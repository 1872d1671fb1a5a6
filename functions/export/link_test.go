package export

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// message is one message on a link that carries rate bytes a second with the given round trip.
func message(l *link, life uint64, size int, rate float64, trip time.Duration) {
	began := time.Now()
	alone := l.start(life, size, size, began)
	time.Sleep(trip + time.Duration(float64(size)/rate*1e9))
	l.ack(life, size, alone, began, time.Now())
}

func TestGoodputAndRoundTripAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		require.Zero(t, l.load())
		life := l.open()
		for range 200 {
			message(l, life, 100, 1e6, 40*time.Millisecond)
			time.Sleep(time.Second)
		}
		require.InEpsilon(t, 100/0.0401, l.load().Goodput, 0.01, "small messages give a lower bound")
		require.True(t, l.load().AtLeast)
		require.Equal(t, 64<<10, l.carries(time.Second, 64<<10), "and keep no batch small")
		require.InDelta(t, 0.040, l.load().RTT, 0.001)
		require.InDelta(t, 0.040, l.load().RTT95, 0.001)
		for range 20 {
			message(l, life, 100_000, 1e6, 40*time.Millisecond)
			time.Sleep(time.Second)
		}
		require.InDelta(t, 1e6, l.load().Goodput, 5e4, "idle time and round trip do not count")
		require.False(t, l.load().AtLeast)
		require.InDelta(t, 0.040, l.load().RTT, 0.001, "large messages do not measure it")
		for range 10 {
			message(l, life, 1000, 1e6, 400*time.Millisecond)
		}
		require.Greater(t, l.load().RTT95, 0.35)
		require.Equal(t, int(l.load().Goodput), l.carries(time.Second, 1))
	})
}

func TestGoodputOfABusyLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLink()
		life := l.open()
		// Four messages are always on their way: the round trip is hidden, the bandwidth is not.
		var starts []time.Time
		for range 4 {
			starts = append(starts, time.Now())
			l.start(life, 50_000, 50_000, time.Now())
		}
		time.Sleep(100 * time.Millisecond)
		for range 50 {
			time.Sleep(50 * time.Millisecond)
			l.ack(life, 50_000, false, starts[0], time.Now())
			starts = append(starts[1:], time.Now())
			l.start(life, 50_000, 50_000, time.Now())
		}
		require.InDelta(t, 1e6, l.load().Goodput, 5e4)
		require.EqualValues(t, 200_000, l.load().InflightBytes)
		l.close()
		require.False(t, l.load().Up)
		require.Zero(t, l.load().InflightBytes)
		l.ack(life, 50_000, false, starts[0], time.Now())
		require.Zero(t, l.load().InflightBytes, "a late answer of an old connection is not measured")
		require.InDelta(t, 1e6, l.load().Goodput, 5e4, "what was known is kept")
	})
}

func TestBatchesAreMeasuredInMessageBytes(t *testing.T) {
	l := newLink()
	require.Equal(t, 7, l.carries(time.Second, 7), "nothing is known yet")
	life := l.open()
	now := time.Now()
	l.start(life, 10_000, 20_000, now) // a readable form doubles the bytes
	l.ack(life, 20_000, true, now, now.Add(time.Second))
	require.InDelta(t, 10_000, l.carries(time.Second, 7), 100)
	l.stalled()
	require.InDelta(t, 5_000, l.carries(time.Second, 7), 100)
	l.backlog(3, 300, 0.5)
	require.EqualValues(t, 3, l.load().BacklogTasks)
}

// What the link takes for an acknowledgement follows from what was measured, and so does when it counts as late.
func TestALinkIsLateByItsOwnMeasure(t *testing.T) {
	l := newLink()
	require.Equal(t, unmeasuredTakes, l.takes(1000), "nothing is known yet")
	life := l.open()
	now := time.Now()
	l.start(life, 100_000, 100_000, now)
	l.ack(life, 100_000, true, now, now.Add(time.Second))
	require.InDelta(t, 2, (l.takes(100_000) - lateness).Seconds(), 0.01)
	l.roundTrip(time.Second, now)
	require.InDelta(t, 6, (l.takes(100_000) - lateness).Seconds(), 0.01)

	w := &window{limits: limits{batches: 4, bytes: 1 << 20}}
	require.False(t, w.late(now, 0), "nothing is on its way")
	w.add(load(1, 10))
	w.publish(w.next(time.Now()), now)
	require.False(t, w.late(now.Add(time.Second), time.Second))
	require.True(t, w.late(now.Add(time.Second+1), time.Second))
	w.alive(now.Add(time.Second))
	require.False(t, w.late(now.Add(time.Second+1), time.Second))
}

// A link that becomes slow is known as such at once, and a burst of acknowledgements after a wait says nothing of speed.
func TestGoodputFollowsTheLink(t *testing.T) {
	l := newLink()
	life, now := l.open(), time.Now()
	send := func(n int) {
		for range n {
			l.start(life, 250_000, 250_000, now)
		}
	}
	ack := func(after time.Duration) {
		now = now.Add(after)
		l.ack(life, 250_000, false, now, now)
	}
	for range 20 {
		send(1)
		ack(time.Millisecond)
	}
	require.Greater(t, l.load().Goodput, 100e6)
	send(12)
	ack(time.Second)
	require.Less(t, l.load().Goodput, 5e6)
	ack(time.Second)
	require.Less(t, l.load().Goodput, 1e6)
	ack(8 * time.Second)
	for range 9 {
		ack(time.Microsecond)
	}
	require.InDelta(t, 2.5e6/8, l.load().Goodput, 0.2e6, "ten batches in eight seconds")
}

// Quantiles show dips that the smoothed goodput has forgotten, and follow a link that has changed.
func TestQuantilesOfGoodput(t *testing.T) {
	l, now := newLink(), time.Unix(1000, 0)
	life := l.open()
	send := func(messages int, rate float64) {
		for range messages {
			l.start(life, 50_000, 50_000, now)
			now = now.Add(time.Duration(50_000 / rate * 1e9))
			l.ack(life, 50_000, false, now, now)
		}
	}
	require.Zero(t, l.load().Goodput10)
	send(1, 1e6)
	require.Equal(t, l.load().Goodput, l.load().Goodput10, "the first stretch is not over")
	require.Equal(t, l.load().Goodput, l.load().Goodput50)
	for range 10 { // 5 s, of which 1 s at a tenth
		send(80, 1e6)
		send(2, 1e5)
	}
	send(20, 1e6)
	require.InEpsilon(t, 1e6, l.load().Goodput, 0.5)
	require.InEpsilon(t, 1e5, l.load().Goodput10, 0.01, "a fifth of the time is so slow")
	require.InEpsilon(t, 1e6, l.load().Goodput50, 0.01)
	send(30*60, 30*50_000)
	require.InEpsilon(t, 1.5e6, l.load().Goodput10, 0.01, "the latest minute alone counts")
	send(1, 1000)
	require.InEpsilon(t, 1e3, l.load().Goodput10, 0.05, "a stall of 50 s is many stretches")
}

// A round trip measured behind a queue does not make the queue longer: neither is more put on the link for it, nor does the link
// look faster.
func TestQueueingIsNoDistance(t *testing.T) {
	l, now := newLink(), time.Unix(1000, 0)
	life := l.open()
	l.roundTrip(20*time.Millisecond, now)
	for range baseTrips - 1 {
		l.roundTrip(900*time.Millisecond, now)
	}
	require.Equal(t, 20*time.Millisecond, l.baseTrip())
	require.Greater(t, l.load().RTT, 0.5, "what is shown is what tasks meet")
	for range 20 { // 100 kB/s, each message on an idle link
		alone := l.start(life, 50_000, 50_000, now)
		started := now
		now = now.Add(520 * time.Millisecond)
		l.ack(life, 50_000, alone, started, now)
	}
	require.InEpsilon(t, 100e3, l.load().Goodput, 0.05)
	l.roundTrip(900*time.Millisecond, now)
	require.Equal(t, 900*time.Millisecond, l.baseTrip(), "the way is longer by now")
}

// Room for a message is what the last ones took and a quarter more, not what records would take that do not compress.
func TestRoomForAMessageFollowsItsGrowth(t *testing.T) {
	l := newLink()
	require.Equal(t, 150_000+1024, l.message(100_000), "nothing is measured")
	life := l.open()
	l.start(life, 100_000, 20_000, time.Now())
	require.Equal(t, 25_000+1024, l.message(100_000))
}
