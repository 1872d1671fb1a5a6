package intake

import (
	"hash/maphash"

	"app-offload/functions/task"
)

// eventID is an event's UUID.
type eventID [16]byte

// identity is what makes an event a repeat of another one: the same id and the same content. An id alone does not, since
// copies of a device's disk and careless device services use one twice.
type identity struct {
	id     eventID
	digest uint64
}

var digestSeed = maphash.MakeSeed()

func identityOf(ev *task.Event) identity {
	return identity{parseEventID(ev.ID), maphash.Bytes(digestSeed, ev.Raw)}
}

// parseEventID reads the text of an id that isUUID has passed.
func parseEventID(text string) (id eventID) {
	n := 0
	for i := 0; i+1 < len(text) && n < len(id); i += 2 {
		if text[i] == '-' {
			i++
		}
		id[n] = hexDigit[text[i]]<<4 | hexDigit[text[i+1]]
		n++
	}
	return id
}

// recentEvents remembers the latest events, so many and no more: the oldest goes for each new one. It belongs to one lock.
type recentEvents struct {
	known map[identity]struct{}
	ids   map[eventID]int // how many of the known, and of those under way, have it
	ring  []identity
	next  int
}

func newRecentEvents(n int) *recentEvents {
	return &recentEvents{known: make(map[identity]struct{}, n), ids: make(map[eventID]int, n), ring: make([]identity, 0, n)}
}

func (r *recentEvents) has(e identity) bool {
	_, ok := r.known[e]
	return ok
}

// hasOther reports whether an event of another content had the id.
func (r *recentEvents) hasOther(id eventID) bool { return r.ids[id] > 0 }

// begin notes the id of an event under way, and end forgets it.
func (r *recentEvents) begin(id eventID) { r.ids[id]++ }

func (r *recentEvents) end(id eventID) {
	if r.ids[id]--; r.ids[id] == 0 {
		delete(r.ids, id)
	}
}

// add takes over an event that was under way.
func (r *recentEvents) add(e identity) {
	if cap(r.ring) == 0 || r.has(e) {
		r.end(e.id)
		return
	}
	r.known[e] = struct{}{}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, e)
		return
	}
	old := r.ring[r.next]
	delete(r.known, old)
	r.end(old.id)
	r.ring[r.next] = e
	r.next = (r.next + 1) % len(r.ring)
}
