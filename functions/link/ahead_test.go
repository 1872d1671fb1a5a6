package link

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Bytes that have left are not ahead of the next task: the oldest message drains at the rate of goodput, and the bytes of one round trip have left. A
// stalled link drains no more than that.
func TestTheOldestMessageDrainsWhileItIsNotAcknowledged(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	later := func(d time.Duration) time.Time { now = now.Add(d); return now }
	l.Start(life, 100_000, 100_000, now)
	l.Ack(life, 100_000, false, now, later(time.Second)) // 100 kB/s
	l.RoundTrip(100*time.Millisecond, now)

	now = later(time.Hour)
	l.Start(life, 50_000, 50_000, now)
	l.Start(life, 80_000, 80_000, now)
	for after, ahead := range map[time.Duration]int64{
		0: 130_000, -time.Second: 130_000, 200 * time.Millisecond: 110_000, 500 * time.Millisecond: 80_000, time.Hour: 80_000,
	} {
		require.EqualValues(t, ahead, l.Ahead(now.Add(after)).InflightBytes, after)
		require.EqualValues(t, 130_000-ahead, l.Left(now.Add(after)), after)
	}
	require.Equal(t, 500*time.Millisecond, l.Leaves(now), "the oldest message")
	require.Equal(t, 100*time.Millisecond, l.Leaves(now.Add(400*time.Millisecond)))
	require.Zero(t, l.Leaves(now.Add(time.Hour)))
	require.EqualValues(t, 130_000, l.State().InflightBytes, "shown is what is not acknowledged")

	began := now
	l.Ack(life, 50_000, false, began, later(600*time.Millisecond))
	goodput := l.State().Goodput
	require.InDelta(t, 80_000-goodput*0.1, l.Ahead(now).InflightBytes, 1, "the next has been leaving for a round trip")
	require.InDelta(t, 80_000-goodput*0.3, l.Ahead(now.Add(200*time.Millisecond)).InflightBytes, 1)
	require.Zero(t, l.Ahead(now.Add(time.Hour)).InflightBytes)

	l.Start(life, 1000, 1000, now)
	l.Ack(life, 80_000, false, began, later(time.Second))
	l.Start(life, 9000, 9000, now)
	l.Ack(life, 1000, false, now, now)
	require.EqualValues(t, 9000, l.Ahead(now).InflightBytes, "what was begun just now has not left")
	l.Close()
	require.Zero(t, l.Ahead(now).InflightBytes)
	require.Zero(t, l.Leaves(now))
}

// The growth of messages over their records is measured on small ones too, and soon follows large ones.
func TestGrowthIsMeasuredOnSmallMessages(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	life := l.Open()
	l.Start(life, 1000, 1500, now)
	require.InDelta(t, 1.5, l.State().Growth, 1e-9)
	for range 60 {
		l.Start(life, 50_000, 14_000, now)
	}
	require.InDelta(t, 0.28, l.State().Growth, 0.01)
}

func TestHowLongAMessageLeavesAndWhatItHolds(t *testing.T) {
	l, now := New(), time.Unix(1000, 0)
	require.Zero(t, l.Leaves(now), "nothing is known")
	require.Equal(t, 1000, l.Records(1500), "as the readable form")
	life := l.Open()
	l.Start(life, 1000, 500, now)
	require.Zero(t, l.Leaves(now), "nothing is known of the link")
	require.Equal(t, 3000, l.Records(1500))
	require.Equal(t, 1<<30, l.Records(1<<40))
	l.Known(1e-9, 0.1, now)
	require.Equal(t, time.Hour, l.Leaves(now), "at most")
	require.Zero(t, l.Leaves(now.Add(2*time.Hour)))
}
