package local

// wake looks through all entries for what time alone brings about.
func (w *worker) wake() {
	now := w.p.now()
	if due := w.pending.due(); due != 0 && due <= now {
		w.retry(now)
	}
	w.next = 0
	if ttl := w.rules.limits.ttl; ttl > 0 {
		for e := w.table.oldest(); e != nil && e.seen+ttl <= now; e = w.table.oldest() {
			w.evict(e, evictTTL)
		}
		if e := w.table.oldest(); e != nil {
			w.next = e.seen + ttl
		}
	}
	for at := w.table.order.Front(); at != nil; at = at.Next() {
		e := at.Value.(*entry)
		for _, c := range e.chains {
			w.wakeChain(e, c, now)
			w.next = sooner(w.next, c.due())
		}
	}
}

// wakeChain wakes the stages that are due. No task waits for the answer: what can fail is counted where it fails.
func (w *worker) wakeChain(e *entry, c *running, now int64) {
	for i := range c.stages {
		if due := c.stages[i].due(); due != 0 && due <= now {
			_ = w.call(e, c, i, func(s stage, out *outlet) { s.wake(now, out) })
		}
	}
}

// end lets the stages of a chain give out what they hold, those in front first.
func (w *worker) end(e *entry, c *running, why string) {
	for i := range c.stages {
		_ = w.call(e, c, i, func(s stage, out *outlet) { s.end(why, out) })
	}
}

// forget makes room for another entry.
func (w *worker) forget(e *entry) {
	w.table.remove(e)
	w.known.forget(e.key.hash(), w.p)
	w.p.counts.keys.Add(-1)
}

// evict forgets an entry, and publishes what it holds.
func (w *worker) evict(e *entry, why string) {
	for _, c := range e.chains {
		w.end(e, c, "evicted")
	}
	w.forget(e)
	w.p.counts.evicted.add(why, 1)
}

// refresh takes over a new configuration, if there is one, before anything else is done with the old.
func (w *worker) refresh() {
	r := w.p.rules.Load()
	if r == w.rules {
		return
	}
	w.rules = r
	w.next = w.p.now() // a new TTL may be due at once
	for at := w.table.order.Front(); at != nil; {
		e := at.Value.(*entry)
		at = at.Next()
		w.rebuild(e)
	}
}

// rebuild gives an entry the chains of the new rules; those whose text is the same go on with their state.
func (w *worker) rebuild(e *entry) {
	old := make(map[string]*running, len(e.chains))
	for _, c := range e.chains {
		old[c.text] = c
	}
	before := e.chains
	e.chains = begin(w.rules.plans[e.class], e.resource, old)
	for _, c := range before {
		if old[c.text] == c {
			w.end(e, c, "reload")
		}
	}
	if len(e.chains) == 0 {
		w.forget(e)
	}
}

// finish publishes the windows that are still open, and tries a last time to publish the pending results.
func (w *worker) finish() {
	for e := w.table.oldest(); e != nil; e = w.table.oldest() {
		if !w.p.aborted() {
			for _, c := range e.chains {
				w.end(e, c, "stop")
			}
		}
		w.forget(e)
	}
	if !w.p.aborted() {
		w.retry(w.p.now())
	}
	n := len(w.pending.results)
	w.pending.drop(n)
	w.p.counts.pending.Add(int64(-n))
	w.p.counts.dropped.add(dropStop, n)
}
