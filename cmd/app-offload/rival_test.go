package main

import (
	"testing"
	"time"

	"app-offload/functions/status"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// A second client with this service's id at the bus is reported as such; otherwise the two would keep ending each other's connections without an
// explanation.
func TestSecondClientWithTheSameIDIsNamed(t *testing.T) {
	t.Parallel()
	e := newEdge(t)
	e.start()
	rival := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://127.0.0.1:" + e.port).SetClientID("app-offload-intake").
		SetAutoReconnect(false))
	t.Cleanup(func() { rival.Disconnect(100) })
	var connected time.Time
	e.await("the health names it", func() bool {
		if !rival.IsConnected() || time.Since(connected) > 2*time.Second { // this broker keeps two clients that connect at one moment
			rival.Disconnect(0)
			require.True(t, rival.Connect().WaitTimeout(patience))
			connected = time.Now()
		}
		var st struct{ Health status.Health }
		e.get("/status", &st)
		return st.Health.Severity("busRival") == status.Warning
	})
}
