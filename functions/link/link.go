// Package link measures the link to the broker: what it carries, how long a round trip takes, and what is on its way. The exporter books
// what it sends and what is acknowledged; so does the simulator of the lab, whose policies are to see a link as the service's do.
//
// A Link takes no reading of a clock itself: times come from its caller, and only ever their differences count.
package link

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/host"
)

// Link measures the way to the broker. Goodput is acknowledged bytes over the time during which something was on its
// way; the round trip is that of small messages that travelled alone. Measuring locks, reading the snapshot does not.
type Link struct {
	snapshot atomic.Pointer[snapshot]

	mu sync.Mutex
	measures
}

// measures is what was measured so far, and what is under way.
type measures struct {
	state      host.Link
	life       uint64    // of the connection, so that a late answer of an old one is not measured
	flying     int       // messages on their way
	under      []leaving // they, the oldest first
	began      time.Time // when the oldest began to leave
	mark       time.Time // up to when busy time is accounted, while flying
	bytes      int64     // acknowledged in the present measurement
	busy       time.Duration
	fromIdle   bool    // the present measurement began on an idle link
	sumBytes   float64 // of all measurements, fading, as is
	sumBusy    float64 // s, their busy time
	smallBytes float64 // the same of measurements too small to give goodput, until there is a larger one
	smallBusy  float64
	rates      rates
	trips      [128]float64
	tripAt     int
	tripN      int
	lastRT     time.Time // of the last round trip measured
}

const (
	smallMessage = 4 << 10               // its round trip is not a matter of bandwidth
	foldBytes    = 64 << 10              // a measurement of goodput ends with so many bytes
	foldBusy     = 50 * time.Millisecond // or so much busy time
	fade         = time.Second           // busy time in which a measurement loses two thirds of its weight
)

// New makes a link of which nothing is known.
func New() *Link {
	l := &Link{}
	l.snapshot.Store(&snapshot{})
	return l
}

// leaving is a message on its way.
type leaving struct {
	bytes int64
	began time.Time
}

// snapshot is the link as decisions see it, with the progress of the message that is leaving.
type snapshot struct {
	host.Link
	head  int64     // bytes of the message that leaves or has left, and is the next to be acknowledged
	began time.Time // when it began to leave
}

// State is the latest snapshot.
func (l *Link) State() host.Link { return l.snapshot.Load().Link }

// Ahead is State with InflightBytes less what has left since the oldest message began to. More than that message, or than a round
// trip holds, cannot have left without an acknowledgement: a link that stands still drains nothing.
func (l *Link) Ahead(now time.Time) host.Link {
	s := l.snapshot.Load()
	seen := s.Link
	seen.InflightBytes -= s.left(now)
	return seen
}

// Left is how many bytes of InflightBytes have left since the oldest message began to; see Ahead.
func (l *Link) Left(now time.Time) int64 { return l.snapshot.Load().left(now) }

func (s *snapshot) left(now time.Time) int64 {
	left := s.Goodput * max(now.Sub(s.began).Seconds(), 0)
	return int64(min(left, max(float64(s.head), s.Goodput*s.RTT), float64(s.InflightBytes)))
}

// Leaves is how long the oldest message is still leaving, by goodput; 0 where nothing is or nothing is known.
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

// Known begins with a goodput in bytes/s and a round trip in s as measured until now.
func (l *Link) Known(goodput, rtt float64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sumBytes, l.sumBusy, l.state.Goodput = goodput*fade.Seconds(), fade.Seconds(), goodput
	l.trip(time.Duration(rtt*float64(time.Second)), now)
	l.store()
}

// Copy is a link that goes on from here on its own.
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

// Start books a message that is handed to the connection. alone says that nothing else was on its way.
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
	if records > 0 { // small messages say little of large ones, and more than nothing
		l.state.Growth = ewma(l.state.Growth, float64(message)/float64(records), 0.1*min(float64(records)/smallMessage, 1))
	}
	l.store()
	return alone
}

// Ack books an acknowledgement of a message that was started at the given time.
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
		l.mark = first // nothing of this message could be acknowledged before: the link was idle, though a round trip was under way
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

// landed takes a message off the link. Its acknowledgement was under way for a round trip, in which the next one has been leaving.
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

