package local

import (
	"sync"
	"time"
)

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
