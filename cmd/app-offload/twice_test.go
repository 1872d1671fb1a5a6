package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A start on the MQTT bus logs nothing about metrics registered twice.
func TestAStartRegistersNoMetricTwice(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.start()
	e.stop()
	require.Contains(t, e.log.String(), "InvalidMessagesReceived metric has been registered")
	require.NotContains(t, e.log.String(), "duplicate metric")
	require.NotContains(t, e.log.String(), "failed to register")
}
