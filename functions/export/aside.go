package export

import "time"

// asideEvery is the shortest time between two log lines about records given up for the same reason: there may be thousands, and the
// spool counts all of them by class and reason.
const asideEvery = 10 * time.Minute

// asideSaid is what the log knows of one reason to give records up.
type asideSaid struct {
	at    time.Time // of the last line
	since int       // records since
}

// setAside gives up what the window found to be beyond hope, so that it never blocks the rest.
func (x *Exporter) setAside() {
	for _, a := range x.window.asides {
		seqs := appendSequences(nil, a.records)
		x.deps.Spool.Drop(seqs, a.reason)
		x.stats.do(func(s *Stats) { s.SetAside += uint64(len(seqs)) })
		x.sayAside(a, time.Now())
	}
	x.window.asides = nil
}

// sayAside logs the first record of a reason, and then one in a while.
func (x *Exporter) sayAside(a aside, now time.Time) {
	r := &a.records[0]
	known := x.asides[a.reason]
	if known == nil {
		known = &asideSaid{}
		x.asides[a.reason] = known
	}
	known.since += len(a.records)
	if now.Sub(known.at) < asideEvery {
		x.deps.Log.Debugf("export: gave up record %d of class %q, %d bytes: %s", r.Seq, r.Class, len(r.Payload), a.reason)
		return
	}
	x.deps.Log.Warnf("export: gave up record %d of class %q, %d bytes, and %d others before it: %s (the next such line comes in %v at the earliest)",
		r.Seq, r.Class, len(r.Payload), known.since-1, explain[a.reason], asideEvery)
	known.at, known.since = now, 0
}

var explain = map[string]string{
	reasonTooLarge:    "the broker or Seal.MaxMessageKiB does not take it even alone; raise that limit or use a smaller ChunkSize",
	reasonUnreceipted: "the broker acknowledges it but the consumer never gets it; look for a size limit or an access rule at the broker",
	reasonMalformed:   "it cannot be sealed",
}
