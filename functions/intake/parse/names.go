package parse

import (
	"hash/maphash"
	"sync/atomic"
)

// names holds the names of devices, profiles, sources, resources, units and media types that occurred lately. They are
// copied out of the payload, because a name that is kept somewhere must not keep a whole camera frame alive.
var names nameTable

const (
	nameSlots = 4096 // at most 0.5 MiB of names
	nameLimit = 128  // longer ones are copied each time
)

// nameTable is a cache with one place for each hash: a newer name takes an older one's place. It needs no lock.
type nameTable struct {
	slots [nameSlots]atomic.Pointer[string]
}

var nameSeed = maphash.MakeSeed()

func (t *nameTable) get(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > nameLimit {
		return string(b)
	}
	slot := &t.slots[maphash.Bytes(nameSeed, b)%nameSlots]
	if known := slot.Load(); known != nil && *known == string(b) {
		return *known
	}
	name := string(b)
	slot.Store(&name)
	return name
}
