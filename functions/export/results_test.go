package export

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/seal"
)

// Processed results are confirmed in few messages; confirmations above the limit are left to the cloud, which asks again.
func TestResultsAreConfirmed(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	r := newRig(t, quick(b.addr), newShelf(t), nil)
	until(t, "it is connected", func() bool { return r.Stats().Connected })
	var all []seal.ConfirmedResult
	for n := range confirmResults + 10 {
		all = append(all, seal.ConfirmedResult{ID: fmt.Sprint("r-", n), Refused: map[bool]string{true: "no such device"}[n == 3]})
	}
	r.Confirm(all)
	until(t, "all are confirmed", func() bool { n := 0; b.look(func() { n = len(b.dealt) }); return n == len(all) })
	b.look(func() { require.Equal(t, all, b.dealt) })
	require.EqualValues(t, len(all), r.Stats().Confirmed)
	r.Confirm(make([]seal.ConfirmedResult, maxConfirming+1))
	until(t, "too many are counted", func() bool { return r.Stats().Errors["confirm_full"] == 1 })
}
