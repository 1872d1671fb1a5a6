package edgex

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/task"
)

// A relay is a user's own stage, such as a rule of eKuiper or an app-service-configurable, that republishes events: it changes one and returns its
// topic, "" for none.
type relay func(ev map[string]any) (topic string)

var relays = map[string]relay{
	"no relay": func(map[string]any) string { return "" },
	"passes on as it is": func(ev map[string]any) string {
		return fmt.Sprintf("events/device/relay/%s/%s/%s", ev["profileName"], ev["deviceName"], ev["sourceName"])
	},
	"drops tags": func(ev map[string]any) string {
		delete(ev, "tags")
		return fmt.Sprintf("events/device/relay/%s/%s/%s", ev["profileName"], ev["deviceName"], ev["sourceName"])
	},
	"drops tags and ids": func(ev map[string]any) string {
		delete(ev, "tags")
		ev["id"] = uuid.NewString()
		return fmt.Sprintf("events/device/relay/%s/%s/%s", ev["profileName"], ev["deviceName"], ev["sourceName"])
	},
	"drops tags, changes device, source and topic": func(ev map[string]any) string {
		delete(ev, "tags")
		ev["id"], ev["deviceName"], ev["profileName"], ev["sourceName"] = uuid.NewString(), "rules", "Rules", "rule1"
		for _, r := range ev["readings"].([]any) {
			r.(map[string]any)["deviceName"], r.(map[string]any)["profileName"] = "rules", "Rules"
		}
		return "events/core/rules/Rules/rules/rule1"
	},
	"takes out one reading, drops tags and ids": func(ev map[string]any) string {
		delete(ev, "tags")
		ev["id"], ev["readings"] = uuid.NewString(), ev["readings"].([]any)[:1]
		return "events/device/relay/P/d/S"
	},
	"keeps tags, restores the resource's name": func(ev map[string]any) string {
		ev["id"] = uuid.NewString()
		for _, r := range ev["readings"].([]any) {
			reading := r.(map[string]any)
			reading["resourceName"], _, _ = strings.Cut(reading["resourceName"].(string), "_")
		}
		ev["sourceName"] = "S"
		return "events/device/relay/P/d/S"
	},
}

// Services on one bus skip each other's results, also those that a user's own stage republishes: the bus is quiet once the device is.
func TestServicesOnOneBusDoNotFeedEachOther(t *testing.T) {
	r := newRedis(t)
	r.begin()
	for name, pass := range relays {
		t.Run("mqtt, "+name, func(t *testing.T) {
			t.Parallel()
			feedEachOther(t, mqttBus(t), pass)
		})
		t.Run("redis, "+name, func(t *testing.T) {
			bus := r.config()
			bus.BaseTopicPrefix = "edgex" + strings.NewReplacer(" ", "", ",", "", "'", "").Replace(name)
			feedEachOther(t, bus, pass)
		})
	}
}

func mqttBus(t *testing.T) BusConfig {
	host, port, _ := strings.Cut(mosquittotest.Start(t, ""), ":")
	bus := BusConfig{Type: "mqtt", Protocol: "tcp", Host: host, AuthMode: "none", BaseTopicPrefix: "edgex", Optional: map[string]string{"Qos": "1"}}
	_, err := fmt.Sscan(port, &bus.Port)
	require.NoError(t, err)
	return bus
}

func feedEachOther(t *testing.T, bus BusConfig, pass relay) {
	const events, services = 10, 3
	bus.SubscribeTopics = "events/#"
	var onBus, raw atomic.Int64 // messages; of these, what no service has published
	device := startRelay(t, bus, func(topic string, ev map[string]any) string {
		onBus.Add(1)
		if !strings.Contains(topic, "/app-offload") {
			raw.Add(1)
		}
		if strings.Contains(topic, "/relay/") || strings.Contains(topic, "/rules/") {
			return ""
		}
		return pass(ev)
	})
	var all []*functions.Service
	for n := range services {
		all = append(all, startOnBus(t, bus, fmt.Sprintf("app-offload-%d", n), everyReading, nil))
	}
	for n := range events {
		raw := strings.Replace(string(event("d", n)), `"1.5"`, fmt.Sprintf(`"%d.5"`, n), 1)
		payload := `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":` + raw + `}`
		require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte(payload)))
	}
	// Each service has computed one result for each event of a device, and none for a result.
	untilQuiet(t, &onBus, func() bool {
		return onBus.Load() >= events+events*services && !slices.ContainsFunc(all, func(s *functions.Service) bool {
			return s.Status().Local.Results["deadband"] < events
		})
	})
	for _, s := range all {
		st := s.Status()
		require.LessOrEqual(t, st.Local.Results["deadband"], raw.Load(), "skipped %v", st.Events.Skipped)
	}
}

