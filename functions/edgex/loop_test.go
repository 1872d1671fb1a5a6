package edgex

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions"
)

// A relay that strips tags and ids and adds a reading of its own makes services compute on their own results. The loop does not grow, and each
// service names the relay's device.
func TestARelayThatAddsAReadingIsBounded(t *testing.T) {
	const services = 3
	bus := mqttBus(t)
	bus.SubscribeTopics = "events/#"
	var onBus atomic.Int64
	device := startRelay(t, bus, func(topic string, ev map[string]any) string {
		onBus.Add(1)
		if strings.Contains(topic, "/relay/") {
			return ""
		}
		delete(ev, "tags")
		ev["id"], ev["deviceName"] = uuid.NewString(), "the-relay"
		own := map[string]any{
			"id": uuid.NewString(), "origin": ev["origin"], "deviceName": "the-relay", "resourceName": "own", "profileName": ev["profileName"],
			"valueType": "Float64", "value": fmt.Sprint(rand.Float64()),
		}
		readings := ev["readings"].([]any)
		for _, r := range readings {
			r.(map[string]any)["deviceName"] = "the-relay"
		}
		ev["readings"] = append(readings, own)
		return "events/device/relay/P/the-relay/S"
	})
	var all []*functions.Service
	for n := range services {
		all = append(all, startOnBus(t, bus, fmt.Sprintf("app-offload-%d", n), nil))
	}
	for n := range 5 {
		raw := strings.Replace(string(event("d", n)), `"1.5"`, fmt.Sprintf(`"%d.5"`, n), 1)
		payload := `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":` + raw + `}`
		require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte(payload)))
	}
	for _, s := range all {
		eventually(t, 20*time.Second, "the relay is named", func() bool {
			return strings.Contains(fmt.Sprint(s.Status().Health), "the-relay")
		})
	}
	begun := onBus.Load()
	time.Sleep(2 * time.Second)
	first := onBus.Load() - begun
	time.Sleep(2 * time.Second)
	second := onBus.Load() - begun - first
	t.Logf("%d messages until the relay was named, %d in two seconds, %d in two more", begun, first, second)
	require.Less(t, second, first*3/2, "the loop does not grow")
	require.Less(t, second, int64(2*200), "messages in two seconds")
}
