package edgex

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edgexfoundry/go-mod-messaging/v3/messaging"
	"github.com/stretchr/testify/require"
)

// hanging is a client whose broker is gone: it disconnects only when it is let.
type hanging struct {
	messaging.MessageClient
	let chan struct{}
	err error
}

func (h *hanging) Disconnect() error { <-h.let; return h.err }

// A disconnection that hangs holds up a Close for a moment only, and leaves no goroutine behind once it ends.
func TestAHangingDisconnectionLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which fails where a goroutine stays
		began := time.Now()
		h := &hanging{let: make(chan struct{})}
		b := NewBus(BusConfig{}, "t", nil)
		b.client = h
		require.NoError(t, b.Close())
		require.Equal(t, farewell, time.Since(began))
		require.ErrorIs(t, b.Publish("x", "", "", nil), ErrNoBus)
		close(h.let)
		synctest.Wait()
	})
}

// One that ends in time is waited for, and its error is that of Close.
func TestACloseReportsTheDisconnection(t *testing.T) {
	h := &hanging{let: make(chan struct{}), err: errors.New("broken pipe")}
	close(h.let)
	b := NewBus(BusConfig{}, "t", nil)
	b.client = h
	require.ErrorIs(t, b.Close(), h.err)
	require.NoError(t, NewBus(BusConfig{}, "t", nil).Close(), "never connected")
}
