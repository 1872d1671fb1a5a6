package functions

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/keys"
	"app-offload/functions/receive"
)

// The correlation id of the envelope is in the batch, in the decision and on the result.
func TestTheCorrelationIDOfTheEnvelopeTravels(t *testing.T) {
	for _, policy := range []string{"cloud", "edge"} {
		b, out := startBroker(t), &bin{}
		cloud := startCloud(t, b, "n1", keys.NewKeyring("", nil))
		c := testConfig(t, b, policy)
		c.Local.Operators = "deadband band=0.1"
		s := open(t, c, out)
		s.Start()
		require.NoError(t, s.Receive(receive.Message{Topic: "edgex/events/device/x", ContentType: "application/json", CorrelationID: "corr-1", Payload: event("d", 1).Raw}))
		require.Equal(t, "corr-1", s.Decisions(1, nil)[0].CorrelationID)
		if policy == "edge" {
			require.Equal(t, "corr-1", out.results[0].CorrelationID)
			continue
		}
		eventually(t, 10*time.Second, "the batch", func() bool { return len(cloud.tasks()) == 1 })
		require.Equal(t, "corr-1", cloud.tasks()[0].CorrelationID)
	}
}
