package export

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/link"
)

// A message with more records than its size suggests leaves room for the next one slightly later, and before its acknowledgement: a link that waited
// for that would be idle for a round trip after each such message.
func TestRoomIsFoundWhileAMessageLeaves(t *testing.T) {
	const ahead = Ahead(100 * time.Millisecond)
	for _, records := range []int{20_000, 22_000, 24_000} {
		l, now := link.New(), time.Unix(1000, 0)
		life := l.Open()
		l.Known(20e3, 0.04, now)
		l.Start(life, 20_000, 10_000, now)
		l.Ack(life, 10_000, false, now, now.Add(540*time.Millisecond))
		now = now.Add(time.Hour)
		l.Start(life, records, 10_000, now) // it leaves for half a second

		room, looks := now, 0
		for {
			leaving, most := ahead.Room(l, records, room)
			if leaving < most {
				break
			}
			until := ahead.Until(l, room)
			require.Positive(t, until, "%d bytes of records: no look before the acknowledgement", records)
			room = room.Add(until)
			require.Less(t, looks, 30)
			looks++
		}
		require.Less(t, room.Sub(now), 500*time.Millisecond, "%d bytes of records", records)
		require.Greater(t, room.Sub(now), 350*time.Millisecond, "%d bytes of records", records)
		require.Zero(t, ahead.Until(l, now.Add(time.Second)), "all has left: only an acknowledgement brings room")
	}
}
