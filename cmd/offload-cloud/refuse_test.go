package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/pgtest"
	"app-offload/functions/seal"
)

// Recorded and replayed, forged, altered or moved messages store nothing, stop nothing, and are counted for the operator. A message with an unknown
// key stays a dead letter until the key is available.
func TestReplayedAndForgedMessagesAreCounted(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		refuse(t, "sqlite:"+filepath.Join(t.TempDir(), "cloud.db"))
	})
	t.Run("postgres", func(t *testing.T) {
		refuse(t, pgtest.Start(t).Database(t))
	})
}

func refuse(t *testing.T, db string) {
	address, ours, theirs := edgetest.Broker(t), t.TempDir(), t.TempDir()
	writeKey(t, ours, "a", 1)
	writeKey(t, theirs, "b", 2)
	_, log, stop := program(t, "-from", "mqtt://"+address, "-store", db, "-keys", ours)
	edge, late := newEdge(t, loadKeys(t, ours)), newEdge(t, loadKeys(t, theirs))
	r := newRadio(t, address, seal.NewOpener(loadKeys(t, ours), seal.Limits{}))

	recorded := edge.Batch(t, 1, 1, 2, 3)
	for range 3 { // the second and third are replays; each gets a receipt, since the node may have missed the first
		r.send(t, batchTopic, recorded)
		require.Equal(t, []seal.Range{{First: 1, Last: 3}}, r.receipt(t).Safe)
	}
	r.send(t, "offload/v1/n2/batch/default", recorded)         // another node's topic
	r.send(t, "offload/v1/n1/gone", recorded)                  // another kind than the topic's
	r.send(t, batchTopic, newEdge(t, nil).Batch(t, 1, 4))      // not sealed
	r.send(t, batchTopic, flipped(recorded, len(recorded)-30)) // sealed and altered: the content is at the end
	r.send(t, batchTopic, flipped(recorded, len(recorded)-1))
	r.send(t, batchTopic, late.Batch(t, 1, 5)) // sealed with an unknown key
	r.send(t, batchTopic, late.Batch(t, 1, 6)[:100])

	var have map[string]map[string]any
	figures := func() map[string]map[string]any {
		have = map[string]map[string]any{}
		for _, line := range strings.Split(strings.TrimSpace(verb(t, "stats", "-json", "-store", db)), "\n") {
			node := map[string]any{}
			require.NoError(t, json.Unmarshal([]byte(line), &node))
			have[node["node"].(string)] = node
		}
		return have
	}
	eventually(t, func() bool { return figures()["n1"]["deadLetters"] == 6.0 }, "stats: %v\n%v", &have, log)
	require.Equal(t, 3.0, have["n1"]["records"])
	require.Equal(t, 3.0, have["n1"]["tasks"])
	require.Equal(t, 6.0, have["n1"]["duplicateRecords"], "each record of the two replays")
	require.Zero(t, have["n1"]["gaps"])

	list := verb(t, "dead", "list", "-store", db)
	for reason, n := range map[string]int{"wrong topic": 1, "forged": 3, "unknown key": 1, "malformed": 2} {
		require.Equal(t, n, strings.Count(list, "  "+reason+"  "), "%s in\n%s", reason, list)
	}
	require.Contains(t, verb(t, "dead", "retry", "-store", db, "-keys", ours), "still unreadable")
	writeKey(t, ours, "b", 2)
	require.Contains(t, verb(t, "dead", "retry", "-store", db, "-keys", ours), "stored 1 new of 1 records")
	figures()
	require.Equal(t, 4.0, have["n1"]["records"])
	require.Equal(t, 5.0, have["n1"]["deadLetters"])
	r.send(t, batchTopic, edge.Batch(t, 1, 7)) // the consumer still works
	require.Equal(t, []seal.Range{{First: 7, Last: 7}}, r.receipt(t).Safe)
	require.Zero(t, stop(), log.String())
}

func flipped(msg []byte, at int) []byte {
	msg = bytes.Clone(msg)
	msg[at] ^= 4
	return msg
}
