package decision

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// index finds a decision by event and chunk, for answers that do not know its id. It holds ids alone, in buckets of one cache
// line each that the oldest leave first, so it neither locks nor grows; an id in it may be that of another event, which
// the caller must check. With the buckets half as many as the ring has entries, about one in a thousand is pushed out
// before the ring forgets it. The bits that an id leaves free hold some of the hash, so that one of another event costs no look at the ring.
type index struct {
	seed    maphash.Seed
	buckets []bucket
}

type bucket [8]atomic.Uint64

// idBits are enough for the ids of NewRing until the year 2255; the rest is of the hash.
const (
	idBits = 53
	idMask = 1<<idBits - 1
)

func newIndex(entries int) index {
	n := 1 << bits.Len(uint(max(entries, 2)/2-1))
	return index{seed: maphash.MakeSeed(), buckets: make([]bucket, n)}
}

// bucket gives the bucket of a chunk, and its bits of the hash.
func (x *index) bucket(eventID string, chunk int) (b *bucket, sign uint64) {
	h := maphash.String(x.seed, eventID[:min(len(eventID), maxText)]) + uint64(chunk)*0x9e3779b97f4a7c15 // any number is as good
	return &x.buckets[(h^h>>32)&uint64(len(x.buckets)-1)], h &^ idMask
}

// put takes the place of the oldest. Two at once may choose the same place, and one of them is then not found.
func (x *index) put(eventID string, chunk int, id uint64) {
	b, sign := x.bucket(eventID, chunk)
	oldest := 0
	for i := range b {
		if b[i].Load()&idMask < b[oldest].Load()&idMask {
			oldest = i
		}
	}
	b[oldest].Store(id&idMask | sign)
}

// candidates are the ids that may be of the chunk, and zeros.
func (x *index) candidates(eventID string, chunk int) (ids [8]uint64) {
	b, sign := x.bucket(eventID, chunk)
	for i := range b {
		if id := b[i].Load(); id&^idMask == sign {
			ids[i] = id & idMask
		}
	}
	return ids
}
