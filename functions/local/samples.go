package local

import (
	"cmp"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
)

// budget is the memory a worker may still spend on samples, in bytes. One goroutine uses it.
type budget struct{ free int }

// minSamples are always granted: a window has percentiles even where the budget is used up.
const minSamples = 16

// samples are those of floats; integers are kept as ranks.
type samples = reservoir[float64]

// reservoir keeps the values of a part of a window for percentiles: all of them up to a limit, beyond it a uniform
// random choice of that many (a reservoir). It draws from a fixed seed: the same values give the same choice.
type reservoir[T cmp.Ordered] struct {
	kept []T
	seen int64
	paid int // values the budget was asked for
	rng  rand.PCG
}

// add takes values; limit is how many may be kept.
func (s *reservoir[T]) add(values []T, limit int, b *budget) {
	for _, v := range values {
		s.seen++
		if len(s.kept) < limit && (len(s.kept) < cap(s.kept) || s.grow(limit, b)) {
			s.kept = append(s.kept, v)
			continue
		}
		// A window that could not grow draws from then on; every value seen has the same chance to be among the kept.
		if i, _ := bits.Mul64(s.rng.Uint64(), uint64(s.seen)); i < uint64(len(s.kept)) {
			s.kept[i] = v
		}
	}
}

// grow doubles the room within limit and budget. Once refused it stays refused, since a reservoir that grows later
// would prefer late values.
func (s *reservoir[T]) grow(limit int, b *budget) bool {
	if s.seen-1 != int64(len(s.kept)) {
		return false
	}
	room := min(max(2*cap(s.kept), minSamples), limit)
	cost := (room - cap(s.kept)) * 8
	if room > minSamples {
		if cost > b.free {
			return false
		}
		b.free -= cost
		s.paid += cost
	}
	kept := make([]T, len(s.kept), room)
	copy(kept, s.kept)
	s.kept = kept
	return true
}

// release gives the memory back.
func (s *reservoir[T]) release(b *budget) {
	b.free += s.paid
	*s = reservoir[T]{}
}

// join adds to the parts of a window, and to what they keep and have seen.
func (s *reservoir[T]) join(parts []*reservoir[T], kept, seen int64) ([]*reservoir[T], int64, int64) {
	if len(s.kept) == 0 {
		return parts, kept, seen
	}
	return append(parts, s), kept + int64(len(s.kept)), seen + s.seen
}

// weighing is a kept value and how many seen ones it stands for.
type weighing[T cmp.Ordered] struct {
	value  T
	weight float64
}

type weighted = weighing[float64]

// percentiles computes the nearest-rank percentiles: the smallest kept value that q percent of all values do not
// exceed. qs ascend. scratch is reused; the values of the parts are sorted in place.
func percentiles[T cmp.Ordered](parts []*reservoir[T], qs []float64, scratch []weighing[T], dst []T) ([]weighing[T], []T) {
	scratch = scratch[:0]
	total := 0.0
	for _, s := range parts {
		weight := float64(s.seen) / float64(len(s.kept))
		slices.Sort(s.kept)
		for _, v := range s.kept {
			scratch = append(scratch, weighing[T]{v, weight})
		}
		total += float64(s.seen)
	}
	if len(parts) > 1 {
		slices.SortFunc(scratch, func(a, b weighing[T]) int { return cmp.Compare(a.value, b.value) })
	}
	at, below := 0, 0.0
	for _, q := range qs {
		// The rank is rounded up to a whole value; the little taken off forgives what the division added.
		rank := math.Ceil(q/100*total - 1e-9*total)
		for at < len(scratch)-1 && below+scratch[at].weight < rank-1e-6 {
			below += scratch[at].weight
			at++
		}
		dst = append(dst, scratch[at].value)
	}
	return scratch, dst
}
