package mqtt

import (
	"bytes"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// limitApart is Limit as a session uses it.
func limitApart(c net.Conn, maxPacket int, lost chan struct{}) (net.Conn, *apart) {
	l, a := Limit(c, maxPacket, nil), newApart(lost)
	l.(*limited).apart = a
	return l, a
}

// A large payload is read once, into a buffer of its own; small and oversized ones pass as ever.
func TestALargePayloadGoesPastPaho(t *testing.T) {
	sizes := []int{10, apartFrom - 100, apartFrom, 3 * apartFrom, 5, 4*apartFrom + 1, 5 * apartFrom, 7}
	var raw []byte
	for i, size := range sizes {
		raw = append(raw, publishOf("a/b", byte(i%2), uint16(i+1), size, byte(i))...)
	}
	conn, a := limitApart(stream{Reader: bytes.NewReader(raw)}, 4*apartFrom+100, nil)
	for i, size := range sizes {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cp, err := packets.ReadPacket(conn)
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		p := cp.(*packets.PublishPacket)
		require.Equal(t, "a/b", p.TopicName)
		payload := p.Payload
		if stands := markOf(payload); stands&apartMark != 0 {
			require.GreaterOrEqual(t, size, apartFrom-100)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(size+64<<10))
			payload = a.take(stands)
			require.Nil(t, a.take(stands))
			a.done()
		}
		if size == 5*apartFrom {
			_, skipped := Skipped(payload)
			require.True(t, skipped)
			continue
		}
		require.True(t, bytes.Equal(bytes.Repeat([]byte{byte(i)}, size), payload), "packet %d", i)
	}
}

// closer is a connection that can only be closed.
type closer struct{ net.Conn }

func (closer) Close() error { return nil }

// While a handler has not returned, no further large payload is read, paho's pings are answered, and the end of the connection or session
// ends the waiting.
func TestOneLargePayloadIsReadAhead(t *testing.T) {
	for name, end := range map[string]func(c net.Conn, lost chan struct{}){
		"closed":  func(c net.Conn, _ chan struct{}) { _ = c.Close() },
		"session": func(_ net.Conn, lost chan struct{}) { close(lost) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				raw := bytes.Repeat(publishOf("t", 1, 7, apartFrom, 'x'), 2)
				lost := make(chan struct{})
				conn, _ := limitApart(stream{closer{}, bytes.NewReader(raw)}, 1<<20, lost)
				cp, err := packets.ReadPacket(conn)
				require.NoError(t, err)
				require.IsType(t, &packets.PublishPacket{}, cp)
				for range 3 {
					cp, err = packets.ReadPacket(conn)
					require.NoError(t, err)
					require.IsType(t, &packets.PingrespPacket{}, cp)
				}
				go func() {
					time.Sleep(pongEvery / 2)
					end(conn, lost)
				}()
				_, err = packets.ReadPacket(conn)
				require.ErrorIs(t, err, net.ErrClosed)
			})
		})
	}
}
