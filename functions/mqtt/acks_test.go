package mqtt

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"
)

// counted counts the writes of a connection.
type counted struct {
	net.Conn
	mu     sync.Mutex
	writes [][]byte
}

func (c *counted) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writes = append(c.writes, append([]byte(nil), b...))
	return len(b), nil
}

func (c *counted) SetWriteDeadline(time.Time) error { return nil }

// acked reads the packet ids of the PUBACKs written so far.
func (c *counted) acked(t *testing.T) (ids []uint16, writes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, w := io.Pipe()
	go func() {
		for _, b := range c.writes {
			_, _ = w.Write(b)
		}
		_ = w.Close()
	}()
	for {
		p, err := packets.ReadPacket(r)
		if err != nil {
			return ids, len(c.writes)
		}
		require.IsType(t, &packets.PubackPacket{}, p)
		ids = append(ids, p.(*packets.PubackPacket).MessageID)
	}
}

// on makes a session without a broker.
func on(c net.Conn) *Session {
	return &Session{lost: make(chan struct{}), pipes: []*pipe{newPipe(c, time.Second)}}
}

func expect(a *Acks[int], m Message, n int) *Ticket[int] {
	t := &Ticket[int]{}
	a.Expect(t, m, n)
	return t
}

// Acknowledgements that become due together leave with one write, in the order of arrival, whatever was done first.
func TestAcknowledgementsThatAreDueTogetherLeaveWithOneWrite(t *testing.T) {
	c := &counted{}
	s := on(c)
	left := make(chan int, 1000)
	a := NewAcks(func(n int, acked bool) {
		require.True(t, acked)
		left <- n
	})
	a.Renew(s)
	var tickets []*Ticket[int]
	var want []uint16
	for n := range 500 {
		id := uint16(n*131%65535 + 1)
		want = append(want, id)
		tickets = append(tickets, expect(a, Message{QoS: 1, id: id, session: s}, n))
	}
	a.Start()
	for n := 499; n > 0; n-- { // nothing is due before the first
		a.Done(tickets[n])
	}
	time.Sleep(20 * time.Millisecond)
	_, writes := c.acked(t)
	require.Zero(t, writes)
	a.Done(tickets[0])
	for n := range 500 {
		require.Equal(t, n, <-left)
	}
	ids, writes := c.acked(t)
	require.Equal(t, want, ids)
	require.Equal(t, 1, writes, "2,000 bytes, one write")
	require.True(t, a.Stop(t.Context()))
}

// An abandoned message, and all behind it, are left to the broker, and so are all messages of an ended session.
func TestAbandonedMessagesAndEndedSessionsAreNotAcknowledged(t *testing.T) {
	c := &counted{}
	s := on(c)
	outcome := make(chan bool, 10)
	a := NewAcks(func(_ int, acked bool) { outcome <- acked })
	a.Start()
	a.Renew(s)
	message := func(s *Session, id uint16) Message { return Message{QoS: 1, id: id, session: s} }
	first, second, third := expect(a, message(s, 1), 1), expect(a, message(s, 2), 2), expect(a, message(s, 3), 3)
	a.Done(first, third)
	a.Abandon(second)
	require.True(t, <-outcome)
	require.False(t, <-outcome)
	require.False(t, <-outcome)

	old := expect(a, message(s, 4), 4)
	next := on(c)
	a.Renew(next)
	require.True(t, a.Ended(old))
	a.Done(old)
	require.False(t, <-outcome)
	fifth := expect(a, message(next, 5), 5)
	a.Done(expect(a, Message{QoS: 0, session: next}, 6))
	require.True(t, <-outcome, "what cannot be acknowledged waits for nothing before it")
	a.Done(fifth)
	require.True(t, <-outcome)
	ids, _ := c.acked(t)
	require.Equal(t, []uint16{1, 5}, ids)
	require.True(t, a.Stop(t.Context()))

	b := NewAcks(func(_ int, acked bool) { outcome <- acked }) // whose second message waits for the first
	b.Start()
	b.Renew(s)
	expect(b, message(s, 6), 6)
	b.Done(expect(b, message(s, 7), 7))
	require.Eventually(t, func() bool { return len(b.wake) == 0 }, time.Minute, time.Millisecond)
	b.Renew(next)
	select {
	case acked := <-outcome:
		require.False(t, acked)
	case <-time.After(time.Minute):
		require.Fail(t, "a message of an ended session waits")
	}
	require.True(t, b.Stop(t.Context()))
}

// A stop waits for acknowledgements no longer than its context, and a broker that takes none loses its connection.
func TestAcknowledgementsThatCannotLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer there.Close()
		s := on(here)
		a := NewAcks(func(int, bool) {})
		a.Start()
		a.Renew(s)
		a.Done(expect(a, Message{QoS: 1, id: 1, session: s}, 1))
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		require.False(t, a.Stop(ctx))
		require.Equal(t, time.Second/2, time.Since(began))
		_, err := here.Read(make([]byte, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		for range 20 { // without a session
			a := NewAcks(func(int, bool) {})
			a.Start()
			a.Stop(ctx)
		}
	})
}

// BenchmarkAcks measures an acknowledgement on a TCP connection, in groups of 1 and of 64.
func BenchmarkAcks(b *testing.B) {
	for name, group := range map[string]int{"one": 1, "64": 64} {
		b.Run(name, func(b *testing.B) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(b, err)
			go func() {
				c, err := l.Accept()
				if err == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			}()
			c, err := net.Dial("tcp", l.Addr().String())
			require.NoError(b, err)
			defer func() { _ = errors.Join(c.Close(), l.Close()) }()
			s := on(c)
			messages := make([]Message, group)
			for i := range messages {
				messages[i] = Message{QoS: 1, id: uint16(i + 1), session: s}
			}
			b.ReportAllocs()
			for range b.N / group {
				s.Ack(messages...)
			}
		})
	}
}
