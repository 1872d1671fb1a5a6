package local

import (
	"bytes"
	"strconv"

	"app-offload/functions/task"
)

// numeric reports whether operators can compute on values of the type. A binary counts by its size.
func numeric(t task.ValueType) bool {
	return t.IsNumeric() || t == task.Bool || t == task.BoolArray || t == task.Blob
}

// read turns a reading into a sample, or says why not.
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
		return nil, "" // counted value by value, or an empty array
	}
	in.at = w.when(t, r)
	return in, ""
}

// finite takes out what is no number: operators could not go on from it.
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

// blobSize is the number of bytes a binary has, without decoding it.
func blobSize(r *task.Reading) int {
	if r.Encoding == task.CBOR || r.Encoding == task.Binary {
		return len(r.Value)
	}
	return len(bytes.TrimRight(r.Value, "=")) * 6 / 8
}
