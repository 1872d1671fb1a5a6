package seal

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The head of a record is byte for byte the output of json.Marshal, and rejected where that rejects it.
func FuzzHeadIsWhatMarshalWrites(f *testing.F) {
	f.Add("0f", "press-1", "P", "s", uint64(7), int64(1), 3, float32(20), float32(0.5), true, byte(0))
	f.Add("", "ä\u2028<&>\"\\", "\x00\x7f", "\xff", uint64(math.MaxUint64), int64(math.MinInt64), -1, float32(1e-7), float32(1e21), false, byte(9))
	f.Add("a", "b", "c", "d", uint64(0), int64(0), 0, float32(math.NaN()), float32(math.Inf(-1)), false, byte(1))
	f.Add("a", "b", "c", "d", uint64(1), int64(5), 1, float32(1.0000001e-5), float32(123456.789), false, byte(4))
	for c := range 256 { // each byte alone: one that is escaped hides the others
		f.Add("a"+string([]byte{byte(c)}), "b", "c", "d", uint64(1), int64(5), 1, float32(1), float32(1), true, byte(4))
	}
	f.Fuzz(func(t *testing.T, a, b, c, d string, seq uint64, at int64, n int, complexity, score float32, critical bool, enc byte) {
		r := record{
			Sequence: seq, EventID: a, Device: b, Profile: c, Source: d, Resource: a, Class: b, Priority: n, Origin: at, Received: -at,
			Chunk: n, Of: n + 1, Critical: critical, ValueType: c, Offset: n, Count: -n, Hole: n, Complexity: complexity, DeadlineMs: at,
			Score: score, Policy: d, CorrelationID: c, Encoding: encoding(enc),
		}
		if critical {
			r.Holes = []hole{{Resource: b, At: n, Length: n}}
		}
		want, err := json.Marshal(r)
		have, mine := r.appendHead([]byte("before"))
		require.Equal(t, err == nil, mine == nil, "%v, %v", err, mine)
		if err == nil {
			require.Equal(t, "before"+string(want), string(have)+"}")
		}
	})
}
