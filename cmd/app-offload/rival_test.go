package main

import (
	"testing"
	"time"

	"app-offload/functions/status"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// A second client with this service's id at the bus is named as such, instead of two that end each other's connections without a word.
func TestSecondClientWithTheSameIDIsNamed(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.start()
	rival := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + e.port).SetClientID("app-offload-intake").
		SetAutoReconnect(true).SetMaxReconnectInterval(200 * time.Millisecond))
	require.True(t, rival.Connect().WaitTimeout(patience))
	t.Cleanup(func() { rival.Disconnect(100) })
	e.await("the health names it", func() bool {
		var st struct{ Health status.Health }
		e.get("/status", &st)
		return st.Health.Severity("busRival") == status.Warning
	})
}
