package mqtt

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// wire counts written bytes, and their deadlines.
type wire struct {
	net.Conn
	pieces    []int
	deadlines []time.Time
	fails     error // of the second piece
	written   bytes.Buffer
	closed    bool
}

func (w *wire) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (w *wire) SetWriteDeadline(at time.Time) error {
	w.deadlines = append(w.deadlines, at)
	return nil
}

func (w *wire) Write(b []byte) (int, error) {
	if w.pieces = append(w.pieces, len(b)); len(w.pieces) == 2 && w.fails != nil {
		return 3, w.fails
	}
	return w.written.Write(b)
}

func (w *wire) Close() error {
	w.closed = true
	return nil
}

// A packet leaves in pieces, each with its own deadline; only a PUBLISH is signalled, and a failed one is not.
func TestAPacketLeavesInPieces(t *testing.T) {
	w := &wire{}
	p := newPipe(w, time.Hour)
	packet := make([]byte, 2*pipePiece+5)
	packet[0] = 3 << 4 // PUBLISH
	before := time.Now()
	n, err := p.Write(packet)
	require.NoError(t, err)
	require.Equal(t, len(packet), n)
	require.Equal(t, []int{pipePiece, pipePiece, 5}, w.pieces)
	require.Equal(t, packet, w.written.Bytes())
	require.Len(t, w.deadlines, 3)
	for _, at := range w.deadlines {
		require.WithinRange(t, at, before.Add(time.Hour), time.Now().Add(time.Hour))
	}
	require.Len(t, p.sent, 1)
	_, err = p.Write(packet[:1])
	require.NoError(t, err, "the signal is still there, and the write does not wait for it")
	<-p.sent
	_, err = p.Write([]byte{4 << 4, 2, 0, 1}) // PUBACK
	require.NoError(t, err)
	n, err = p.Write(nil)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, p.sent)
	require.NoError(t, p.SetWriteDeadline(time.Now()))
	require.Len(t, w.deadlines, 5, "paho's own deadlines count for nothing")

	broken := errors.New("broken")
	p = newPipe(&wire{fails: broken}, time.Hour)
	n, err = p.Write(packet)
	require.ErrorIs(t, err, broken)
	require.Equal(t, pipePiece+3, n)
	require.Empty(t, p.sent)
}

// A connection that opens after the session has ended is closed immediately.
func TestAConnectionIsReadInLargePieces(t *testing.T) {
	for given, want := range map[int]int{0: 16 << 10, 64: 64} {
		s := &Session{lost: make(chan struct{})}
		w, opened := &wire{}, 0
		c := s.opened(w, Options{ReadBuffer: given, Opened: func(*Session) { opened++ }})
		require.Equal(t, want, c.(*inbound).r.Size())
		require.Equal(t, 1, opened)
		require.Len(t, s.pipes, 1)
		require.False(t, w.closed)
		close(s.lost)
		late := &wire{}
		s.opened(late, Options{})
		require.True(t, late.closed, "the session has ended meanwhile")
		require.Len(t, s.pipes, 1)
		require.Equal(t, 5, s.opened(&wire{}, Options{MaxPacket: 5}).(*inbound).max)
	}
}
