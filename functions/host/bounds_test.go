package host

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// The bounds of the configuration.
func TestBounds(t *testing.T) {
	require.Equal(t, `Interval 100ms to 1m0s
GovernorLow 1 to <46.6666667
GovernorHigh 45 to 100
GovernorHold 1s to 10m0s
GovernorFloor 0.1 to 1
GovernorMHz 0 to 100000`, bounds.Of(DefaultConfig()))
}
