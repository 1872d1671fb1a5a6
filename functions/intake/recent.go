package intake

import (
	"hash/maphash"

	"github.com/google/uuid"

	"app-offload/functions/task"
)

// identity is what makes an event a repeat of another one: the same id and the same content. An id alone does not, since
// copies of a device's disk and careless device services use one twice.
type identity struct {
	id     uuid.UUID
	digest uint64
}

var digestSeed = maphash.MakeSeed()

func identityOf(ev *task.Event) identity {
	id, _ := uuid.Parse(ev.ID) // the parser has checked it
	return identity{id, maphash.Bytes(digestSeed, ev.Raw)}
}

// recentEvents remembers the latest events, so many and no more: the oldest goes for each new one. It belongs to one lock.
type recentEvents struct {
	known map[identity]struct{}
	ids   map[uuid.UUID]int // how many of the known, and of those under way, have it
	ring  []identity
	next  int
}

func newRecentEvents(n int) *recentEvents {
	return &recentEvents{known: make(map[identity]struct{}, n), ids: make(map[uuid.UUID]int, n), ring: make([]identity, 0, n)}
}

func (r *recentEvents) has(e identity) bool {
	_, ok := r.known[e]
	return ok
}

// hasOther reports whether an event of another content had the id.
func (r *recentEvents) hasOther(id uuid.UUID) bool { return r.ids[id] > 0 }

// begin notes the id of an event under way, and end forgets it.
func (r *recentEvents) begin(id uuid.UUID) { r.ids[id]++ }

func (r *recentEvents) end(id uuid.UUID) {
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
