package functions

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/task"
)

// A relay is a user's own stage, such as a rule of eKuiper or an app-service-configurable, that passes events on: it changes one and says
// on which topic it goes, "" for none.
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
	"keeps tags, gives back the resource's name": func(ev map[string]any) string {
		ev["id"] = uuid.NewString()
		for _, r := range ev["readings"].([]any) {
			reading := r.(map[string]any)
			reading["resourceName"], _, _ = strings.Cut(reading["resourceName"].(string), "_")
		}
		ev["sourceName"] = "S"
		return "events/device/relay/P/d/S"
	},
}

// Services on one bus skip each other's results, also those that a user's own stage passes on: the bus is quiet once the device is.
func TestServicesOnOneBusDoNotFeedEachOther(t *testing.T) {
	r := newRedis(t)
	r.begin()
	for name, pass := range relays {
		t.Run("mqtt, "+name, func(t *testing.T) { feedEachOther(t, mqttBus(t), pass) })
		t.Run("redis, "+name, func(t *testing.T) {
			bus := r.config()
			bus.BaseTopicPrefix = "edgex" + strings.NewReplacer(" ", "", ",", "", "'", "").Replace(name)
			feedEachOther(t, bus, pass)
		})
	}
}

func mqttBus(t *testing.T) BusConfig {
	host, port, _ := strings.Cut(startBroker(t).addr, ":")
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
	var all []*Service
	for n := range services {
		all = append(all, startOnBus(t, bus, fmt.Sprintf("app-offload-%d", n), nil))
	}
	for n := range events {
		raw := strings.Replace(string(event("d", n).Raw), `"1.5"`, fmt.Sprintf(`"%d.5"`, n), 1)
		payload := `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":` + raw + `}`
		require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte(payload)))
	}
	untilQuiet(t, &onBus)
	// Each service has computed one result for each event of a device, and none for a result.
	require.GreaterOrEqual(t, onBus.Load(), int64(events+events*services))
	for _, s := range all {
		st := s.Status()
		made := st.Local.Results["deadband"]
		require.GreaterOrEqual(t, made, int64(events), "skipped %v", st.Events.Skipped)
		require.LessOrEqual(t, made, raw.Load(), "skipped %v", st.Events.Skipped)
	}
}

// untilQuiet waits until nothing more is published.
func untilQuiet(t *testing.T, count *atomic.Int64) {
	t.Helper()
	last, since := int64(-1), time.Now()
	eventually(t, 30*time.Second, "the bus is quiet", func() bool {
		require.Less(t, count.Load(), int64(2000), "messages on the bus")
		if n := count.Load(); n != last {
			last, since = n, time.Now()
		}
		return last > 0 && time.Since(since) > 400*time.Millisecond
	})
}

