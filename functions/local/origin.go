package local

import (
	"math"
	"time"

	"app-offload/functions/task"
)

// earliest is a time in ns, of 1973, below which a time stamp is rather one of another unit: 1973 in ns is in the year 5138 in s.
const earliest = 1e17

// near is how far a time of 1970 may lie from that of reception to be believed: the clocks of both begin there without a battery.
const near = int64(366 * 24 * time.Hour)

// units are those in which device services stamp readings although EdgeX wants ns.
var units = [...]struct {
	name string
	ns   int64
}{{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}

// inNS is a time stamp in ns, and the unit that it had; "" means that it is none in any unit.
func inNS(at, received int64) (ns int64, unit string) {
	if at >= earliest || at > 0 && max(at, received)-min(at, received) <= near {
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

// when is the event time of a reading: its own, or its event's, or that of reception where neither can be.
func (w *worker) when(t *task.Task, r *task.Reading) int64 {
	received := t.Received
	if received <= 0 {
		received = w.p.now()
	}
	received = w.p.clock.Wall(received).UnixNano() // as the devices of now have it
	at := r.Origin
	if at <= 0 {
		at = t.Origin
	}
	if at == 0 {
		return received
	}
	at, unit := inNS(at, received)
	switch unit {
	case "ns":
	case "":
		w.p.counts.replaced.Add(1)
		w.p.notices.say("origin/"+t.Device, "origin of readings is no time: replaced by the time of reception device=%q origin=%d", t.Device, r.Origin)
		return received
	default:
		w.p.counts.converted.Add(1)
		w.p.notices.say("origin/"+t.Device, "origin of readings is not in ns: converted device=%q unit=%s origin=%d", t.Device, unit, r.Origin)
	}
	if at > received && at-received > w.rules.limits.ahead {
		w.p.counts.ahead.Add(1)
		return received
	}
	// Far enough from the end of time for windows to be added.
	return min(at, math.MaxInt64/2)
}
