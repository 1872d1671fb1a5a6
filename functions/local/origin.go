package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

// earliest is the least plausible time stamp in ns, in 1973. A smaller value is rather in another unit: read in s, it would be in the year 5138.
const earliest = 1e17

// near is the maximum distance of a time of 1970 from the time of reception: without a battery, the clocks of device and node begin in 1970.
const near = int64(366 * 24 * time.Hour)

// units are the other units of time stamps that device services use, although EdgeX requires ns.
var units = [...]struct {
	name string
	ns   int64
}{{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}

// inNS converts a time stamp to ns and returns its unit; "" means that no unit fits.
func inNS(at, received int64) (ns int64, unit string) {
	if at <= 0 {
		return 0, ""
	}
	if at >= earliest || max(at, received)-min(at, received) <= near {
		return at, "ns"
	}
	for _, u := range units {
		if at > math.MaxInt64/2/u.ns {
			break
		}
		if at*u.ns >= earliest {
			return at * u.ns, u.name
		}
	}
	return 0, ""
}

// when returns the event time of a reading: its origin, the event's origin, or the time of reception if neither is valid.
func (w *worker) when(t *task.Task, origin int64) int64 {
	received := t.Received
	if received <= 0 {
		received = w.p.now()
	}
	received = w.p.clock.Wall(received).UnixNano() // in wall time, as devices use now
	if origin <= 0 {
		origin = t.Origin
	}
	if origin == 0 {
		return received
	}
	at, unit := inNS(origin, received)
	switch unit {
	case "ns":
	case "":
		w.p.counts.replaced.Add(1)
		w.p.notices.say("origin/"+t.Device, "origin of readings is not a valid time, using the time of reception: device=%q origin=%d", t.Device, origin)
		return received
	default:
		w.p.counts.converted.Add(1)
		w.p.notices.say("origin/"+t.Device, "origin of readings is not in ns, converting it: device=%q unit=%s origin=%d", t.Device, unit, origin)
	}
	if at-received > w.rules.limits.ahead {
		w.p.counts.ahead.Add(1)
		return received
	}
	// Cap the time so that adding windows cannot overflow.
	return min(at, math.MaxInt64/2)
}
