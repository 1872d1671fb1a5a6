package spool

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// fates remembers what became of sequences, as a bounded number of ranges that forgets the lowest first.
type fates struct {
	max    int
	ranges []fateRange // ascending, apart from each other
}

type fateRange struct {
	lo, hi uint64 // both included
	why    string
}

// add records the fate of lo … hi. The latest call wins where ranges overlap.
func (f *fates) add(lo, hi uint64, why string) {
	i := f.at(lo)
	if i < len(f.ranges) && f.ranges[i].lo <= lo && f.ranges[i].hi >= hi && f.ranges[i].why == why {
		return
	}
	i = f.clear(i, lo, hi)
	if i > 0 && f.ranges[i-1].why == why && f.ranges[i-1].hi+1 == lo {
		i--
		f.ranges[i].hi = hi
	} else {
		f.ranges = slices.Insert(f.ranges, i, fateRange{lo, hi, why})
	}
	if i+1 < len(f.ranges) && f.ranges[i+1].why == why && f.ranges[i+1].lo == hi+1 {
		f.ranges[i].hi = f.ranges[i+1].hi
		f.ranges = slices.Delete(f.ranges, i+1, i+2)
	}
	f.trim(f.max)
}

// trim forgets the lowest ranges beyond a number.
func (f *fates) trim(most int) {
	if n := len(f.ranges) - most; n > 0 {
		f.ranges = f.ranges[n:] // which moves nothing; the room goes when the rest grows
	}
}

// clear cuts lo … hi out of the ranges from i on and says where a range for it belongs.
func (f *fates) clear(i int, lo, hi uint64) int {
	if i < len(f.ranges) && f.ranges[i].lo < lo {
		right := f.ranges[i]
		f.ranges[i].hi = lo - 1
		i++
		if right.hi > hi {
			right.lo = hi + 1
			f.ranges = slices.Insert(f.ranges, i, right)
			return i
		}
	}
	j := i
	for j < len(f.ranges) && f.ranges[j].hi <= hi {
		j++
	}
	f.ranges = slices.Delete(f.ranges, i, j)
	if i < len(f.ranges) && f.ranges[i].lo <= hi {
		f.ranges[i].lo = hi + 1
	}
	return i
}

// forget takes back what was told of a sequence.
func (f *fates) forget(seq uint64) {
	if i := f.at(seq); i < len(f.ranges) && f.ranges[i].lo <= seq {
		f.clear(i, seq, seq)
	}
}

func (f *fates) of(seq uint64) string {
	why, _ := f.run(seq)
	return why
}

// run is of, and the end of the range.
func (f *fates) run(seq uint64) (why string, last uint64) {
	if i := f.at(seq); i < len(f.ranges) && f.ranges[i].lo <= seq {
		return f.ranges[i].why, f.ranges[i].hi
	}
	return FateUnknown, seq
}

// before is the last sequence ahead of the next range behind seq.
func (f *fates) before(seq uint64) uint64 {
	if i := f.at(seq); i < len(f.ranges) {
		return max(f.ranges[i].lo, 1) - 1
	}
	return math.MaxUint64
}

// at is the index of the first range that does not end before seq.
func (f *fates) at(seq uint64) int {
	return sort.Search(len(f.ranges), func(i int) bool { return f.ranges[i].hi >= seq })
}

func (f *fates) encode(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(f.ranges)))
	at := uint64(0)
	for _, r := range f.ranges {
		b = binary.AppendUvarint(b, r.lo-at)
		b = binary.AppendUvarint(b, r.hi-r.lo)
		b = appendString(b, r.why)
		at = r.hi
	}
	return b
}

func (f *fates) decode(d *decoder) {
	at := uint64(0)
	for n := d.count(3); n > 0 && d.err == nil; n-- {
		lo := at + d.uvarint()
		hi := lo + d.uvarint()
		why := d.string()
		if lo < at || hi < lo {
			d.fail()
			return
		}
		f.ranges = append(f.ranges, fateRange{lo, hi, why})
		at = hi
	}
}
