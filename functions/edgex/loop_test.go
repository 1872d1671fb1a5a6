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

// A relay that strips tags and ids and adds its own reading makes services compute on their own results. The loop ends, each service names the
// relay's device, and continues to compute on the device's events.
func TestALoopThroughARelayEnds(t *testing.T) {
	r := newRedis(t)
	r.begin()
	n := 0
	for name, row := range map[string]struct {
		operators string
		add       relay
	}{
		"its reading changes":            {"deadband band=0.01; summary window=200ms", adds(rand.Float64, nil)},
		"its reading stands still":       {"rate; summary window=200ms", adds(func() float64 { return 5 }, nil)},
		"a window of more than a second": {"summary window=1100ms", adds(rand.Float64, func() any { return time.Now().UnixNano() })},
		"a new origin":                   {"rate; deadband band=0.01", adds(func() float64 { return float64(rand.IntN(3)) }, func() any { return time.Now().UnixNano() })},
	} {
		t.Run("mqtt, "+name, func(t *testing.T) {
			t.Parallel()
			loopEnds(t, mqttBus(t), row.operators, row.add)
		})
		n++
		prefix := fmt.Sprint("edgexloop", n)
		t.Run("redis, "+name, func(t *testing.T) {
			t.Parallel()
			bus := r.config()
			bus.BaseTopicPrefix = prefix
			loopEnds(t, bus, row.operators, row.add)
		})
	}
}

// adds makes a relay that republishes results as the device the-relay, and adds a reading. Without origin it keeps the result's.
func adds(value func() float64, origin func() any) relay {
	return func(ev map[string]any) string {
		delete(ev, "tags")
		ev["id"], ev["deviceName"] = uuid.NewString(), "the-relay"
		own := map[string]any{
			"id": uuid.NewString(), "origin": ev["origin"], "deviceName": "the-relay", "resourceName": "own", "profileName": ev["profileName"],
			"valueType": "Float64", "value": fmt.Sprint(value()),
		}
		if origin != nil {
			own["origin"], ev["origin"] = origin(), origin()
		}
		readings := ev["readings"].([]any)
		for _, r := range readings {
			r.(map[string]any)["deviceName"] = "the-relay"
			r.(map[string]any)["origin"] = own["origin"]
		}
		ev["readings"] = append(readings, own)
		return "events/device/relay/P/the-relay/S"
	}
}

func loopEnds(t *testing.T, bus BusConfig, operators string, pass relay) {
	const services = 3
	bus.SubscribeTopics = "events/#"
	var onBus atomic.Int64
	device := startRelay(t, bus, func(topic string, ev map[string]any) string {
		onBus.Add(1)
		if strings.Contains(topic, "/relay/") {
			return ""
		}
		return pass(ev)
	})
	var all []*functions.Service
	for n := range services {
		all = append(all, startOnBus(t, bus, fmt.Sprintf("app-offload-%d", n), operators, nil))
	}
	sent := 0
	send := func() {
		sent++
		raw := strings.Replace(string(event("d", sent)), `"1.5"`, fmt.Sprintf(`"%d.5"`, sent), 1)
		payload := `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":` + raw + `}`
		require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte(payload)))
	}
	named := func() bool {
		for _, s := range all {
			if !strings.Contains(fmt.Sprint(s.Status().Health), "the-relay") {
				return false
			}
		}
		return true
	}
	eventually(t, 30*time.Second, "the relay is named by each", func() bool {
		if onBus.Load() < 5000 {
			send()
		}
		time.Sleep(50 * time.Millisecond)
		return named()
	})
	untilQuietFor(t, &onBus, 10_000, 3*time.Second)
	t.Logf("%d messages for %d of the device until the bus was quiet", onBus.Load(), sent)
	// The loop does not begin again.
	for range 10 {
		send()
	}
	before := onBus.Load()
	untilQuietFor(t, &onBus, before+500, 3*time.Second)
	require.Greater(t, onBus.Load(), before+10, "the device's events and results")
	t.Logf("%d for 10 more", onBus.Load()-before)
}

// untilQuietFor waits until nothing was published for so long, after at most so many messages.
func untilQuietFor(t *testing.T, count *atomic.Int64, most int64, quiet time.Duration) {
	t.Helper()
	last, since := int64(-1), time.Now()
	eventually(t, 30*time.Second, "the bus is quiet", func() bool {
		require.Less(t, count.Load(), most, "messages on the bus")
		if n := count.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > quiet
	})
}
