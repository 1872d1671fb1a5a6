package export

import (
	"time"

	"app-offload/functions/host"
)

// Meter measures a link by the exporter's own code, for a simulator: its policies are to see a link as the service's policies do. What the
// exporter takes from its connection and its clock, the caller says. A Meter belongs to one goroutine.
type Meter struct{ l *link }

// NewMeter begins with a connection of which nothing is known.
func NewMeter() *Meter {
	m := &Meter{newLink()}
	m.l.open()
	return m
}

// Known begins with a goodput in bytes/s and a round trip in s as measured until now.
func (m *Meter) Known(goodput, rtt float64, now time.Time) {
	m.l.mu.Lock()
	m.l.sumBytes, m.l.sumBusy, m.l.state.Goodput = goodput*fade.Seconds(), fade.Seconds(), goodput
	m.l.mu.Unlock()
	m.Trip(rtt, now)
}

// Sent books a message of so many bytes, made of so many bytes of records. It reports whether nothing else is on its way, as Acked wants
// to know.
func (m *Meter) Sent(records, message int, now time.Time) (alone bool) {
	return m.l.start(m.l.life, records, message, now)
}

// Acked books the acknowledgement of a message that was sent at started.
func (m *Meter) Acked(message int, alone bool, started, now time.Time) {
	m.l.ack(m.l.life, message, alone, started, now)
}

// Trip books a round trip in s that an empty message has measured.
func (m *Meter) Trip(rtt float64, now time.Time) {
	m.l.roundTrip(time.Duration(rtt*float64(time.Second)), now)
}

// Probes reports whether the exporter would measure the round trip with an empty message now.
func (m *Meter) Probes(every time.Duration, now time.Time) bool { return m.l.stale(now) >= every }

// Stalled books that the connection stood still.
func (m *Meter) Stalled() { m.l.stalled() }

// Link is what is known without regard to the time since the oldest message began to leave.
func (m *Meter) Link() host.Link { return m.l.load() }

// Ahead is Link less what has presumably left by now.
func (m *Meter) Ahead(now time.Time) host.Link { return m.l.ahead(now) }

// Carries is how many bytes of records the link carries in the time given, at least 64 KiB where nothing was measured.
func (m *Meter) Carries(d time.Duration) int { return m.l.carries(d, foldBytes) }

// Copy is a meter that goes on from here on its own.
func (m *Meter) Copy() *Meter {
	own := newLink()
	m.l.mu.Lock()
	own.measures = m.l.measures
	m.l.mu.Unlock()
	own.under = append([]leaving(nil), own.under...)
	own.store()
	return &Meter{own}
}
