package mqtt

import (
	"context"
	"slices"
	"sync"
)

// Acks acknowledges messages in the order in which they arrived, as MQTT requires ([MQTT-4.6.0-2]), each once it is done. Acknowledgements that
// become due together leave with one write. A separate goroutine writes, because the caller of Done must not wait for the connection.
//
// A message is in Acks from Expect until left is called for it; T is the user's data about it. The number of messages is not bounded here. All
// methods are safe for concurrent use.
type Acks[T any] struct {
	wake chan struct{}
	done chan struct{}
	left func(held T, acked bool) // called without the lock

	mu      sync.Mutex
	session *Session     // the current one
	queue   []*Ticket[T] // of the current session, in order of arrival
	loose   []*Ticket[T] // not bound by the order: at QoS 0, or of an ended session
	broken  bool         // a message was abandoned in this session: none behind it may be acknowledged
	closed  bool
}

// Ticket is the place of one message in the order of acknowledgements.
type Ticket[T any] struct {
	Message Message
	held    T
	state   ticketState
	unbound bool // not in the queue, so that it is not acknowledged
}

type ticketState uint8

const (
	open ticketState = iota
	handled
	abandoned
)

// NewAcks returns Acks that need Start. left is called for each message when it leaves, acknowledged or not.
func NewAcks[T any](left func(held T, acked bool)) *Acks[T] {
	return &Acks[T]{left: left, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Start begins to write; Stop must follow.
func (a *Acks[T]) Start() { go a.run() }

// Expect adds a message behind all that arrived before it, and sets its ticket.
func (a *Acks[T]) Expect(t *Ticket[T], m Message, held T) {
	m.Payload, m.buffer = nil, nil // the user may have freed it
	*t = Ticket[T]{Message: m, held: held}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t.unbound = m.QoS == 0 || m.session != a.session; !t.unbound {
		a.queue = append(a.queue, t)
	}
}

// Done marks messages as done. They are acknowledged as soon as all before them are.
func (a *Acks[T]) Done(tickets ...*Ticket[T]) { a.conclude(handled, tickets) }

// Abandon leaves messages to the broker, and with them all that arrived behind them in this session.
func (a *Acks[T]) Abandon(tickets ...*Ticket[T]) { a.conclude(abandoned, tickets) }

func (a *Acks[T]) conclude(state ticketState, tickets []*Ticket[T]) {
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

// Renew is called before a new session begins (Options.Opened): messages of the previous session can no longer be acknowledged, and the broker
// redelivers them.
func (a *Acks[T]) Renew(s *Session) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.queue {
		if t.unbound = true; t.state != open {
			a.loose = append(a.loose, t)
		}
	}
	a.queue, a.broken, a.session = nil, false, s
	a.nudge()
}

// Ended reports whether the message's session is no longer the current one.
func (a *Acks[T]) Ended(t *Ticket[T]) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return t.Message.session != a.session
}

func (a *Acks[T]) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

func (a *Acks[T]) run() {
	defer close(a.done)
	var messages []Message
	for range a.wake {
		s, ready, rest, closed := a.take()
		for _, t := range ready {
			messages = append(messages, t.Message)
		}
		if len(messages) > 0 {
			s.Ack(messages...)
		}
		messages = messages[:0]
		for _, t := range ready {
			a.left(t.held, true)
		}
		for _, t := range rest {
			a.left(t.held, t.state == handled && t.Message.QoS == 0)
		}
		if closed {
			return
		}
	}
}

// take removes the messages that may be acknowledged now in session s, and those that leave without an acknowledgement.
func (a *Acks[T]) take() (s *Session, ready, rest []*Ticket[T], closed bool) {
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
	a.queue = slices.Delete(a.queue, 0, n) // also clears the vacated slots
	return a.session, ready, rest, a.closed
}

// Stop sends the acknowledgements that may be sent, and ends. It returns false if ctx ended first; then it has cut the session, whose broker reads no
// acknowledgements.
func (a *Acks[T]) Stop(ctx context.Context) bool {
	a.mu.Lock()
	a.closed = true
	session := a.session
	a.mu.Unlock()
	a.nudge()
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
	}
	if session != nil {
		session.Cut()
	}
	<-a.done
	return false
}
