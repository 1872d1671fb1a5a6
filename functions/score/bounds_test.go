package score

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The bounds of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `EdgeMcycles 1 to 1e+09
CloudMcycles 1 to 1e+09
MinEdgeShare 0.001 to 1
McyclesPerKB >0 to 1000000
LinkMbit 0.001 to 1000000
RTT 0s to 1m0s
Overhead 0s to 1m0s
HeaderBytes 0 to 1048576
WireShare 0.01 to 4
BacklogAhead 0 to 1
EdgeJoules 0 to 1000
RadioJoules 0 to 1000
Smoothing 0 to 1
CorrectionLimit 1 to 10000`, bounds.Of(DefaultConfig()))
}
