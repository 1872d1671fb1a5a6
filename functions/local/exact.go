package local

import (
	"math"
	"strconv"

	"app-offload/functions/task"
)

// Integers are handed to the operators twice: as float64, to compute with, and as ranks, which are exact. A rank is the distance from
// the least value of 64 bits, so that ranks compare as the values do; see task.AppendRank.

// kind is what an operator needs to know of a type.
type kind uint8

const (
	floats kind = iota // bools too
	signed
	unsigned
)

func kindOf(t task.ValueType) kind {
	switch {
	case t.IsUnsigned():
		return unsigned
	case t.IsInteger():
		return signed
	}
	return floats
}

// signBit is the rank of 0 among signed integers.
const signBit = 1 << 63

// digits53 is the least magnitude from which on not every integer is a float64.
const digits53 = 1 << 53

// rankOf is the rank of an integer that the float64 holds exactly.
func rankOf(v float64, k kind) uint64 {
	if k == unsigned {
		return uint64(v)
	}
	return uint64(int64(v)) ^ signBit
}

// ranks appends the ranks of integers.
func ranks(r *task.Reading, values []float64, dst []uint64) []uint64 {
	if wide(values) {
		return r.Ranks(dst)
	}
	k := kindOf(r.Type)
	for _, v := range values {
		dst = append(dst, rankOf(v, k))
	}
	return dst
}

func wide(values []float64) bool {
	for _, v := range values {
		if math.Abs(v) >= digits53 {
			return true
		}
	}
	return false
}

// low is what a value lacks to be exact: 0 for what is no integer of more than 53 bits.
func (in *sample) low(i int) float64 {
	v := in.values[i]
	if in.ranks == nil || math.Abs(v) < digits53 {
		return 0
	}
	rank := in.ranks[i]
	if kindOf(in.typ) == signed {
		if v < 0 {
			return -above(uint64(-int64(rank^signBit)), -v)
		}
		rank ^= signBit
	}
	return above(rank, v)
}

// above is by how much a magnitude is above the float64 nearest to it.
func above(magnitude uint64, nearest float64) float64 {
	switch {
	case nearest >= 1<<64:
		return -float64(-magnitude) // what is missing to 2⁶⁴
	case uint64(nearest) > magnitude:
		return -float64(uint64(nearest) - magnitude)
	}
	return float64(magnitude - uint64(nearest))
}

// digits is the shortest text that reads back as the value.
func (in *sample) digits(i int) string {
	if in.ranks == nil {
		return decimal(in.values[i])
	}
	return integer(in.ranks[i], kindOf(in.typ))
}

func integer(rank uint64, k kind) string {
	return string(task.AppendRank(nil, rank, k == unsigned))
}

// wholeType is the type of results that are integers of that kind.
func (k kind) wholeType() task.ValueType {
	switch k {
	case signed:
		return task.Int64
	case unsigned:
		return task.Uint64
	}
	return task.Float64
}

// number is one value of a sample.
type number struct {
	value float64
	low   float64 // what value lacks to be exact
	rank  uint64  // of an integer
	kind  kind
	whole bool
}

func (in *sample) number(i int) number {
	v := number{value: in.values[i], low: in.low(i)}
	if in.ranks != nil {
		v.rank, v.kind, v.whole = in.ranks[i], kindOf(in.typ), true
	}
	return v
}

// minus is the difference, exact for integers as far as a float64 is.
func (v number) minus(w number) float64 {
	if !v.whole || !w.whole {
		return v.value - w.value
	}
	if v.rank < w.rank {
		return -float64(w.rank - v.rank)
	}
	return float64(v.rank - w.rank)
}

// apart reports whether the values differ by more than band.
func (v number) apart(w number, band float64) bool {
	if !v.whole || !w.whole {
		return math.Abs(v.value-w.value) > band
	}
	distance := max(v.rank, w.rank) - min(v.rank, w.rank)
	return band < 1<<64 && distance > uint64(band)
}

// beyond is by how much the value is above a bound.
func (v number) beyond(bound float64) float64 { return (v.value - bound) + v.low }

// decimal writes a number in the fewest digits that read back as the same.
func decimal(v float64) string {
	if v == 0 {
		v = 0 // a negative zero has a sign that readers would see
	}
	format := byte('f')
	if m := math.Abs(v); m != 0 && (m < 1e-6 || m >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(v, format, -1, 64)
}
