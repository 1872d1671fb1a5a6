package faults

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// linked opens a link to an upstream that serves each connection.
func linked(t *testing.T, serve func(net.Conn)) *link {
	t.Helper()
	far, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := far.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	l, err := newLink(far.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() {
		l.close()
		_ = far.Close()
		running.Wait()
	})
	return l
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func dial(t *testing.T, l *link) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.addr)
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ping is a packet of MQTT, as a link looks at packets on the way back.
var ping = []byte{0xc0, 0}

func echoes(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := c.Write(ping)
	require.NoError(t, err)
	got := make([]byte, len(ping))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, ping, got)
}

func TestWhatAStalledLinkHoldsArrivesLater(t *testing.T) {
	for _, stalled := range troubles["stall"] {
		l := linked(t, echo)
		c := dial(t, l)
		echoes(t, c)
		require.NoError(t, l.harm(stalled))
		_, err := c.Write(ping)
		require.NoError(t, err)
		require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = c.Read(make([]byte, 1))
		var timeout net.Error
		require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "%v", err)
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		require.NoError(t, l.heal())
		got := make([]byte, len(ping))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
	}
}

func TestEachTroubleDoesWhatItSays(t *testing.T) {
	l := linked(t, echo)
	for _, reset := range troubles["reset"][:2] {
		c := dial(t, l)
		echoes(t, c)
		require.NoError(t, l.harm(reset))
		_, err := c.Write(ping)
		require.NoError(t, err)
		_, err = c.Read(make([]byte, 1))
		require.ErrorIs(t, err, syscall.ECONNRESET)
		require.NoError(t, l.heal())
	}
	c := dial(t, l)
	require.NoError(t, l.harm(troubles["reset"][3]))
	_, err := c.Write(bytes.Repeat(ping, 1000))
	require.NoError(t, err)
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, got, 200)

	require.NoError(t, l.harm(trouble{up: flow{rate: 1e6}}))
	c = dial(t, l)
	start := time.Now()
	_, err = c.Write(bytes.Repeat(ping, 50_000))
	require.NoError(t, err)
	_, err = io.ReadFull(c, make([]byte, 100_000))
	require.NoError(t, err)
	require.Greater(t, time.Since(start), 90*time.Millisecond, "100 kB at 1 MB/s")

	require.NoError(t, l.harm(troubles["cut"][0]))
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	_, err = net.Dial("tcp", l.addr)
	require.ErrorIs(t, err, syscall.ECONNREFUSED)
	require.NoError(t, l.heal())
	echoes(t, dial(t, l))
}

// Whatever changes at whatever moment, connections that break among it, the link comes through.
func TestALinkBearsAnyChangeAtAnyMoment(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	l := linked(t, func(c net.Conn) {
		_, _ = io.CopyN(c, c, rand.Int64N(200_000)) // and leaves, whatever is on its way
	})
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c, err := net.Dial("tcp", l.addr); err == nil {
					clients.Go(func() { _, _ = io.Copy(io.Discard, c) })
					_, _ = c.Write(bytes.Repeat(ping, rand.IntN(100_000)))
					_ = c.Close()
				}
			}
		})
	}
	var all []trouble
	for _, some := range troubles {
		all = append(all, some...)
	}
	random := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		require.NoError(t, l.harm(all[random.IntN(len(all))]))
		time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond) // a moment of any length
	}
	require.NoError(t, l.heal())
	close(stop)
	clients.Wait()
}
