package consume

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"app-offload/functions/mqtt"
)

// acks acknowledges messages in the order in which they arrived, as MQTT wants it ([MQTT-4.6.0-2]), although lanes finish them in another:
// a broker such as mosquitto delivers out of order after acknowledgements that are. A message that waits for the database is passed
// by those after it, so that it holds up no other node. The zero value is ready. All methods are safe for concurrent use; done writes to the
// connection. What hangs without being passed holds up those that are done behind it for no longer than the patience, after which it is passed.
type acks struct {
	patience time.Duration // 0 is the Limits' default

	mu      sync.Mutex
	session *mqtt.Session
	queue   []*ack      // of the session, in the order of arrival
	writing bool        // a goroutine writes what becomes due
	again   *time.Timer // looks at what is done and held up
}

// ack is the place of one message.
type ack struct {
	message mqtt.Message
	state   ackState
	since   time.Time // when it was done
}

type ackState uint8

const (
	ackOpen ackState = iota
	ackDone
	ackPassed // it is acknowledged by itself, if ever
)

// expect gives a message its place behind all that arrived before it. Those of an earlier session have none: the broker delivers them again.
func (a *acks) expect(s *mqtt.Session, m mqtt.Message) *ack {
	m.Payload = nil
	one := &ack{message: m}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.session != s {
		a.session, a.queue = s, nil
	}
	a.queue = append(a.queue, one)
	return one
}

// pass lets those after a message be acknowledged before it.
func (a *acks) pass(one *ack) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one.state == ackOpen {
		one.state = ackPassed
	}
	a.write()
}

// done acknowledges a message as soon as all before it are, or are passed.
func (a *acks) done(one *ack) {
	a.mu.Lock()
	passed := one.state == ackPassed
	if !passed {
		one.state, one.since = ackDone, time.Now()
		a.write()
	}
	a.mu.Unlock()
	if passed {
		one.message.Ack()
	}
}

// write writes what is due, in one turn after the other. The lock is held, but not while it writes: what becomes due meanwhile is the next turn's.
func (a *acks) write() {
	if a.writing {
		return
	}
	a.writing = true
	defer func() { a.writing = false }()
	for {
		var due []mqtt.Message
		a.hurry()
		for len(a.queue) > 0 && a.queue[0].state != ackOpen {
			if a.queue[0].state == ackDone {
				due = append(due, a.queue[0].message)
			}
			a.queue[0] = nil
			a.queue = a.queue[1:]
		}
		if len(due) == 0 {
			return
		}
		s := a.session
		a.mu.Unlock()
		s.Ack(due...)
		a.mu.Lock()
	}
}

// hurry passes what holds up a message that has been done for longer than the patience. The lock is held.
func (a *acks) hurry() {
	patience := cmp.Or(a.patience, Limits{}.withDefaults().Patience)
	first := slices.IndexFunc(a.queue, func(one *ack) bool { return one.state == ackDone })
	if first <= 0 {
		return
	}
	left := patience - time.Since(a.queue[first].since)
	if left <= 0 {
		for _, one := range a.queue[:first] {
			one.state = ackPassed
		}
		return
	}
	if a.again != nil {
		a.again.Stop()
	}
	a.again = time.AfterFunc(left, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.write()
	})
}
