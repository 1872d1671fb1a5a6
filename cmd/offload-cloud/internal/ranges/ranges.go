// Package ranges records the fate of each sequence number of a node's spool, compactly: neighbours with the same fate form one span.
//
// A Map is a plain value owned by one goroutine. Its spans are sorted and disjoint, and two spans with the same fate never touch, so a stream without
// loss is a single span, however long it grows.
package ranges

import (
	"cmp"
	"slices"
)

// Span is the range of sequences from First to Last, inclusive, with the same fate.
type Span struct {
	First, Last uint64
	Fate        string
}

// Len is the number of sequences in the span.
func (s Span) Len() uint64 { return s.Last - s.First + 1 }

// Map holds the fate of every recorded sequence.
type Map struct{ spans []Span }

// Of returns a map of spans. Later spans override earlier ones where they overlap.
func Of(spans ...Span) *Map {
	m := &Map{}
	for _, s := range spans {
		m.Set(s)
	}
	return m
}

// Spans returns the spans in ascending order. The result is valid until the next change and must not be modified.
func (m *Map) Spans() []Span { return m.spans }

// Fate returns the fate of a sequence, and whether it is known.
func (m *Map) Fate(seq uint64) (string, bool) {
	i := m.at(seq)
	if i < len(m.spans) && m.spans[i].First <= seq {
		return m.spans[i].Fate, true
	}
	return "", false
}

// at returns the index of the first span that ends at seq or later.
func (m *Map) at(seq uint64) int {
	i, _ := slices.BinarySearchFunc(m.spans, seq, func(s Span, seq uint64) int { return cmp.Compare(s.Last, seq) })
	return i
}

// Set sets the fate of all sequences of the span. An empty span is ignored.
func (m *Map) Set(s Span) {
	if s.First > s.Last {
		return
	}
	if m.extend(s) {
		return
	}
	i := m.at(s.First)
	j := i
	var left, right []Span
	for ; j < len(m.spans) && m.spans[j].First <= s.Last; j++ {
		old := m.spans[j]
		if old.First < s.First {
			left = append(left, Span{old.First, s.First - 1, old.Fate})
		}
		if old.Last > s.Last {
			right = append(right, Span{s.Last + 1, old.Last, old.Fate})
		}
	}
	middle := append(append(left, s), right...)
	m.spans = slices.Replace(m.spans, i, j, middle...)
	m.merge(max(i-1, 0), i+len(middle))
}

// extend is a fast path for the common case: the span continues or repeats the last one.
func (m *Map) extend(s Span) bool {
	if len(m.spans) == 0 {
		return false
	}
	last := &m.spans[len(m.spans)-1]
	if s.Fate != last.Fate || s.First < last.First || (s.First > last.Last && s.First-last.Last > 1) {
		return false
	}
	last.Last = max(last.Last, s.Last)
	return true
}

// merge joins touching spans with the same fate, among the spans with indices from … to.
func (m *Map) merge(from, to int) {
	to = min(to, len(m.spans)-1)
	for i := to; i > from; i-- {
		a, b := m.spans[i-1], m.spans[i]
		if a.Fate == b.Fate && b.First-a.Last == 1 {
			m.spans[i-1].Last = b.Last
			m.spans = slices.Delete(m.spans, i, i+1)
		}
	}
}

// Fill sets the fate of the sequences of the span whose fate is unknown, and returns their number.
func (m *Map) Fill(s Span) (filled uint64) {
	for _, gap := range m.Gaps(s.First, s.Last, 0) {
		gap.Fate = s.Fate
		m.Set(gap)
		filled += gap.Len()
	}
	return filled
}

// Gaps returns the spans of unknown sequences within first … last, at most limit of them (0 means all).
func (m *Map) Gaps(first, last uint64, limit int) []Span {
	var gaps []Span
	for i := m.at(first); first <= last; i++ {
		if limit > 0 && len(gaps) == limit {
			return gaps
		}
		if i == len(m.spans) || m.spans[i].First > last {
			return append(gaps, Span{First: first, Last: last})
		}
		if s := m.spans[i]; s.First > first {
			gaps = append(gaps, Span{First: first, Last: s.First - 1})
		}
		if first = m.spans[i].Last + 1; first == 0 {
			return gaps // the span reaches the largest number
		}
	}
	return gaps
}

// Compact converts a list of sequences, in any order and with repetitions, to the fewest spans. It sorts the list in place.
func Compact(seqs []uint64) []Span {
	slices.Sort(seqs)
	var spans []Span
	for _, seq := range seqs {
		if n := len(spans); n > 0 && seq-spans[n-1].Last <= 1 {
			spans[n-1].Last = seq
			continue
		}
		spans = append(spans, Span{First: seq, Last: seq})
	}
	return spans
}
