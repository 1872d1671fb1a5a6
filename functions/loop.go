package functions

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"app-offload/functions/task"
)

// loops bounds what a relay feeds back that strips the tags from a result and adds a reading of its own: its event is not an echo, as one
// of its readings is new, and is computed on; the relay takes up that result, too, and so on, with every service on the bus.
//
// A relay is known by the readings that it passes on: each has the name and the value of a result that was published before. A device that
// has a resource called like a result, such as Power_max beside Power, has values of its own there. So a device is taken for a relay after
// relayStreak of its events in a row had a value each that was published before, another one each time, and none under a result's name
// that was not. From then on one such event of it is computed on every relayEvery, and the others are skipped. That a loop goes on, at that pace, is
// the price for a device that is taken for a relay by mistake: it loses nothing that comes no faster.
//
// The methods are safe for concurrent use. At most maxRelays devices are remembered.
type loops struct {
	mu      sync.Mutex
	devices map[uint64]*passed // by the hash of the device's name
	named   []string           // devices that were taken for relays, the latest last
}

// passed is what is known of one device that has passed a result on.
type passed struct {
	streak   int
	last     uint64    // the value passed on last
	admitted time.Time // when the last event was computed on that is bounded
}

const (
	relayStreak = 8
	relayEvery  = time.Second
	maxRelays   = 1 << 12
	relaysNamed = 3
)

// bounded books an event of which some readings have a result's name. value is the hash of one that was published before, and own says that
// another was not. It reports whether the event is to be skipped, and whether the device has just been taken for a relay.
func (l *loops) bounded(device, value uint64, own bool, name string, now time.Time) (skip, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.devices[device]
	switch {
	case own:
		delete(l.devices, device)
		return false, false
	case p == nil:
		if l.devices == nil || len(l.devices) >= maxRelays {
			l.devices = map[uint64]*passed{}
		}
		l.devices[device] = &passed{streak: 1, last: value}
		return false, false
	case p.last != value:
		p.streak, p.last = p.streak+1, value
	}
	if p.streak < relayStreak {
		return false, false
	}
	if !p.admitted.IsZero() && now.Sub(p.admitted) < relayEvery {
		return true, false
	}
	found = p.admitted.IsZero()
	p.admitted = now
	if found && !slices.Contains(l.named, name) {
		l.named = append(l.named, strings.Clone(name))
		l.named = l.named[max(0, len(l.named)-relaysNamed):]
	}
	return false, found
}

// names lists the devices that were taken for relays last.
func (l *loops) names() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.named, ", ")
}

// feedsBack reports whether an event that passes a result on, beside a reading of its own, comes too soon after another one of its device.
func (k *kinship) feedsBack(ev *task.Event, e echo) bool {
	if !e.passes && !e.own {
		return false
	}
	skip, found := k.loops.bounded(maphash.String(k.seed, ev.Device), e.value, e.own, ev.Device, time.Now())
	if found {
		k.log.Warnf("device %s passes results on without their tags, and adds readings of its own, so that services compute on their own results: topic=%s source=%s; "+
			"one such event a %v is computed on; publish what it makes on a topic to which no app-offload subscribes", ev.Device, ev.Topic, ev.Source, relayEvery)
	}
	return skip
}

// resultLoop names the device that feeds results back.
func resultLoop(s *Service, m *memory) (Severity, string) {
	n := m.grown("loops", s.kinship.counts[skipLoop].Load())
	return when(n > 0, Warning, "results are fed back to this service by %s: %d of its events within the last minute were skipped, and one a %v is computed on; publish what it makes on a topic to which no app-offload subscribes",
		s.kinship.loops.names(), n, relayEvery)
}
