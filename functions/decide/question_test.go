package decide

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The largest possible question has no negative size, not even on 32-bit machines.
func TestTheLargestQuestionHasASize(t *testing.T) {
	q := Question{SizeKB: maxQuestionKB}
	require.NoError(t, q.Check())
	require.EqualValues(t, min(int64(1<<40), math.MaxInt), q.size())
}
