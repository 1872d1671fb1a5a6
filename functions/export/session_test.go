package export

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every broker accepts the default client id of a node, NATS included, and no two nodes share one.
func TestClientIDs(t *testing.T) {
	require.Equal(t, "app-offload-plant-7", clientID("plant-7"), "the name stays what it was wherever it can")
	seen := map[string]string{}
	for _, node := range []string{"plant-7", "plant.7", "plant*7", "plant>7", "a.b.c", "a-b.c", "a.b-c"} {
		id := clientID(node)
		require.False(t, strings.ContainsAny(id, ".*>"), "%s gives %s", node, id)
		require.Empty(t, seen[id], "%s gives %s", node, id)
		seen[id] = node
	}
}
