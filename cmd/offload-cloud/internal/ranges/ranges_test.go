package ranges

import (
	"fmt"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestMapKeepsTheFewestSpans(t *testing.T) {
	tests := []struct {
		name string // why the case matters
		set  []Span
		want []Span
	}{
		{"in order is one span", []Span{{1, 1, "a"}, {2, 3, "a"}, {4, 4, "a"}}, []Span{{1, 4, "a"}}},
		{"a hole stays a hole", []Span{{1, 1, "a"}, {3, 3, "a"}}, []Span{{1, 1, "a"}, {3, 3, "a"}}},
		{"filling the hole joins both sides", []Span{{1, 1, "a"}, {3, 3, "a"}, {2, 2, "a"}}, []Span{{1, 3, "a"}}},
		{"another fate splits", []Span{{1, 9, "a"}, {4, 5, "b"}}, []Span{{1, 3, "a"}, {4, 5, "b"}, {6, 9, "a"}}},
		{"and healing joins again", []Span{{1, 9, "a"}, {4, 5, "b"}, {4, 5, "a"}}, []Span{{1, 9, "a"}}},
		{"a wide span swallows", []Span{{2, 2, "a"}, {4, 4, "b"}, {6, 6, "a"}, {1, 9, "c"}}, []Span{{1, 9, "c"}}},
		{"an empty span is nothing", []Span{{5, 4, "a"}}, nil},
		{"the largest number", []Span{{math.MaxUint64, math.MaxUint64, "a"}, {1, 1, "a"}}, []Span{{1, 1, "a"}, {math.MaxUint64, math.MaxUint64, "a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, Of(tt.set...).Spans()) })
	}
}

// The model has one entry for each sequence. After any operations on both, they must agree.
func TestMapAgreesWithAModel(t *testing.T) {
	const top = 60
	rapid.Check(t, func(t *rapid.T) {
		m, model := &Map{}, map[uint64]string{}
		span := func() Span {
			first := rapid.Uint64Range(0, top).Draw(t, "first")
			return Span{first, rapid.Uint64Range(first, top).Draw(t, "last"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "fate")}
		}
		t.Repeat(map[string]func(*rapid.T){
			"set": func(*rapid.T) {
				s := span()
				m.Set(s)
				for seq := s.First; seq <= s.Last; seq++ {
					model[seq] = s.Fate
				}
			},
			"fill": func(t *rapid.T) {
				s, want := span(), uint64(0)
				for seq := s.First; seq <= s.Last; seq++ {
					if _, ok := model[seq]; !ok {
						model[seq] = s.Fate
						want++
					}
				}
				require.Equal(t, want, m.Fill(s))
			},
			"": func(t *rapid.T) { agree(t, m, model, top) },
		})
	})
}

func agree(t *rapid.T, m *Map, model map[uint64]string, top uint64) {
	for seq := range top + 1 {
		fate, ok := m.Fate(seq)
		want, wanted := model[seq]
		require.Equal(t, fmt.Sprint(want, wanted), fmt.Sprint(fate, ok), "sequence %d", seq)
	}
	spans := m.Spans()
	for i := 1; i < len(spans); i++ {
		a, b := spans[i-1], spans[i]
		require.Less(t, a.Last, b.First, "spans overlap")
		require.False(t, a.Fate == b.Fate && b.First-a.Last == 1, "%v and %v should be one", a, b)
	}
	var missing []uint64
	for seq := range top + 1 {
		if _, ok := model[seq]; !ok {
			missing = append(missing, seq)
		}
	}
	gaps := Compact(missing)
	require.Equal(t, gaps, m.Gaps(0, top, 0))
	for limit := 1; limit < 4; limit++ {
		require.Equal(t, gaps[:min(limit, len(gaps))], m.Gaps(0, top, limit))
	}
}

// Sequences that come in order, as nearly all do, take no memory.
func TestTheNextSequenceCostsNothing(t *testing.T) {
	m, next := Of(Span{1, 1, "a"}), uint64(1)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		next++
		m.Set(Span{next, next, "a"})
	}))
	require.Equal(t, []Span{{1, next, "a"}}, m.Spans())
}

func TestCompactSortsAndForgetsRepetitions(t *testing.T) {
	require.Equal(t, []Span{{1, 3, ""}, {7, 7, ""}}, Compact([]uint64{3, 7, 1, 2, 3}))
	require.Empty(t, Compact(nil))
}
