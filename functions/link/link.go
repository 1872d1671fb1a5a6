// Package link measures the link to the broker: its goodput, its round trip, and the bytes in flight. The exporter reports messages and
// acknowledgements; so does the lab's simulator, whose policies must see a link as the service's do.
//
// A Link does not read a clock: times come from its caller, and only their differences count.
package link

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
)

// Link measures the path to the broker. Goodput is acknowledged bytes divided by the time during which messages were in flight; the round trip is
// that of small messages that travelled alone. Measuring locks; reading the snapshot does not.
type Link struct {
	snapshot atomic.Pointer[snapshot]

	mu sync.Mutex
	measures
}

// measures holds the measurements so far, and the messages in flight.
type measures struct {
	state      host.Link
	life       uint64    // number of the connection, so that a late answer on an old one is not measured
	flying     int       // messages in flight
	under      []leaving // the messages in flight, oldest first
	began      time.Time // when the oldest began to leave
	mark       time.Time // end of the accounted busy time, while messages are in flight
	bytes      int64     // acknowledged in the current measurement
	busy       time.Duration
	fromIdle   bool    // the current measurement began on an idle link
	sumBytes   float64 // of all measurements, decaying, as is
	sumBusy    float64 // s, their busy time
	smallBytes float64 // the same for measurements too small for goodput, until there is a larger one
	smallBusy  float64
	rates      rates
	trips      [128]float64
	tripAt     int
	tripN      int
	lastRT     time.Time // time of the latest measured round trip
}

const (
	smallMessage = 4 << 10               // its round trip does not depend on bandwidth
	foldBytes    = 64 << 10              // a measurement of goodput ends after this many bytes
	foldBusy     = 50 * time.Millisecond // or this much busy time
	fade         = time.Second           // busy time in which a measurement loses two thirds of its weight
)

// New returns a link without measurements.
func New() *Link {
	l := &Link{}
	l.snapshot.Store(&snapshot{})
	return l
}

// leaving is a message in flight.
type leaving struct {
	bytes int64
	began time.Time
}

// snapshot is the link as decisions see it, with the progress of the oldest message.
type snapshot struct {
	host.Link
	head  int64     // bytes of the next message to be acknowledged
	began time.Time // when it began to leave
}

// State returns the latest snapshot.
func (l *Link) State() host.Link { return l.snapshot.Load().Link }

// Ahead is State with InflightBytes reduced by the bytes that have left since the oldest message began to leave. No more than that message, or than a
// round trip holds, can have left without an acknowledgement: a stalled link drains nothing.
func (l *Link) Ahead(now time.Time) host.Link {
	s := l.snapshot.Load()
	seen := s.Link
	seen.InflightBytes -= s.left(now)
	return seen
}

// Left returns the bytes of InflightBytes that have left since the oldest message began to leave; see Ahead.
func (l *Link) Left(now time.Time) int64 { return l.snapshot.Load().left(now) }

func (s *snapshot) left(now time.Time) int64 {
	left := s.Goodput * max(now.Sub(s.began).Seconds(), 0)
	return int64(min(left, max(float64(s.head), s.Goodput*s.RTT), float64(s.InflightBytes)))
}

// Leaves returns how long the oldest message will still be leaving, by goodput; 0 if there is no message or no measurement.
func (l *Link) Leaves(now time.Time) time.Duration {
	s := l.snapshot.Load()
	if s.Goodput == 0 {
		return 0
	}
	return max(time.Duration(min(float64(s.head)/s.Goodput, 3600)*float64(time.Second))-now.Sub(s.began), 0)
}

func (l *Link) store() {
	s := &snapshot{Link: l.state, began: l.began}
	if len(l.under) > 0 {
		s.head = l.under[0].bytes
	}
	l.snapshot.Store(s)
}

// Known sets a goodput in bytes/s and a round trip in s, as if measured until now.
func (l *Link) Known(goodput, rtt float64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sumBytes, l.sumBusy, l.state.Goodput = goodput*fade.Seconds(), fade.Seconds(), goodput
	l.trip(time.Duration(rtt*float64(time.Second)), now)
	l.store()
}

// Copy returns an independent copy of the link.
func (l *Link) Copy() *Link {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := &Link{measures: l.measures}
	own.under = slices.Clone(own.under)
	own.store()
	return own
}

// Open begins a connection and returns its number.
func (l *Link) Open() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Up = true
	l.forget()
	return l.life
}

// Close ends the connection, whatever its number.
func (l *Link) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.life++
	l.state.Up = false
	l.forget()
}

func (l *Link) forget() {
	l.flying, l.bytes, l.busy = 0, 0, 0
	l.under = l.under[:0]
	l.state.InflightBytes = 0
	l.store()
}

