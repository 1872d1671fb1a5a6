package mqtt

import (
	"cmp"
	"errors"
	"io"
	"syscall"
	"time"
)

// ClosedByPeer reports whether a connection ended because the other side closed it.
func ClosedByPeer(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Rival recognises two clients with one ClientID: a broker closes the connection of the older one whenever the other connects, and MQTT 3.1.1
// has no word for the reason. Several connections in a row that worked and were closed soon after are the sign. The zero Rival is ready.
// It is not safe for concurrent use.
type Rival struct {
	After int // connections; 0 for 3. More where the broker may close connections for other reasons, such as a message it refuses

	closed int
}

const soon = time.Minute // a connection that lives longer is not fought over

// Lost books a connection that worked and ended with err after it had lived for some time. It reports whether another client is now
// suspected.
func (r *Rival) Lost(lived time.Duration, err error) bool {
	if ClosedByPeer(err) && lived < soon {
		r.closed++
	} else {
		r.closed = 0
	}
	return r.Suspected(lived)
}

// Doubt takes one of the closed connections back: another one was closed over what it published, which a balancer does, or a broker that refuses
// a message, and a rival only by chance.
func (r *Rival) Doubt() { r.closed = max(0, r.closed-1) }

// Suspected reports whether another client is suspected, while the present connection has lived for some time; 0 without a connection.
func (r *Rival) Suspected(lived time.Duration) bool {
	return r.closed >= cmp.Or(r.After, 3) && lived < soon
}

// Closed is how many connections in a row were closed.
func (r *Rival) Closed() int { return r.closed }
