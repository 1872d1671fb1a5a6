package mqtt

import (
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// A message at QoS 2 is passed on once, and acknowledged in both steps: PUBREC by this package, PUBCOMP by paho.
func TestTheHandshakeOfQoS2IsCompleted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close() //nolint:errcheck // the test is over
	answers, over := make(chan packets.ControlPacket, 3), make(chan struct{})
	defer close(over) // or the connection may end before Dial has returned
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close() //nolint:errcheck // the test is over
		for _, out := range [][]byte{append(connack[:4:4], publishOf("t", 2, 7, 30, 'x')...), {packets.Pubrel<<4 | 2, 2, 0, 7}, nil} {
			p, err := packets.ReadPacket(c)
			if err != nil {
				close(answers)
				return
			}
			answers <- p
			_, _ = c.Write(out)
		}
		<-over
	}()
	at, err := ParseAddress("tcp://" + l.Addr().String())
	require.NoError(t, err)
	got := make(chan Message, 2)
	s, err := Dial(t.Context(), Options{
		Brokers: []Address{at}, ClientID: "c", KeepAlive: time.Minute, PingTimeout: time.Minute, ConnectTimeout: 10 * time.Second, Stall: time.Minute,
		Receive: func(_ *Session, m Message) { got <- m },
	})
	require.NoError(t, err)
	defer s.End(ErrStopped, 0)
	require.IsType(t, &packets.ConnectPacket{}, <-answers)
	pubrec := <-answers
	require.IsType(t, &packets.PubrecPacket{}, pubrec)
	require.Equal(t, uint16(7), pubrec.Details().MessageID)
	pubcomp := <-answers
	require.IsType(t, &packets.PubcompPacket{}, pubcomp)
	require.Equal(t, uint16(7), pubcomp.Details().MessageID)
	require.Equal(t, byte(2), (<-got).QoS)
	require.Empty(t, got)
}
