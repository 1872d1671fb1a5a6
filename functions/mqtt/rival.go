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

// Rival recognises two clients with one ClientID: a broker closes the older connection whenever the other client connects, and MQTT 3.1.1 reports no
// reason. The sign is several connections in a row that worked and were closed soon after, by a broker that is not Away. The zero Rival is ready. It is not safe for concurrent
// use.
type Rival struct {
	After int // connections; 0 for 3. More where the broker may close connections for other reasons, such as a message it refuses

	closed int
}

const soon = time.Minute // a longer connection has no rival

// Lost records a working connection that ended with err after the time lived. It reports whether another client is now suspected.
func (r *Rival) Lost(lived time.Duration, err error) bool {
	if ClosedByPeer(err) && lived < soon {
		r.closed++
	} else {
		r.closed = 0
	}
	return r.Suspected(lived)
}

// Doubt discounts one of the closed connections, as something else closed another one: a broker that ends, or a balancer or broker that refuses a
// message. A rival would do so only by chance.
func (r *Rival) Doubt() { r.closed = max(0, r.closed-1) }

// Suspected reports whether another client is suspected, given the age of the current connection; 0 without a connection.
func (r *Rival) Suspected(lived time.Duration) bool {
	return r.closed >= cmp.Or(r.After, 3) && lived < soon
}

// Closed returns the number of connections in a row that were closed.
func (r *Rival) Closed() int { return r.closed }
