package local

import (
	"container/list"
	"strings"

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

func newTable() table { return table{entries: map[key]*entry{}, order: list.New()} }

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
