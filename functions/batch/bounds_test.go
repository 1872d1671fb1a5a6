package batch

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/check/bounds"
)

// What the configuration accepts.
func TestBounds(t *testing.T) {
	require.Equal(t, `MaxCount 1 to 100000
MaxKiB 1 to 65536
MaxAge 0s to 1h0m0s
BacklogShare 0 to 0.9
LowerShare 0 to 0.9`, bounds.Of(DefaultConfig()))
}
