package decision

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// index finds a decision by event and chunk, for answers that do not know its id. It holds ids alone, in buckets of one cache
// line each that the oldest leave first, so it neither locks nor grows; an id in it may be that of another event, which
// the caller must check. With the buckets half as many as the ring has entries, about one in a thousand is pushed out
// before the ring forgets it.
type index struct {
	seed    maphash.Seed
	buckets []bucket
}

type bucket [8]atomic.Uint64

func newIndex(entries int) index {
	n := 1 << bits.Len(uint(max(entries, 2)/2-1))
	return index{seed: maphash.MakeSeed(), buckets: make([]bucket, n)}
}

func (x *index) bucket(eventID string, chunk int) *bucket {
	h := maphash.String(x.seed, eventID[:min(len(eventID), maxText)]) + uint64(chunk)*0x9e3779b97f4a7c15 // any number is as good
	return &x.buckets[(h^h>>32)&uint64(len(x.buckets)-1)]
}

// put takes the place of the oldest. Two at once may choose the same place, and one of them is then not found.
func (x *index) put(eventID string, chunk int, id uint64) {
	b := x.bucket(eventID, chunk)
	oldest := 0
	for i := range b {
		if b[i].Load() < b[oldest].Load() {
			oldest = i
		}
	}
	b[oldest].Store(id)
}

func (x *index) candidates(eventID string, chunk int) (ids [8]uint64) {
	b := x.bucket(eventID, chunk)
	for i := range b {
		ids[i] = b[i].Load()
	}
	return ids
}
