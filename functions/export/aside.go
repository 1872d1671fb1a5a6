package export

// setAside gives up what the window found to be beyond hope, and gives back what the spool is to hand out again.
func (x *Exporter) setAside() {
	for _, a := range x.window.asides {
		x.deps.Spool.Drop(a.seqs, a.reason)
		x.stats.do(func(s *Stats) { s.SetAside += uint64(len(a.seqs)) })
		x.sayAside(a)
	}
	x.window.asides = nil
	if given := x.window.given; len(given) > 0 {
		x.window.given = nil
		x.deps.Spool.Release(given)
	}
}

// sayAside logs the first record of a reason, and then one in a while: there may be thousands, and the spool counts all of them by class
// and reason.
func (x *Exporter) sayAside(a aside) {
	count, due := x.asides.Add(a.reason, len(a.seqs))
	if !due {
		x.deps.Log.Debugf("dropping record: seq=%d class=%q bytes=%d reason=%s", a.seqs[0], a.class, a.bytes, a.reason)
		return
	}
	x.deps.Log.Warnf("dropping record: seq=%d class=%q bytes=%d reason=%s detail=%q count=%d (similar messages suppressed for %v)",
		a.seqs[0], a.class, a.bytes, a.reason, a.detail, count, x.asides)
}

var explain = map[string]string{
	reasonUnreceipted: "the broker acknowledges it but the consumer never gets it; look for a size limit or an access rule at the broker",
	reasonMalformed:   "it cannot be sealed, while others of its class can",
}