// Start records a message passed to the connection. alone means that no other message was in flight.
func (l *Link) Start(life uint64, records, message int, now time.Time) (alone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life != l.life {
		return false
	}
	alone = l.flying == 0
	if alone {
		l.mark, l.began, l.fromIdle = now, now, true
	}
	l.flying++
	l.under = append(l.under, leaving{int64(message), now})
	l.state.InflightBytes += int64(message)
	if records > 0 { // small messages say little about large ones, but not nothing
		l.state.Growth = ewma(l.state.Growth, float64(message)/float64(records), 0.1*min(float64(records)/smallMessage, 1))
	}
	l.store()
	return alone
}

// Ack records the acknowledgement of a message started at the given time.
func (l *Link) Ack(life uint64, message int, alone bool, started, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if life != l.life {
		return
	}
	l.flying--
	l.landed(int64(message), now)
	l.state.InflightBytes -= int64(message)
	if first := started.Add(time.Duration(l.base() * float64(time.Second))); !l.fromIdle && first.After(l.mark) && first.Before(now) {
		l.mark = first // no part of this message could be acknowledged before: the link was idle during the round trip
	}
	l.busy += now.Sub(l.mark)
	l.mark = now
	l.bytes += int64(message)
	idle := l.flying == 0
	if l.bytes >= foldBytes || (l.bytes >= smallMessage && (idle || l.busy >= foldBusy)) {
		l.fold()
	} else if idle {
		l.small()
	}
	if alone && message <= smallMessage {
		l.trip(now.Sub(started), now)
	}
	l.store()
}

// landed removes a message. Its acknowledgement took a round trip, during which the next message was already leaving.
func (l *Link) landed(message int64, now time.Time) {
	i := slices.IndexFunc(l.under, func(f leaving) bool { return f.bytes == message }) // brokers acknowledge in order, or nearly so
	if i < 0 {
		return
	}
	l.under = slices.Delete(l.under, i, i+1)
	if len(l.under) == 0 {
		return
	}
	l.began = now.Add(-time.Duration(l.state.RTT * float64(time.Second)))
	if head := l.under[0].began; head.After(l.began) {
		l.began = head
	}
}

// small ends a measurement with so few bytes that it measures the round trip, not the bandwidth. Until there is a better one it is a lower bound of
// the goodput; if it is above the measured goodput, it counts as a measurement.
func (l *Link) small() {
	if busy := l.busy.Seconds(); l.sumBusy > 0 && float64(l.bytes) > l.state.Goodput*busy {
		l.measured(busy)
	} else if l.sumBusy == 0 {
		busy := max(l.busy.Seconds(), 1e-6)
		kept := math.Exp(-busy / fade.Seconds())
		l.smallBytes, l.smallBusy = l.smallBytes*kept+float64(l.bytes), l.smallBusy*kept+busy
		l.state.Goodput, l.state.AtLeast = l.smallBytes/l.smallBusy, true
	}
	l.bytes, l.busy, l.fromIdle = 0, 0, false
}

// fold ends a measurement. If it began on an idle link, it includes one round trip, which does not depend on bandwidth. If the remaining time is
// within the variation of round trips, it is noise, and the measurement counts as small.
func (l *Link) fold() {
	busy := l.busy.Seconds()
	if l.fromIdle {
		base := l.base()
		busy -= base
		if busy < max(2*(l.state.RTT-base), base/4) {
			l.small()
			return
		}
	}
	l.measured(busy)
	l.bytes, l.busy, l.fromIdle = 0, 0, false
}

// measured adds the current measurement, of that many seconds, to the goodput.
//
// Goodput is all bytes divided by all busy time, both decaying with busy time. So acknowledgements that arrive in a burst, after the wait for them
// was counted with the first, do not make a link look fast, and a link that became slow shows at its first acknowledgement.
func (l *Link) measured(busy float64) {
	kept := math.Exp(-busy / fade.Seconds())
	l.sumBytes, l.sumBusy = l.sumBytes*kept+float64(l.bytes), l.sumBusy*kept+max(busy, 1e-6)
	l.state.Goodput, l.state.AtLeast = l.sumBytes/l.sumBusy, false
	l.rates.add(float64(l.bytes), max(busy, 1e-6))
	l.state.Goodput10, l.state.Goodput50 = l.rates.quantiles(l.state.Goodput)
}

// RoundTrip records a round trip measured otherwise.
func (l *Link) RoundTrip(d time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trip(d, now)
	l.store()
}

