package bench

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The peer is measured in the same cases as floor and service, and its losses fail no run.
func TestThePeersPlace(t *testing.T) {
	o := DefaultOptions()
	o.EKuiper, o.Brokers, o.Policies, o.Confirm, o.QoS, o.Rows = "x", Embedded, "cloud", "receipt", "1", "maximum,edge"
	subjects := func() (all []string) {
		cases, err := o.cases()
		require.NoError(t, err)
		for _, c := range cases {
			all = append(all, c.Row+" "+c.Subject)
		}
		return all
	}
	require.Equal(t, []string{"maximum floor", "maximum " + peer, "maximum service", "edge floor", "edge service"}, subjects())
	o.Drain = true
	require.NotContains(t, subjects(), "maximum "+peer)
	require.NoError(t, (&Result{Case: Case{Subject: peer}, Lost: 1}).verdict())
	require.Error(t, (&Result{Case: Case{Subject: "service"}, Lost: 1}).verdict())
	require.ErrorContains(t, holdTo(map[string]float64{"": 1}, []Result{{Case: Case{Subject: peer}, CPURatio: 9}}), "cannot be checked", "only the service is compared")
}

// eKuiper's messages with the load's events are counted; any other message is an error.
func TestABatchOfThePeer(t *testing.T) {
	var m maker
	var batch []json.RawMessage
	for n := range 3 {
		batch = append(batch, append([]byte{}, m.make(n, time.Unix(1, 0))...))
	}
	message, err := json.Marshal(batch)
	require.NoError(t, err)
	c := &consumer{tally: newTally(3)}
	require.NoError(t, c.takePeer(message))
	require.Equal(t, 3, c.tally.concluded())
	require.Error(t, c.takePeer([]byte(`{}`)))
	require.Error(t, c.takePeer([]byte(`[{"payload":"eA=="}]`)))
}

// The rule's text is JSON within JSON.
func TestThePeersRules(t *testing.T) {
	text, err := peerRules("127.0.0.1:1883")
	require.NoError(t, err)
	var all struct{ Streams, Rules map[string]string }
	require.NoError(t, json.Unmarshal(text, &all))
	require.Contains(t, all.Streams["bench"], `DATASOURCE="edgex/events/device/#"`)
	var rule struct {
		Actions []map[string]struct {
			Server    string
			BatchSize int
		}
	}
	require.NoError(t, json.Unmarshal([]byte(all.Rules["bench"]), &rule))
	require.Equal(t, "tcp://127.0.0.1:1883", rule.Actions[0]["mqtt"].Server)
	require.Equal(t, batchSize, rule.Actions[0]["mqtt"].BatchSize)
}
