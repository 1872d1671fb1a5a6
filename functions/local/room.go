package local

import "sync"

// Local.MaxKeys bounds the resources that are remembered. At the bound, resources that have state keep it, and the tasks of others are
// sent away: to give the place of one to another, again and again, would leave no window with more than one value. ReadsAll must know that before
// a task is on its way, since what a worker hands back is overtaken by what comes after it.

// known are the resources that one worker remembers, by the hash of their keys, for ReadsAll to see. It is safe for concurrent use.
type known struct {
	mu   sync.RWMutex
	keys map[uint64]struct{}
}

func (n *known) has(hash uint64) bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	_, ok := n.keys[hash]
	return ok
}

func (n *known) add(hash uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.keys == nil {
		n.keys = map[uint64]struct{}{}
	}
	n.keys[hash] = struct{}{}
}

func (n *known) remove(hash uint64) {
	n.mu.Lock()
	delete(n.keys, hash)
	n.mu.Unlock()
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

// full reports whether no further resource is remembered.
func (p *Processor) full(r *rules) bool { return p.counts.keys.Load() >= int64(r.limits.keys) }

// turnAway reports whether a resource finds no room, and counts it.
func (p *Processor) turnAway(r *rules, k key) bool {
	if !p.full(r) {
		return false
	}
	hash := k.hash()
	if p.workerOf(k.device).known.has(hash) {
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