func (l *Link) trip(d time.Duration, now time.Time) {
	l.lastRT = now
	l.state.RTT = ewma(l.state.RTT, d.Seconds(), 0.125)
	l.trips[l.tripAt] = d.Seconds()
	l.tripAt = (l.tripAt + 1) % len(l.trips)
	l.tripN = min(l.tripN+1, len(l.trips))
	sorted := l.trips
	slices.Sort(sorted[:l.tripN])
	l.state.RTT95 = sorted[(l.tripN*95+99)/100-1]
}

// base returns the shortest of the latest round trips: the path itself, without queues. Filling the link by a round trip that includes the queue
// would lengthen the queue, which would lengthen the round trip, and so on. It is 0 before the first measurement. The caller holds the lock.
func (l *Link) base() float64 {
	shortest := math.Inf(1)
	for i := range min(l.tripN, baseTrips) {
		shortest = min(shortest, l.trips[(l.tripAt-1-i+len(l.trips))%len(l.trips)])
	}
	if l.tripN == 0 {
		return 0
	}
	return shortest
}

const baseTrips = 16 // few, so that a longer path shows soon

// BaseTrip is base for callers without the lock.
func (l *Link) BaseTrip() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.base() * float64(time.Second))
}

// Stale returns the time since a round trip was last measured.
func (l *Link) Stale(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.lastRT)
}

// Stalled records that the connection stalled although its goodput predicted otherwise.
func (l *Link) Stalled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Goodput /= 2
	l.sumBytes /= 2
	l.smallBytes /= 2
	l.store()
}

// Backlog sets the spool's backlog.
func (l *Link) Backlog(records, bytes int64, share float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.BacklogTasks, l.state.BacklogBytes, l.state.BacklogShare = records, bytes, share
	l.store()
}

// Carries returns the bytes of records that the link carries in the given time; unmeasured is the value before the first measurement.
func (l *Link) Carries(d time.Duration, unmeasured int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Goodput == 0 {
		return unmeasured
	}
	carries := int(min(l.state.Goodput*d.Seconds()/max(l.state.Growth, 0.01), 1<<40))
	if l.state.AtLeast {
		return max(carries, unmeasured)
	}
	return carries
}

// Records returns the bytes of records in a message of that size.
func (l *Link) Records(message int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	growth := l.state.Growth
	if growth == 0 {
		growth = unmeasuredGrowth
	}
	return int(min(float64(message)/max(growth, 0.01), 1<<30))
}

// Message returns the estimated size of a message for that many bytes of records, with some reserve.
func (l *Link) Message(records int) int {
	growth := l.State().Growth * 1.25
	if growth == 0 {
		growth = unmeasuredGrowth
	}
	return int(float64(records)*growth) + 1024
}

const unmeasuredGrowth = 1.5 // the readable form makes messages a third larger than their records, and more with escapes

// Takes returns how long the acknowledgement of that many bytes of records may take before the link counts as late: twice the measured time, plus a
// delay for a busy broker or host.
func (l *Link) Takes(records int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Goodput == 0 {
		return unmeasuredTakes
	}
	wire := float64(records) * max(l.state.Growth, 1) / l.state.Goodput
	return usualDelay + time.Duration(min(2*wire+4*l.state.RTT, 3600)*float64(time.Second))
}

const (
	unmeasuredTakes = 2 * time.Second
	usualDelay      = 250 * time.Millisecond
)

// ewma moves an average towards a sample; the first sample becomes the average.
func ewma(average, sample, weight float64) float64 {
	if average == 0 {
		return sample
	}
	return average + weight*(sample-average)
}

// rates holds the link's latest rates, each over the same amount of busy time: the rates of single measurements would describe the timing of
// acknowledgements more than the link. They are guarded by the link's lock.
type rates struct {
	bytes, busy float64 // of the current stretch
	latest      [rateStretches]float64
	at, n       int
}

const (
	rateStretch   = 0.25 // s of busy time, short enough to show a dip
	rateStretches = 240  // a minute of busy time
)

// add adds bytes acknowledged over busy time in s. One measurement may span many stretches, as after a stall: all of them get its rate.
func (r *rates) add(bytes, busy float64) {
	r.bytes += bytes
	r.busy += busy
	whole := int(min(r.busy/rateStretch, rateStretches))
	if whole == 0 {
		return
	}
	for range whole {
		r.latest[r.at] = r.bytes / r.busy
		r.at = (r.at + 1) % rateStretches
	}
	r.n = min(r.n+whole, rateStretches)
	r.bytes, r.busy = 0, 0
}

// quantiles returns the 10th and 50th percentile of the rates; before the first stretch is complete, both are smoothed.
func (r *rates) quantiles(smoothed float64) (tenth, half float64) {
	if r.n == 0 {
		return smoothed, smoothed
	}
	sorted := r.latest
	slices.Sort(sorted[:r.n])
	return sorted[(r.n-1)/10], sorted[(r.n-1)/2]
}
