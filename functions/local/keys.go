package local

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"app-offload/functions/task"
)

// key identifies the state of one resource.
type key struct{ class, device, resource string }

// entry is the state of one resource of one device under one class.
type entry struct {
	key
	profile string
	units   string // of its latest value
	lastID  []byte // of the latest event
	lastCID []byte // correlation id of the latest event
	hop     int    // highest hop of its events
	seen    int64
	kind    kind // of its values, once typed
	typed   bool
	chains  []*running
	place   *list.Element
}

// running is a chain with its state for one entry.
type running struct {
	*chain
	stages []stage
	at     int // the running stage, which names the operator of a panic
}

func (c *chain) start() *running {
	r := &running{chain: c, stages: make([]stage, len(c.builders))}
	for i, build := range c.builders {
		r.stages[i] = build()
	}
	return r
}

// due returns the earliest time at which a stage wants to be woken, 0 for never.
func (r *running) due() int64 {
	next := int64(0)
	for _, s := range r.stages {
		next = sooner(next, s.due())
	}
	return next
}

// sooner returns the earlier of two times; 0 means never.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// table holds the entries of one worker, in the order of their latest reading, newest first.
type table struct {
	entries map[key]*entry
	order   *list.List
}

// find returns the entry and marks it as used now, or nil.
func (t *table) find(k key, now int64) *entry {
	e := t.entries[k]
	if e != nil {
		e.seen = now
		t.order.MoveToFront(e.place)
	}
	return e
}

// add inserts a new entry at the front. Its strings are copies, since those of a task may point into the event's bytes.
func (t *table) add(k key, now int64) *entry {
	k = key{strings.Clone(k.class), strings.Clone(k.device), strings.Clone(k.resource)}
	e := &entry{key: k, seen: now}
	e.place = t.order.PushFront(e)
	t.entries[k] = e
	return e
}

func (t *table) remove(e *entry) {
	delete(t.entries, e.key)
	t.order.Remove(e.place)
}

// oldest returns the entry with the longest silence, nil without entries.
func (t *table) oldest() *entry {
	if back := t.order.Back(); back != nil {
		return back.Value.(*entry)
	}
	return nil
}

// describe records the origin of future results. It copies only changed strings.
func (e *entry) describe(t *task.Task, units string) {
	if e.profile != t.Profile {
		e.profile = strings.Clone(t.Profile)
	}
	if e.units != units {
		e.units = strings.Clone(units)
	}
	e.lastID = append(e.lastID[:0], t.EventID...)
	e.lastCID = append(e.lastCID[:0], t.CorrelationID...)
	e.hop = max(e.hop, t.Lineage.Hop)
}

// Local.MaxKeys bounds the number of remembered resources. At the bound, resources with state keep it, and the tasks of new resources go to the
// cloud: if resources replaced each other all the time, no window would hold more than one value. ReadsAll reserves a resource's place when its first
// task is decided: if a worker returned the task later, newer tasks would overtake it.

// known holds the resources that have a place, for the devices of one worker, by the hash of their keys. The value is 0 for a resource with state,
// and otherwise the time at which it took the place. It is safe for concurrent use.
type known struct {
	mu   sync.Mutex
	keys map[uint64]int64
}

// admit gives a resource a place, if it has none, and returns false if no place is free.
func (n *known) admit(hash uint64, now int64, p *Processor, most int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.keys[hash]; ok {
		return true
	}
	if p.places.Add(1) > int64(most) {
		p.places.Add(-1)
		return false
	}
	if n.keys == nil {
		n.keys = map[uint64]int64{}
	}
	n.keys[hash] = now
	return true
}

// settle records that a resource has state.
func (n *known) settle(hash uint64) {
	n.mu.Lock()
	n.keys[hash] = 0
	n.mu.Unlock()
}

// forget releases the place of a resource.
func (n *known) forget(hash uint64, p *Processor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.keys[hash]; ok {
		delete(n.keys, hash)
		p.places.Add(-1)
	}
}

// sweep releases the places of resources without state that took them at or before a time: their tasks went to the cloud.
func (n *known) sweep(before int64, p *Processor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for hash, since := range n.keys {
		if since != 0 && since <= before {
			delete(n.keys, hash)
			p.places.Add(-1)
		}
	}
}

// idle is the time for which a resource without state keeps its place, and the minimum interval of sweeps.
const idle = int64(10 * time.Minute)

// sweep releases unused places, and reports whether a sweep was due.
func (p *Processor) sweep(now int64) bool {
	last := p.swept.Load()
	if now-last < idle || !p.swept.CompareAndSwap(last, now) {
		return false
	}
	for _, w := range p.workers {
		w.known.sweep(now-idle, p)
	}
	return true
}

// hash returns the FNV-1a hash. A collision is harmless: the worker compares names.
func (k key) hash() uint64 {
	h := uint64(14695981039346656037)
	for _, s := range [...]string{k.class, k.device, k.resource} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * 1099511628211
		}
		h *= 1099511628211 // a byte of 0 between the names
	}
	return h
}

// turnAway reports whether there is no place for a resource, and counts it.
func (p *Processor) turnAway(r *rules, k key) bool {
	hash, now := k.hash(), p.now()
	places := &p.workerOf(k.device).known
	if places.admit(hash, now, p, r.limits.keys) || p.sweep(now) && places.admit(hash, now, p, r.limits.keys) {
		return false
	}
	p.counts.full.Add(1)
	if need := p.crowd.reject(hash, r.limits.keys); need > 0 {
		p.notices.say("full", "operators remember no further resources: their tasks go to the cloud; set Local.MaxKeys to at least %d max=%d", need, r.limits.keys)
	}
	return true
}

// crowd estimates the number of resources. It is safe for concurrent use.
type crowd struct {
	mu    sync.Mutex
	seen  map[uint64]struct{} // rejected resources
	asked bool
}

// maxCrowd is the maximum number of counted resources.
const maxCrowd = 1 << 16

// reject records a rejected resource. When a resource is rejected a second time, all resources have probably been seen, and reject returns the room they
// need. Otherwise, and from then on, it returns 0.
func (c *crowd) reject(hash uint64, room int) (need int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked {
		return 0
	}
	if c.seen == nil {
		c.seen = map[uint64]struct{}{}
	}
	if _, again := c.seen[hash]; !again && len(c.seen) < maxCrowd {
		c.seen[hash] = struct{}{}
		return 0
	}
	need = room + len(c.seen)
	need = (need + need/4 + 999) / 1000 * 1000 // plus a quarter for rare resources
	c.seen, c.asked = nil, true
	return need
}
