package sim

import (
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-lab/internal/trace"
)

// The share of a task that is presumably done is its time at the speed of earlier tasks, and never all of it.
func TestWhatIsDoneOfATaskByHand(t *testing.T) {
	var p pace
	k := keeping{began: 2, until: 4, mcycles: 100}
	require.Zero(t, p.done(&k, 3), "nothing has been measured")
	p.end(&keeping{began: 0, until: 2, mcycles: 60}) // 30 Mcycle/s
	require.InDelta(t, 45, p.done(&k, 3.5), 1e-9)
	require.InDelta(t, 90, p.done(&k, 30), 1e-9)
	require.Zero(t, p.done(&k, 1), "it has not begun")
}

// An outage that ends beyond the stretch for which trouble is laid out is played all the same.
func TestTroubleBeyondTheHorizon(t *testing.T) {
	curve, err := trace.NewCurve([]float64{0}, []float64{8}, day)
	require.NoError(t, err)
	r := Rate{curve: curve}
	require.NoError(t, r.hold([]span{{20, 30}}, 0.25, 10))
	require.InDelta(t, 8, r.At(19.9), 0)
	require.InDelta(t, 2, r.At(25), 0)
	require.InDelta(t, 8, r.At(30.5), 0)
}
