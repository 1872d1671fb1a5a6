package kin

import (
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"app-offload/functions/task"
)

// loops breaks feedback by a relay that strips the tags from a result and adds a reading of its own. The relay's event is not an echo, as one of its
// readings is new, so it is computed on; the relay republishes that result too, and so on, with every service on the bus.
//
// A relay sends because a result was published; a device sends regardless. So each event that republishes a result, that is one with a result's name
// and value among its readings, is compared with the results made of earlier such events of its device. The event counts as fed if one of these has
// that value, each of them once. A device with mostly fed events is treated as a relay, and its republished results are skipped. That ends the loop,
// as nothing more is published that the relay could republish, and it is also a test: a device that was mistaken for a relay, as it has a resource
// Power_max beside Power and both are constant, continues to send although nothing is published. After unfedStreak such events in a row, over at
// least unfedTime, it counts as a device again, and needs more evidence the next time. A reading with a result's name and its own value restarts the
// count.
//
// The methods are safe for concurrent use. At most maxPassing devices are remembered.
type loops struct {
	mu      sync.Mutex
	devices map[uint64]*passing // by the hash of the device's name
	named   []string            // devices that were treated as relays, the latest last
}

// passing is the state of a device that has republished a result.
type passing struct {
	points, needs int // evidence of its events, and the evidence that makes it a relay
	relay         bool
	unfed         int       // of a relay, the number of events in a row that republished nothing new
	fed           time.Time // of a relay, when it last republished something new
	serial        uint64    // of the latest republished result
	value         uint64    // republished last
	own           []uint64  // hashes of the names of its other readings, the latest last
	made          []uint64  // hashes of the readings of results made of these, and not yet republished, the latest last
}

// The evidence of an event. Constant values are weak evidence.
const (
	pointsNew   = 16 // fed with a value other than the previous one
	pointsSame  = 2  // fed with the same value
	pointsUnfed = -1
	relayPoints = 128
	maxPoints   = 1 << 30
	unfedStreak = 16
	unfedTime   = 3 * time.Second // longer than a published result takes through a relay

	maxPassing  = 1 << 8
	maxOwn      = 16
	maxMade     = 1 << 10
	relaysNamed = 3
)

// published records the readings of a result, given the hashes of their names and values, of the device, and of the possible names of the source
// reading.
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

// feeds records an event with readings that have a result's name; own are the names of its other readings. It reports whether to skip the event, and
// whether the device was just found to be a relay.
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

// count adds the evidence of one more event.
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

// makeRoom removes the devices that are not relays if there are too many devices, and all devices if that is not enough.
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

// names returns the devices that were last treated as relays.
func (l *loops) names() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.named, ", ")
}

// device returns the hash of a device's name.
func (k *Kin) device(name string) uint64 { return maphash.String(k.seed, name) }

// feedsBack reports whether an event that republishes a result beside its own reading is from a relay.
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

// unlike returns the hashes of the names of an event's readings that no result has.
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
