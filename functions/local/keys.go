package local

import (
	"container/list"
	"strings"
	"sync"
	"time"

	"app-offload/functions/task"
)

// key is what state is kept for.
type key struct{ class, device, resource string }

// entry is all that is remembered about one resource of one device under one class.
type entry struct {
	key
	profile string
	units   string
	lastID  []byte // of the event that came last
	lastCID []byte // its correlation id
	hop     int    // the highest of its events
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
	at     int // the stage that has the word, to name the one that panics
}

func (c *chain) start() *running {
	r := &running{chain: c, stages: make([]stage, len(c.builders))}
	for i, build := range c.builders {
		r.stages[i] = build()
	}
	return r
}

// due is the earliest time at which one of the stages wants to be woken, 0 for none.
func (r *running) due() int64 {
	next := int64(0)
	for _, s := range r.stages {
		next = sooner(next, s.due())
	}
	return next
}

// sooner is the lesser of two times of which 0 is never.
func sooner(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// table holds the entries of one worker, the one silent longest at the back.
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

// add puts a new entry in front. Its strings are copies: those of a task may point into the event's bytes.
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

// oldest is the entry that was silent longest, nil without entries.
func (t *table) oldest() *entry {
	if back := t.order.Back(); back != nil {
		return back.Value.(*entry)
	}
	return nil
}

// describe notes what results say about their origin. It copies only what changed.
func (e *entry) describe(t *task.Task, r *task.Reading) {
	if e.profile != t.Profile {
		e.profile = strings.Clone(t.Profile)
	}
	if e.units != r.Units {
		e.units = strings.Clone(r.Units)
	}
	e.lastID = append(e.lastID[:0], t.EventID...)
	e.lastCID = append(e.lastCID[:0], t.CorrelationID...)
	e.hop = max(e.hop, t.Lineage.Hop)
}

// Local.MaxKeys bounds the resources that are remembered. At the bound, resources that have state keep it, and the tasks of others are
// sent away: to give the place of one to another, again and again, would leave no window with more than one value. A resource takes its place
// when the first of its tasks is decided, in ReadsAll, since what a worker hands back is overtaken by what comes after it.

// known are the resources of one worker's devices that have a place, by the hash of their keys: 0 for those with state, and for those that are
// still without, when they took it. It is safe for concurrent use.
type known struct {
	mu   sync.Mutex
	keys map[uint64]int64
}

// admit gives a resource a place, if it has none, and reports false where none is free.
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

// settle notes that a resource has state now.
func (n *known) settle(hash uint64) {
	n.mu.Lock()
	n.keys[hash] = 0
	n.mu.Unlock()
}

// forget gives the place of a resource back.
func (n *known) forget(hash uint64, p *Processor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.keys[hash]; ok {
		delete(n.keys, hash)
		p.places.Add(-1)
	}
}

// sweep gives back the places of resources that took them before a time and have no state yet: their tasks went elsewhere.
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

// idle is how long a place is kept for a resource without state, and how often such places are looked for.
const idle = int64(10 * time.Minute)

// sweep gives back unused places, at most once in a while, and reports whether it did look.
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

// hash is FNV-1a. Two keys of one hash do no harm: the worker knows them by their names.
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

// turnAway reports whether a resource finds no room, and counts it.
func (p *Processor) turnAway(r *rules, k key) bool {
	hash, now := k.hash(), p.now()
	places := &p.workerOf(k.device).known
	if places.admit(hash, now, p, r.limits.keys) || p.sweep(now) && places.admit(hash, now, p, r.limits.keys) {
		return false
	}
	p.counts.full.Add(1)
	if need := p.crowd.came(hash, r.limits.keys); need > 0 {
		p.notices.say("full", "operators remember no further resources: their tasks go to the cloud; set Local.MaxKeys to at least %d max=%d", need, r.limits.keys)
	}
	return true
}

// crowd estimates how many resources there are. It is safe for concurrent use.
type crowd struct {
	mu    sync.Mutex
	seen  map[uint64]struct{} // those that were turned away
	asked bool
}

// maxCrowd bounds the resources that are counted.
const maxCrowd = 1 << 16

// came takes one that was turned away. Once one comes again, all have probably come by, and the answer is the number that there should be
// room for; it is 0 before that and afterwards.
func (c *crowd) came(hash uint64, room int) (need int) {
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
	need = (need + need/4 + 999) / 1000 * 1000 // and a quarter more, for what comes seldom
	c.seen, c.asked = nil, true
	return need
}