// small ends a measurement of so few bytes that it is one of the round trip, not of the bandwidth. Until there is a better one it is a
// lower bound of what the link carries, and one that is above what was measured is a measurement.
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

// fold ends a measurement. One that began on an idle link waited for one round trip, which is not a matter of bandwidth. If the rest is no
// longer than round trips differ by, it is noise, and the measurement a small one.
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

// measured adds the present measurement, of so many seconds, to the goodput.
//
// Goodput is all bytes over all busy time, both fading with busy time. So acknowledgements that come in a burst, after the
// wait for them was booked with the first, do not make a link look fast, and one that became slow is known by its first
// acknowledgement.
func (l *Link) measured(busy float64) {
	kept := math.Exp(-busy / fade.Seconds())
	l.sumBytes, l.sumBusy = l.sumBytes*kept+float64(l.bytes), l.sumBusy*kept+max(busy, 1e-6)
	l.state.Goodput, l.state.AtLeast = l.sumBytes/l.sumBusy, false
	l.rates.add(float64(l.bytes), max(busy, 1e-6))
	l.state.Goodput10, l.state.Goodput50 = l.rates.quantiles(l.state.Goodput)
}

// RoundTrip books a round trip measured in another way.
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

// base is the shortest of the latest round trips: what the way itself takes, without what queues on it. Filling the link by a round
// trip that counts the queue would make the queue longer, which makes the round trip longer, and so on. It is 0 before the
// first, and locked by the caller.
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

const baseTrips = 16 // so few that a way that has become longer is known as such soon

// BaseTrip is the same for others.
func (l *Link) BaseTrip() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Duration(l.base() * float64(time.Second))
}

// Stale is the time since a round trip was last measured.
func (l *Link) Stale(now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return now.Sub(l.lastRT)
}

// Stalled books that the connection stood still although the goodput promised otherwise.
func (l *Link) Stalled() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Goodput /= 2
	l.sumBytes /= 2
	l.smallBytes /= 2
	l.store()
}

// Backlog takes over the spool's backlog.
func (l *Link) Backlog(records, bytes int64, share float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.BacklogTasks, l.state.BacklogBytes, l.state.BacklogShare = records, bytes, share
	l.store()
}

// Carries is how many bytes of records the link carries in the time given; unmeasured is assumed before it is known.
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

// Records is how many bytes of records a message of so many bytes holds.
func (l *Link) Records(message int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	growth := l.state.Growth
	if growth == 0 {
		growth = unmeasuredGrowth
	}
	return int(min(float64(message)/max(growth, 0.01), 1<<30))
}

// Message is room for a message of so many bytes of records: what the last ones took, and some more.
func (l *Link) Message(records int) int {
	growth := l.State().Growth * 1.25
	if growth == 0 {
		growth = unmeasuredGrowth
	}
	return int(float64(records)*growth) + 1024
}

const unmeasuredGrowth = 1.5 // the readable form makes messages a third larger than their records, and more where there are escapes

// Takes is how long the acknowledgement of so many bytes of records may take before the link counts as late: twice what was
// measured, and some time for a broker or host that is busy otherwise.
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

// ewma moves an average towards a sample; the first sample is the average.
func ewma(average, sample, weight float64) float64 {
	if average == 0 {
		return sample
	}
	return average + weight*(sample-average)
}

// rates are the link's latest rates, each over the same stretch of busy time: those of single measurements would say less of the
// link than of how acknowledgements happen to come. They are the link's, under its lock.
type rates struct {
	bytes, busy float64 // of the stretch that is under way
	latest      [rateStretches]float64
	at, n       int
}

const (
	rateStretch   = 0.25 // s of busy time, short enough to show a dip
	rateStretches = 240  // a minute of busy time
)

// add takes in so many bytes acknowledged over so much busy time in s. One measurement may be of many stretches, as after a
// stall: they were all as slow.
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

// quantiles are the rates below which a tenth and a half of the stretches were; smoothed stands for them before the first is
// over.
func (r *rates) quantiles(smoothed float64) (tenth, half float64) {
	if r.n == 0 {
		return smoothed, smoothed
	}
	sorted := r.latest
	slices.Sort(sorted[:r.n])
	return sorted[(r.n-1)/10], sorted[(r.n-1)/2]
}
