package mqtt

import (
	"net"
	"sync"
	"time"
)

// apart takes large payloads past paho, which would allocate each twice: once for the packet, once more for the payload in it. Limit reads such a
// payload into a buffer of its own, and gives paho a PUBLISH whose payload is a mark; the message handler takes the buffer in its turn.
// One payload at most has been read for which the handler has not returned: while it blocks, the next one stays with the broker.
type apart struct {
	lost <-chan struct{} // closed at the end of the session
	free chan struct{}   // has a token while no payload is kept

	mu      sync.Mutex
	number  uint64
	payload []byte
}

// apartFrom is the size of a packet from which on its payload goes past paho, and apartMark distinguishes its mark from that of a skipped one.
const (
	apartFrom = 256 << 10
	apartMark = 1 << 63
)

func newApart(lost <-chan struct{}) *apart {
	a := &apart{lost: lost, free: make(chan struct{}, 1)}
	a.free <- struct{}{}
	return a
}

// put keeps the payload, and returns what stands for it.
func (a *apart) put(payload []byte) (mark uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.number++
	a.payload = payload
	return a.number | apartMark
}

// take returns the payload that a mark stands for, once; done follows when its handler has returned.
func (a *apart) take(mark uint64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if mark != a.number|apartMark {
		return nil
	}
	payload := a.payload
	a.payload = nil
	return payload
}

// done makes room for the next payload.
func (a *apart) done() { a.free <- struct{}{} }

// wait waits a while for room, and reports whether there is some. The error is of a connection that was closed or lost meanwhile.
func (a *apart) wait(closed <-chan struct{}) (room bool, err error) {
	t := time.NewTimer(pongEvery)
	defer t.Stop()
	select {
	case <-a.free:
		return true, nil
	case <-closed:
		return false, net.ErrClosed
	case <-a.lost:
		return false, net.ErrClosed
	case <-t.C:
		return false, nil
	}
}
