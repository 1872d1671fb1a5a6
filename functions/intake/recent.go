package intake

// eventID is an event's UUID.
type eventID [16]byte

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

// recentIDs remembers the latest ids, so many and no more: the oldest goes for each new one. It belongs to one lock.
type recentIDs struct {
	known map[eventID]struct{}
	ring  []eventID
	next  int
}

func newRecentIDs(n int) *recentIDs {
	return &recentIDs{known: make(map[eventID]struct{}, n), ring: make([]eventID, 0, n)}
}

func (r *recentIDs) has(id eventID) bool {
	_, ok := r.known[id]
	return ok
}

func (r *recentIDs) add(id eventID) {
	if cap(r.ring) == 0 || r.has(id) {
		return
	}
	r.known[id] = struct{}{}
	if len(r.ring) < cap(r.ring) {
		r.ring = append(r.ring, id)
		return
	}
	delete(r.known, r.ring[r.next])
	r.ring[r.next] = id
	r.next = (r.next + 1) % len(r.ring)
}
