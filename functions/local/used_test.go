package local

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// An operator that keeps something of what it has seen needs the order of a device's tasks, if it works on any of their readings.
func TestOperatorsThatRememberNeedTheOrder(t *testing.T) {
	for notation, inOrder := range map[string]bool{
		"none": false, "burn each=1us": false, "rate": true, "summary window=60s": true, "deadband band=1 | burn each=1us": true,
		"burn each=1us; range high=8": true, "rate resource=y*": false, "rate resource=x*": true,
	} {
		p := start(t, DefaultConfig(), class(notation), &recorder{})
		require.Equal(t, inOrder, p.InOrder(scalar("d", "x1", time.Second, 1)), notation)
	}
}
