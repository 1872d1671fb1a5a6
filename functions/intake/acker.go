package intake

import (
	"context"
	"slices"
	"sync"
)

// acker acknowledges messages in the order in which they arrived, as MQTT wants it ([MQTT-4.6.0-2]), each once it is done. It does so
// from a goroutine of its own, because the goroutine that concludes an event must not wait for the connection. The gate bounds how many
// messages are here: a message leaves the gate when it leaves the acker.
type acker struct {
	wake chan struct{}
	done chan struct{}
	left func(acked bool) // called for each message that leaves the acker, without a lock

	mu     sync.Mutex
	queue  []*ticket // of the current connection, in order of arrival
	loose  []*ticket // that no order binds: at QoS 0, or of a connection that has ended
	life   uint64    // counts connections
	broken bool      // a message was abandoned on this connection: none behind it may be acknowledged
	closed bool
}

// ticket is the place of one message in the order of acknowledgements.
type ticket struct {
	message arrival
	state   ticketState
	unbound bool // not in the queue, so that it is not acknowledged
}

type ticketState uint8

const (
	open ticketState = iota
	handled
	abandoned
)

func newAcker(left func(acked bool)) *acker {
	return &acker{left: left, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

func (a *acker) start() { go a.run() }

// expect gives a message its place behind all that arrived before it.
func (a *acker) expect(m arrival) *ticket {
	t := &ticket{message: m}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.unbound = m.msg.Qos() == 0 || m.life != a.life; !t.unbound {
		a.queue = append(a.queue, t)
	}
	return t
}

// handle says that messages are done. They are acknowledged as soon as all before them are.
func (a *acker) handle(tickets ...*ticket) { a.conclude(handled, tickets) }

// abandon says that messages are left to the broker, and with them all that arrived behind them on this connection.
func (a *acker) abandon(tickets ...*ticket) { a.conclude(abandoned, tickets) }

func (a *acker) conclude(state ticketState, tickets []*ticket) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range tickets {
		if t.state != open {
			continue
		}
		if t.state = state; t.unbound {
			a.loose = append(a.loose, t)
		}
	}
	a.nudge()
}

// renew is called before a new connection is made: no acknowledgement can reach the broker for the messages of the previous one, which it
// delivers again. It returns the number of the new connection.
func (a *acker) renew() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.queue {
		if t.unbound = true; t.state != open {
			a.loose = append(a.loose, t)
		}
	}
	a.queue, a.broken = nil, false
	a.life++
	a.nudge()
	return a.life
}

// ended reports whether the message's connection has ended.
func (a *acker) ended(t *ticket) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return t.message.life != a.life
}

func (a *acker) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *acker) run() {
	defer close(a.done)
	for range a.wake {
		ready, rest, closed := a.take()
		for _, t := range ready {
			t.message.msg.Ack()
			a.left(true)
			t.message.pass.Leave()
		}
		for _, t := range rest {
			a.left(t.state == handled && t.message.msg.Qos() == 0)
			t.message.pass.Leave()
		}
		if closed {
			return
		}
	}
}

// take removes what may be acknowledged now, and what leaves without an acknowledgement.
func (a *acker) take() (ready, rest []*ticket, closed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rest, a.loose = a.loose, nil
	n := 0
	for ; n < len(a.queue) && a.queue[n].state != open; n++ {
		t := a.queue[n]
		if a.broken = a.broken || t.state == abandoned; a.broken {
			rest = append(rest, t)
		} else {
			ready = append(ready, t)
		}
	}
	a.queue = slices.Delete(a.queue, 0, n) // which clears what it leaves
	return ready, rest, a.closed
}

// stop sends what may be sent, and ends. It is false when the context ended first.
func (a *acker) stop(ctx context.Context) bool {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.nudge()
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
		return false
	}
}