// startOnBus runs a service whose every reading causes a result.
func startOnBus(t *testing.T, bus BusConfig, key string, classes map[string]task.ClassConfig) *Service {
	bus.ServiceKey = key
	c := testConfig(t, nil, "edge")
	c.Local.Operators = "deadband band=0.01; summary window=200ms"
	for name, class := range classes {
		c.Writable.Classes[name] = class
	}
	out := NewBus(bus, "results", noSecrets{})
	s, err := New(c, Deps{Name: key, Log: testLog{t}, Secrets: noSecrets{}, Publisher: NewResults(out, key), ClosePublisher: out.Close})
	require.NoError(t, err)
	trigger, err := NewTrigger(s, bus, noSecrets{})
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

// startRelay subscribes to all events and publishes what pass makes of each. It returns its client.
func startRelay(t *testing.T, bus BusConfig, pass func(topic string, ev map[string]any) string) *Bus {
	bus.ServiceKey = "relay"
	b := NewBus(bus, "relay", noSecrets{})
	client, err := b.connected()
	require.NoError(t, err)
	in, errs := make(chan types.MessageEnvelope, 100), make(chan error, 10)
	require.NoError(t, client.Subscribe([]types.TopicChannel{{Topic: bus.BaseTopicPrefix + "/events/#", Messages: in}}, errs))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-ctx.Done():
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

// A class that names a service takes its results, but only until MaxHops services have computed: here each of two asks for the other's.
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
	startOnBus(t, bus, "a", asks("b"))
	startOnBus(t, bus, "b", asks("a, elsewhere"))
	payload := `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":` + string(event("d", 1).Raw) + `}`
	require.NoError(t, device.Publish("events/device/svc/P/d/S", "application/json", "c", []byte(payload)))
	untilQuiet(t, &onBus)
	require.Equal(t, int64(3), deepest.Load(), "MaxHops")
	require.Equal(t, int64(1+2*3), onBus.Load(), "each hop has one result of either")
}

// A device may have a resource that is called like a result of another one. It is an echo only with the result's value.
func TestADeviceMayHaveAResourceNamedLikeAResult(t *testing.T) {
	k := newKinship("n", "app-offload", 3, testLog{t})
	classes, err := task.NewClasses(nil)
	require.NoError(t, err)
	published := dtos.NewEvent("P", "d", "R_summary")
	require.NoError(t, published.AddSimpleReading("R_max", "Float64", 5000.25))
	require.NoError(t, published.AddSimpleReading("R_min", "Float64", 1.5))
	require.NoError(t, published.AddSimpleReading("A_deadband", "Float64Array", []float64{1, 2.5}))
	require.NoError(t, k.sign(&bin{}).Publish(local.Result{Event: published, Hop: 1}))
	reading := func(name, value string) task.Reading {
		return task.Reading{Resource: name, Type: task.Float64, Value: []byte(value)}
	}
	for name, row := range map[string]struct {
		id       string
		readings []task.Reading
		want     bool
	}{
		"another value":           {"1", []task.Reading{reading("R_max", "5001")}, true},
		"beside device data":      {"2", []task.Reading{reading("R", "5"), reading("R_max", "5000.25")}, true},
		"an echo":                 {"3", []task.Reading{reading("R_max", "5000.25"), reading("R_min", "1.5")}, false},
		"an echo of a part":       {"4", []task.Reading{reading("R_max", "5.00025e+03")}, false},
		"an echo with its id":     {published.Id, []task.Reading{reading("other", "1")}, false},
		"an echo of an array":     {"6", []task.Reading{reading("A_deadband", "[1,25e-1]")}, false},
		"the value, not the name": {"5", []task.Reading{reading("Q_max", "5000.25")}, true},
	} {
		ev := &task.Event{ID: row.id, Device: "other", Readings: row.readings, Encoding: task.JSON}
		require.Equal(t, row.want, k.admit(ev, classes), name)
	}
	require.Equal(t, uint64(4), k.skipped()["echo"])
}

// A relay that drops the tags, and changes values or adds a reading that no operator reads, does not feed the service without end, although none of its events is
// an echo by value.
func TestAChangedResultIsComputedOnOnce(t *testing.T) {
	for relay, change := range map[string]func(names []string, values []float64) ([]string, []float64){
		"adds a reading": func(names []string, values []float64) ([]string, []float64) {
			return append(names, "seen"), append(values, rand.Float64())
		},
		"doubles values": func(names []string, values []float64) ([]string, []float64) {
			for i := range values {
				values[i] *= 2
			}
			return names, values
		},
	} {
		k := newKinship("n", "app-offload", 3, testLog{t})
		classes, err := task.NewClasses(nil)
		require.NoError(t, err)
		names, values := []string{"x_y"}, []float64{1.5}
		computed := 0
		for ; computed < 100; computed++ {
			ev := &task.Event{ID: uuid.NewString(), Device: "d", Encoding: task.JSON}
			for i, name := range names {
				ev.Readings = append(ev.Readings, task.Reading{Resource: name, Type: task.Float64, Value: fmt.Append(nil, values[i])})
			}
			if !k.admit(ev, classes) {
				break
			}
			published := dtos.NewEvent("P", "d", names[0]+"_summary")
			require.NoError(t, published.AddSimpleReading(names[0]+"_summary_max", "Float64", values[0]))
			require.NoError(t, k.sign(&bin{}).Publish(local.Result{Event: published, Hop: 1}))
			names, values = change([]string{names[0] + "_summary_max"}, values[:1])
		}
		require.Equal(t, 2, computed, "%s: the device's event and its changed result", relay)
	}
}

// What is remembered is bounded, and the latest is kept.
func TestKinshipIsBounded(t *testing.T) {
	k := newKinship("n", "app-offload", 3, testLog{t})
	for n := range uint64(3*maxKin + 7) {
		k.remember([]uint64{n % (2 * maxKin), 1})
	}
	require.Len(t, k.latest, maxKin)
	require.LessOrEqual(t, len(k.kin), maxKin)
	require.Positive(t, k.kin[1])
	for n := range 2*maxKin + 7 {
		k.deepen("s", []string{fmt.Sprint(n)})
	}
	require.LessOrEqual(t, len(k.depth), maxKin)
}

func TestLineageOfTags(t *testing.T) {
	for tags, want := range map[string]task.Lineage{
		``:                   {},
		`{"a":"b"}`:          {},
		`{"x":"offloadHop"}`: {},
		`{"offloadHop":"1","offloadService":"s","offloadNode":"n"}`: {Node: "n", Service: "s", Hop: 1},
		`{"offloadHop":2,"offloadService":"s"}`:                     {Service: "s", Hop: 2}, // a rule made a number of it
		`{"offloadHop":"x"}`:                                        {Hop: task.MaxHop},
		`{"offloadHop":null}`:                                       {Hop: task.MaxHop},
		`{"offloadHop":-1}`:                                         {Hop: task.MaxHop},
		`{"offloadHop":1e99}`:                                       {Hop: task.MaxHop},
		`{"offloadService":"s"}`:                                    {Service: "s", Hop: task.MaxHop},
		`{"offload\u0048op":"1"}`:                                   {Hop: 1},
	} {
		ev := &task.Event{Encoding: task.JSON, Tags: []byte(tags)}
		require.Equal(t, want, ev.Tagged(), tags)
	}
}

// The correlation id of the envelope is in the batch, in the decision and on the result.
func TestTheCorrelationIDOfTheEnvelopeTravels(t *testing.T) {
	for _, policy := range []string{"cloud", "edge"} {
		b, out := startBroker(t), &bin{}
		cloud := startCloud(t, b, "n1", NewKeyring("", nil))
		c := testConfig(t, b, policy)
		c.Local.Operators = "deadband band=0.1"
		s := open(t, c, out)
		s.Start()
		require.NoError(t, s.Receive(Message{Topic: "edgex/events/device/x", ContentType: "application/json", CorrelationID: "corr-1", Payload: event("d", 1).Raw}))
		require.Equal(t, "corr-1", s.Decisions(1, nil)[0].CorrelationID)
		if policy == "edge" {
			require.Equal(t, "corr-1", out.results[0].CorrelationID)
			continue
		}
		eventually(t, 10*time.Second, "the batch", func() bool { return len(cloud.tasks()) == 1 })
		require.Equal(t, "corr-1", cloud.tasks()[0].CorrelationID)
	}
}
