package kin

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"app-offload/functions/task"
)

// loops ends what a relay feeds back that strips the tags from a result and adds a reading of its own: its event is not an echo, as one
// of its readings is new, and is computed on; the relay takes up that result, too, and so on, with every service on the bus.
//
// A relay sends because a result was published; a device sends anyway. So each event that passes a result on, which is to have a reading
// with a result's name and value, is held against the results that were made of such events of its device before. The event is fed where one
// of these has that value, each of them once. A device of which most events are fed is taken for a relay, and what it
// passes on is skipped. That ends the loop, as nothing more is published that the relay could take up, and it is a test at the same time: a
// device that was taken for a relay by mistake, as it has a resource Power_max beside Power and both stand still, goes on sending
// although nothing is published. After unfedStreak such events in a row, over unfedTime at least, it is a device again, and is not taken for a relay as easily the next time. A
// value of its own under a result's name begins the count anew.
//
// The methods are safe for concurrent use. At most maxPassing devices are remembered.
type loops struct {
	mu      sync.Mutex
	devices map[uint64]*passing // by the hash of the device's name
	named   []string            // devices that were taken for relays, the latest last
}

// passing is what is known of one device that has passed a result on.
type passing struct {
	points, needs int // what its events have given, and how much makes a relay of it
	relay         bool
	unfed         int       // of a relay, the events in a row that passed on nothing new
	fed           time.Time // of a relay, when it passed on something new last
	serial        uint64    // of the latest result that was passed on
	value         uint64    // that was passed on last
	own           []uint64  // the hashes of the names of its other readings, the latest last
	made          []uint64  // the hashes of the results' readings that were made of these, and not yet passed on, the latest last
}

// What an event gives. Values that stand still are weak evidence.
const (
	pointsNew   = 16 // for being fed with another value than the one before it
	pointsSame  = 2  // for being fed with the same one
	pointsUnfed = -1
	relayPoints = 128
	maxPoints   = 1 << 30
	unfedStreak = 16
	unfedTime   = 3 * time.Second // longer than what was published is on its way through a relay

	maxPassing  = 1 << 8
	maxOwn      = 16
	maxMade     = 1 << 10
	relaysNamed = 3
)

// published books the readings of a result, given the hashes of their names and values, of a device, and of the names that the reading may
// have that it was made of.
func (l *loops) published(device uint64, of, readings []uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.devices[device]
	if p == nil || !slices.ContainsFunc(of, func(name uint64) bool { return slices.Contains(p.own, name) }) {
		return
	}
	p.made = append(p.made, readings...)
	p.made = slices.Delete(p.made, 0, max(0, len(p.made)-maxMade))
}

// feeds books an event of which some readings have a result's name, and own the others' names. It reports whether the event is to be
// skipped, and whether the device has just been taken for a relay.
func (l *loops) feeds(device uint64, e echo, own []uint64, name string, now time.Time) (skip, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.devices[device]
	if p == nil {
		if !e.passes || e.own {
			return false, false
		}
		l.makeRoom()
		p = &passing{needs: relayPoints}
		l.devices[device] = p
	}
	p.count(e, now)
	for _, name := range own {
		if !slices.Contains(p.own, name) {
			p.own = append(p.own, name)
		}
	}
	p.own = slices.Delete(p.own, 0, max(0, len(p.own)-maxOwn))
	if p.points >= p.needs && !p.relay {
		p.relay, p.fed, found = true, now, true
		if !slices.Contains(l.named, name) {
			l.named = append(l.named, strings.Clone(name))
			l.named = l.named[max(0, len(l.named)-relaysNamed):]
		}
	}
	return p.relay && !e.own, found
}

// count says what one more event is evidence of.
func (p *passing) count(e echo, now time.Time) {
	news := !e.own && e.serial > p.serial
	p.serial = max(p.serial, e.serial)
	if p.relay {
		if p.unfed++; news {
			p.unfed, p.fed = 0, now
		}
		if p.unfed >= unfedStreak && now.Sub(p.fed) >= unfedTime {
			p.relay, p.points, p.unfed, p.needs = false, 0, 0, min(2*p.needs, maxPoints)
		}
		return
	}
	at := slices.Index(p.made, e.value)
	switch {
	case e.own:
		p.points = 0
	case at < 0:
		p.points = max(0, p.points+pointsUnfed)
	case e.value != p.value:
		p.points += pointsNew
	default:
		p.points += pointsSame
	}
	if at >= 0 {
		p.made = slices.Delete(p.made, at, at+1)
	}
	p.value = e.value
}

// makeRoom forgets the devices that are not relays where there are too many, and all where that does not suffice.
func (l *loops) makeRoom() {
	if l.devices == nil {
		l.devices = map[uint64]*passing{}
	}
	if len(l.devices) < maxPassing {
		return
	}
	for device, p := range l.devices {
		if !p.relay {
			delete(l.devices, device)
		}
	}
	if len(l.devices) >= maxPassing {
		clear(l.devices)
	}
}

// names lists the devices that were taken for relays last.
func (l *loops) names() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.named, ", ")
}

// device is the hash of a device's name.
func (k *Kin) device(name string) uint64 { return maphash.String(k.seed, name) }

// feedsBack reports whether an event that passes a result on, beside a reading of its own, is of a relay.
func (k *Kin) feedsBack(ev *task.Event, e echo) bool {
	if !e.passes && !e.own {
		return false
	}
	skip, found := k.loops.feeds(k.device(ev.Device), e, k.unlike(ev), ev.Device, time.Now())
	if found {
		k.log.Warnf("skipping events of a device that republishes results without their tags: device=%q topic=%q source=%q "+
			"(services would compute on their own results; publish such events on a topic to which no app-offload subscribes)", ev.Device, ev.Topic, ev.Source)
	}
	return skip
}

// unlike lists the hashes of the names of an event's readings that no result has.
func (k *Kin) unlike(ev *task.Event) (names []uint64) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for i := range ev.Readings[:min(len(ev.Readings), maxOwn)] {
		if h := maphash.String(k.seed, ev.Readings[i].Resource); k.depth[h] == 0 {
			names = append(names, h)
		}
	}
	return names
}