// untilQuiet waits until all work is done, and nothing more is published.
func untilQuiet(t *testing.T, count *atomic.Int64, done func() bool) {
	t.Helper()
	last, since := int64(-1), time.Now()
	eventually(t, 30*time.Second, "the bus is quiet", func() bool {
		require.Less(t, count.Load(), int64(2000), "messages on the bus")
		if n := count.Load(); n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) > 400*time.Millisecond && done()
	})
}

// Every reading causes a result.
const everyReading = "deadband band=0.01; summary window=200ms"

// startOnBus runs a service.
func startOnBus(t *testing.T, bus BusConfig, key, operators string, classes map[string]task.ClassConfig) *functions.Service {
	bus.ServiceKey = key
	c := testConfig(t, "edge")
	c.Local.Operators = operators
	for name, class := range classes {
		c.Writable.Classes[name] = class
	}
	out := NewBus(bus, "results", noSecrets{})
	s, err := functions.New(c, functions.Deps{Name: key, Log: testLog{t}, Secrets: noSecrets{}, Publisher: NewResults(out, key), ClosePublisher: out.Close})
	require.NoError(t, err)
	trigger, err := NewTrigger(s, bus, noSecrets{}, testLog{t})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	_, err = trigger.Initialize(&wg, ctx, nil)
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	eventually(t, 10*time.Second, "subscribed", func() bool { return trigger.source.Problem() == "" })
	return s
}

// startRelay subscribes to all events and publishes the output of pass for each. It returns its client.
func startRelay(t *testing.T, bus BusConfig, pass func(topic string, ev map[string]any) string) *Bus {
	bus.ServiceKey = "relay"
	b := NewBus(bus, "relay", noSecrets{})
	client, err := b.connected()
	require.NoError(t, err)
	// With less room the client, which publishes as well, would wait for itself.
	in, errs := make(chan types.MessageEnvelope, 10_000), make(chan error, 10)
	require.NoError(t, client.Subscribe([]types.TopicChannel{{Topic: bus.BaseTopicPrefix + "/events/#", Messages: in}}, errs))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case err := <-errs:
				t.Errorf("the relay's subscription: %v", err)
				return
			case m := <-in:
				var request map[string]any
				if json.Unmarshal(m.Payload, &request) != nil {
					continue
				}
				topic := pass(m.ReceivedTopic, request["event"].(map[string]any))
				if payload, err := json.Marshal(request); err == nil && topic != "" {
					_ = b.Publish(topic, m.ContentType, m.CorrelationID, payload)
				}
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		_ = b.Close()
	})
	return b
}

// A class that names a service takes its results, but only until MaxHops services have computed: here each of two takes the other's.
func TestResultsAreTakenByNameAndUpToTheHopLimit(t *testing.T) {
	bus := mqttBus(t)
	bus.SubscribeTopics = "events/#"
	var onBus, deepest atomic.Int64
	device := startRelay(t, bus, func(_ string, ev map[string]any) string {
		onBus.Add(1)
		if tags, ok := ev["tags"].(map[string]any); ok {
			var hop int64
			_, _ = fmt.Sscan(fmt.Sprint(tags[task.TagHop]), &hop)
			deepest.Store(max(deepest.Load(), hop))
		}
		return ""
	})
	asks := func(other string) map[string]task.ClassConfig {
		return map[string]task.ClassConfig{"again": {MatchResultsOf: other, Operators: "deadband band=0.01 name=again"}}
	}
	startOnBus(t, bus, "a", everyReading, asks("b"))
	startOnBus(t, bus, "b", everyReading, asks("a, elsewhere"))
	payload := `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":` + string(event("d", 1)) + `}`
	require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte(payload)))
	untilQuiet(t, &onBus, func() bool { return onBus.Load() >= 1+2*3 })
	require.Equal(t, int64(3), deepest.Load(), "MaxHops")
	require.Equal(t, int64(1+2*3), onBus.Load(), "each hop has one result of either")
}
