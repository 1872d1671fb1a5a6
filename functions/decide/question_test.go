package decide

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// The largest question there may be has no negative size, on machines of 32 bit either.
func TestTheLargestQuestionHasASize(t *testing.T) {
	q := Question{SizeKB: maxQuestionKB}
	require.NoError(t, q.Check())
	require.EqualValues(t, min(int64(1<<40), math.MaxInt), q.size())
}
