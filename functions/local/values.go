package local

import (
	"bytes"
	"math"
	"strconv"

	"app-offload/functions/task"
)

// numeric reports whether operators can compute on values of the type. A binary counts as its size.
func numeric(t task.ValueType) bool {
	return t.IsNumeric() || t == task.Bool || t == task.BoolArray || t == task.Blob
}

// read converts a reading to a sample, or returns why it cannot.
func (w *worker) read(t *task.Task, r *task.Reading) (in *sample, skip string) {
	in = &w.in
	*in = sample{values: w.values[:0], typ: r.Type, units: r.Units, chunk: t.Chunk > 0}
	if r.Type == task.Blob {
		size := int64(blobSize(r))
		w.text = strconv.AppendInt(w.text[:0], size, 10)
		w.ranks = append(w.ranks[:0], uint64(size))
		in.values, in.ranks, in.typ, in.text, in.units = append(in.values, float64(size)), w.ranks, task.Uint64, w.text, "bytes"
	} else {
		values, err := r.Floats(in.values)
		if err != nil {
			return nil, skipUnreadable
		}
		in.values = values
		if r.Type.IsInteger() {
			w.ranks = ranks(r, values, w.ranks[:0])
			in.ranks = w.ranks
		}
		if !r.Type.IsArray() {
			in.text = bytes.TrimSpace(r.Value)
		}
	}
	w.values = in.values
	all := len(in.values)
	in.values = w.finite(in.values)
	in.missing = all - len(in.values)
	if len(in.values) == 0 {
		return nil, "" // the values are counted individually, or the array is empty
	}
	in.at = w.when(t, r.Origin)
	return in, ""
}

// finite removes and counts the values that are not finite: operators cannot compute with them.
func (w *worker) finite(values []float64) []float64 {
	n := 0
	for _, v := range values {
		if v-v == 0 { // neither NaN nor infinite
			values[n] = v
			n++
		}
	}
	if n < len(values) {
		w.p.counts.skipped.add(skipNotFinite, len(values)-n)
	}
	return values[:n]
}

// blobSize returns the number of bytes of a binary, without decoding it.
func blobSize(r *task.Reading) int {
	if r.Encoding == task.CBOR || r.Encoding == task.Binary {
		return len(r.Value)
	}
	return len(bytes.TrimRight(r.Value, "=")) * 6 / 8
}

// Operators receive integers twice: as float64, to compute with, and as exact ranks. A rank is the distance from the least value of 64 bits, so that
// ranks compare like the values; see task.AppendRank.

// kind is the class of value types that operators distinguish.
type kind uint8

const (
	floats kind = iota // also bools
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

// digits53 is the least magnitude at which a float64 cannot represent every integer.
const digits53 = 1 << 53

// rankOf returns the rank of an integer that the float64 represents exactly.
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

// low returns the difference of the exact value from the float64, 0 unless the value is an integer of more than 53 bits.
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

// above returns the difference of a magnitude from the nearest float64.
func above(magnitude uint64, nearest float64) float64 {
	switch {
	case nearest >= 1<<64:
		return -float64(-magnitude) // distance to 2⁶⁴
	case uint64(nearest) > magnitude:
		return -float64(uint64(nearest) - magnitude)
	}
	return float64(magnitude - uint64(nearest))
}

// digits returns the shortest decimal text of the value.
func (in *sample) digits(i int) string {
	if in.ranks == nil {
		return decimal(in.values[i])
	}
	return integer(in.ranks[i], kindOf(in.typ))
}

func integer(rank uint64, k kind) string {
	return string(task.AppendRank(nil, rank, k == unsigned))
}

// wholeType returns the type of results that are integers of that kind.
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
	low   float64 // exact value minus value
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

// minus returns the difference, exact for integers within the precision of a float64.
func (v number) minus(w number) float64 {
	if !v.whole {
		return v.value - w.value
	}
	if v.rank < w.rank {
		return -float64(w.rank - v.rank)
	}
	return float64(v.rank - w.rank)
}

// apart reports whether the values differ by more than band.
func (v number) apart(w number, band float64) bool {
	if !v.whole {
		return math.Abs(v.value-w.value) > band
	}
	distance := max(v.rank, w.rank) - min(v.rank, w.rank)
	return band < 1<<64 && distance > uint64(band)
}

// beyond returns the excess of the value over a bound.
func (v number) beyond(bound float64) float64 { return (v.value - bound) + v.low }

// decimal returns the shortest decimal text of a number.
func decimal(v float64) string {
	if v == 0 {
		v = 0 // readers would see the sign of a negative zero
	}
	format := byte('f')
	if m := math.Abs(v); m != 0 && (m < 1e-6 || m >= 1e21) {
		format = 'e'
	}
	return strconv.FormatFloat(v, format, -1, 64)
}
