package mqtt

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

func TestRival(t *testing.T) {
	eof := fmt.Errorf("reading: %w", io.EOF)
	type loss struct {
		lived time.Duration
		err   error
	}
	for _, row := range []struct {
		name string
		lost []loss
		want bool
	}{
		{"a broker that restarts", []loss{{time.Hour, eof}, {time.Second, eof}, {time.Second, eof}}, false},
		{"a fight", []loss{{time.Hour, eof}, {time.Second, eof}, {time.Second, syscall.ECONNRESET}, {59 * time.Second, eof}}, true},
		{"a bad line", []loss{{1, errors.New("pingresp not received")}, {1, errors.New("timeout")}, {1, errors.New("timeout")}, {1, eof}}, false},
		{"a long life between", []loss{{1, eof}, {1, eof}, {time.Minute, eof}, {1, eof}, {1, eof}}, false},
	} {
		var r Rival
		r.Doubt()
		got := false
		for _, l := range row.lost {
			got = r.Lost(l.lived, l.err)
		}
		require.Equal(t, row.want, got, row.name)
		require.Equal(t, row.want, r.Suspected(0), row.name)
		require.False(t, r.Suspected(soon), "a connection that lives is not fought over")
	}
}

func TestADoubtTakesAClosingBack(t *testing.T) {
	r := Rival{After: 2}
	for range 10 {
		require.False(t, r.Lost(1, io.EOF))
		r.Doubt()
	}
	require.False(t, r.Lost(1, io.EOF))
	require.True(t, r.Lost(1, io.EOF))
	none := Rival{After: 1}
	none.Doubt()
	require.True(t, none.Lost(1, io.EOF), "there was no closing to take back")
}

// A broker that ends, or a proxy whose broker has ended, differs from one that closes a single connection.
func TestAway(t *testing.T) {
	for name, row := range map[string]struct {
		then func(l net.Listener) // what the broker does then
		end  error                // of the session by its user, nil for the broker
		want bool
	}{
		"it closes one connection":       {func(l net.Listener) { _, _ = l.Accept() }, nil, false},
		"it ends":                        {func(l net.Listener) { _ = l.Close() }, nil, true},
		"a proxy closes each connection": {func(l net.Listener) { c, _ := l.Accept(); _ = c.Close() }, nil, true},
		"the user ends the session":      {func(l net.Listener) { _ = l.Close() }, ErrStopped, false},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		at, err := ParseAddress("tcp://" + l.Addr().String())
		require.NoError(t, err)
		connected := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = packets.ReadPacket(c)
			_ = packets.NewControlPacket(packets.Connack).Write(c)
			connected <- c
		}()
		s, err := Dial(t.Context(), Options{Brokers: []Address{at}, ClientID: "x", Stall: time.Minute, ConnectTimeout: time.Minute, KeepAlive: time.Minute, PingTimeout: time.Minute})
		require.NoError(t, err)
		require.False(t, s.Away(), "it lives")
		c := <-connected
		if row.end != nil {
			s.End(row.end, 0)
		}
		require.NoError(t, c.Close())
		<-s.Lost()
		s.End(ErrStopped, 0) // as the keeper does before it reports the loss
		done := make(chan struct{})
		go func() { defer close(done); row.then(l) }()
		require.Equal(t, row.want, s.Away(), name)
		_ = l.Close()
		<-done
	}
}
