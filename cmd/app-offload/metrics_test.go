package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	edgex "github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap/interfaces"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	gometrics "github.com/rcrowley/go-metrics"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/export"
	"app-offload/functions/forward"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/local"
	"app-offload/functions/shed"
	"app-offload/functions/status"
)

// full is a status in which every metric has a value.
func full() status.Status {
	arm := status.ArmStatus{Outcomes: 10, MissShare: 0.1, Cost: 0.5}
	return status.Status{
		Ready:  true,
		Health: status.Health{State: status.Well}, Version: "v1.2.0", Commit: "0123456789ab",
		Drops:    status.DropStatus{List: []status.Drop{{Class: "vibration", Reason: "ttl", Count: 1, Unacknowledged: 1}}},
		Counts:   status.Counts{Accepted: 10, Local: 4, Receipted: 3, Spooled: 2, Dropped: map[string]int64{"ttl": 1}},
		Events:   status.EventCounts{Received: 9, Refused: map[string]uint64{"bytes": 1}, Quarantined: map[string]uint64{"malformed": 2}},
		Link:     host.Link{Up: true, Goodput: 1e6, Goodput10: 4e5, Goodput50: 9e5, RTT: 0.05, RTT95: 0.1},
		Node:     host.State{CPU: 50, Memory: 40, Temperature: 51, Watts: 3, Battery: 80},
		Export:   export.Stats{Errors: map[string]uint64{"timeout": 1}},
		Models:   &infer.Stats{Classes: []infer.ClassStats{{Class: "vibration", Model: "bearing", Final: 3, Provisional: 1, Run: 0.001, Latency: 0.002}}},
		Overload: shed.Overload{Local: 2, Flows: []shed.Flow{{Class: "vibration", Value: 2, Pressure: 1.2, Effects: shed.Effects{Dropped: 3}}}},
		Results:  forward.Counts{Sent: 1, Unsent: map[string]int64{"large": 1}},
		Local: local.Counts{
			Results: map[string]int64{"summary": 1}, Dropped: map[string]int64{"publish": 1},
			Skipped: map[string]int64{"notNumeric": 1}, Panics: map[string]int64{"rate": 1},
		},
		Policies: status.PolicyStatus{
			Decided:    []status.DecidedCount{{Policy: "cost", Target: "local", Class: "vibration", Count: 4}, {Policy: "cost", Target: "cloud", Class: "vibration", Count: 6}},
			Prediction: []status.PredictionStatus{{Class: "vibration", Target: "local", Count: 4, Predicted: 0.1, Actual: 0.2, Error: 0.5}},
			Shadows:    []status.ShadowStatus{{Policy: "bandit", Decisions: 10, Agreement: 0.9, Cost: 0.4, ActingCost: 0.5}},
			Canary:     &status.CanaryStatus{Policy: "ppo", Share: 0.05, State: "running", Canary: arm, Incumbent: arm},
			Joules:     12.5,
			Learned:    status.LearnedStatus{Outcomes: map[string]status.TaughtCount{"bandit": {Local: 7, Cloud: 5}}},

			DecisionLog: &status.DecisionLogStatus{Written: 5},
			Governor:    &host.GovernorStatus{State: "acting", Share: 0.8},
		},
	}
}

// Names, units and help follow Prometheus' conventions, and every entry of the list has a value in a full status.
func TestMetricsFollowTheConventions(t *testing.T) {
	c := newCollector(full)
	problems, err := testutil.CollectAndLint(c)
	require.NoError(t, err)
	require.Empty(t, problems)
	for _, m := range metrics() {
		require.Positive(t, testutil.CollectAndCount(c, m.prometheusName()), m.prometheusName())
	}
}

// Each metric has the value of its own field of the status: fields that full leaves at 0 are numbered by their path.
func TestMetricsAreTheStatus(t *testing.T) {
	st := full()
	number("", reflect.ValueOf(&st).Elem())
	handler, err := metricsHandler(func() status.Status { return st })
	require.NoError(t, err)
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	var lines strings.Builder
	for line := range strings.Lines(rec.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			lines.WriteString(line)
		}
	}
	golden.Require(t, "metrics.golden", lines.String())
}

// number sets zero numbers to distinct values.
func number(path string, v reflect.Value) {
	own := float64(crc32.ChecksumIEEE([]byte(path))%9000 + 1000)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			number(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			number(fmt.Sprint(path, i), v.Index(i))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			number(path, v.Elem())
		}
	default:
		switch {
		case !v.CanSet() || !v.IsZero():
		case v.CanInt():
			v.SetInt(int64(own))
		case v.CanUint():
			v.SetUint(uint64(own))
		case v.CanFloat():
			v.SetFloat(own)
		}
	}
}

// An absent sensor has no series, and no zero that would look like a measurement.
func TestWhatIsUnknownIsLeftOut(t *testing.T) {
	st := full()
	st.Node.Temperature, st.Node.Watts, st.Node.Battery = math.NaN(), math.NaN(), math.NaN()
	c := newCollector(func() status.Status { return st })
	for _, name := range []string{"node_temperature_celsius", "node_power_watts", "node_battery_ratio"} {
		require.Zero(t, testutil.CollectAndCount(c, "app_offload_"+name), name)
	}
}

// EdgeX finds a metric by the prefix of its name, so no name may be a prefix of another, the SDK's included.
func TestEdgeXNamesAreNoPrefixes(t *testing.T) {
	names := []string{
		"MessagesReceived", "InvalidMessagesReceived", "HttpExportSize", "MqttExportSize", "PipelineMessagesProcessed",
		"PipelineMessageProcessingTime", "PipelineProcessingErrors", "StoreForwardQueueSize", "SecuritySecretsRequested",
	}
	for _, m := range metrics() {
		names = append(names, m.edgexName())
	}
	for i, a := range names {
		for j, b := range names {
			require.False(t, i != j && strings.HasPrefix(b, a), "%s begins like %s", b, a)
		}
	}
}

// The shipped configuration enables every metric by its name, and names no unknown one.
func TestShippedConfigurationNamesEveryMetric(t *testing.T) {
	raw, err := os.ReadFile("../../functions/config/testdata/head.yaml")
	require.NoError(t, err)
	var head struct {
		Writable struct {
			Telemetry struct {
				Metrics map[string]bool `yaml:"Metrics"`
			} `yaml:"Telemetry"`
		} `yaml:"Writable"`
	}
	require.NoError(t, yaml.Unmarshal(raw, &head))
	have, want := []string{}, []string{}
	for name := range head.Writable.Telemetry.Metrics {
		if strings.HasPrefix(name, "Offload") {
			have = append(have, name)
		}
	}
	for _, m := range metrics() {
		want = append(want, m.edgexName())
	}
	slices.Sort(have)
	slices.Sort(want)
	require.Equal(t, want, have, "mend the list in functions/config/testdata/head.yaml, then run make docs:\n%s", strings.Join(want, ": true\n")+": true")
}

// manager is a fake of EdgeX's registry.
type manager struct {
	edgex.MetricsManager
	items map[string]any
	tags  map[string]map[string]string
	fail  bool
}

func (m *manager) Register(name string, item any, tags map[string]string) error {
	if m.fail {
		return errors.New("no")
	}
	m.items[name], m.tags[name] = item, tags
	return nil
}

func (m *manager) Unregister(name string) { delete(m.items, name) }

// EdgeX gets the same numbers: counters as counters, everything else with fractions; series that are gone are removed.
func TestTelemetryFollowsTheStatus(t *testing.T) {
	m := &manager{items: map[string]any{}, tags: map[string]map[string]string{}}
	telemetry, st := newTelemetry(m), full()
	require.NoError(t, telemetry.update(&st))
	const series = "OffloadDecisions.cost.cloud.vibration"
	require.Equal(t, int64(6), m.items[series].(gometrics.Counter).Count())
	require.Equal(t, map[string]string{"policy": "cost", "target": "cloud", "class": "vibration"}, m.tags[series])
	require.InDelta(t, 12.5, m.items["OffloadTaskEnergyJoules"].(gometrics.GaugeFloat64).Value(), 0)

	st.Policies.Decided = st.Policies.Decided[1:]
	st.Policies.Decided[0].Count = 8
	require.NoError(t, telemetry.update(&st))
	require.Equal(t, int64(8), m.items[series].(gometrics.Counter).Count())
	require.NotContains(t, m.items, "OffloadDecisions.cost.local.vibration")

	st = full()
	require.NoError(t, telemetry.update(&st))
	require.Equal(t, int64(4), m.items["OffloadDecisions.cost.local.vibration"].(gometrics.Counter).Count(), "what comes back is registered anew")

	m.fail, st.Policies.Shadows[0].Policy = true, "other"
	require.ErrorContains(t, telemetry.update(&st), "OffloadShadowDecisions", "the first problem")
}

// While the bus is down there are no series for EdgeX to publish; afterwards all are there again, with their counts.
func TestTelemetryPausesWithoutABus(t *testing.T) {
	m := &manager{items: map[string]any{}, tags: map[string]map[string]string{}}
	telemetry, st := newTelemetry(m), full()
	require.NoError(t, telemetry.update(&st))
	all := len(m.items)
	require.Greater(t, all, 50)
	telemetry.pause()
	require.Empty(t, m.items)
	require.NoError(t, telemetry.update(&st))
	require.Len(t, m.items, all)
	require.Equal(t, int64(6), m.items["OffloadDecisions.cost.cloud.vibration"].(gometrics.Counter).Count())
}

// A scrape is answered in Prometheus' text format.
func TestScrape(t *testing.T) {
	h, err := metricsHandler(full)
	require.NoError(t, err)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Contains(t, rec.Body.String(), `app_offload_decisions_total{class="vibration",policy="cost",target="cloud"} 6`)
	require.Contains(t, rec.Body.String(), "\napp_offload_tasks_balance 0\n")

	h, err = metricsHandler(func() status.Status {
		return status.Status{Events: status.EventCounts{Quarantined: map[string]uint64{"\xff": 1}}}
	})
	require.NoError(t, err)
	rec = httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, rec.Code)
	require.Contains(t, rec.Body.String(), "\napp_offload_tasks_balance 0\n", "beside a metric that cannot be written")
}

// Grafana's dashboard uses only existing metrics, and shows the account.
func TestGrafanaAsksForWhatExists(t *testing.T) {
	raw, err := os.ReadFile("../../res/grafana/app-offload.json")
	require.NoError(t, err)
	require.True(t, json.Valid(raw))
	known := map[string]bool{}
	for _, m := range metrics() {
		known[m.prometheusName()] = true
	}
	asked := regexp.MustCompile(`app_offload_[a-z0-9_]+`).FindAllString(string(raw), -1)
	require.Greater(t, len(asked), 20)
	for _, name := range asked {
		require.True(t, known[name], "%s is no metric", name)
	}
	for _, name := range []string{"tasks_accepted_total", "tasks_local_total", "tasks_receipted_total", "tasks_spooled", "tasks_dropped_total", "tasks_balance"} {
		require.Contains(t, asked, "app_offload_"+name)
	}
}

// On a real broker: EdgeX's telemetry arrives on its topic with the numbers of the running service, labels as tags.
func TestTelemetryOnTheBus(t *testing.T) {
	t.Parallel()
	e := newEdgeAtMosquitto(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", "WRITABLE_TELEMETRY_INTERVAL=1s")
	var mu sync.Mutex
	heard := map[string]float64{}
	token := e.client.Subscribe("edgex/telemetry/app-offload/#", 1, func(_ paho.Client, m paho.Message) {
		name, value, err := telemetryOf(m.Payload())
		if err != nil {
			t.Errorf("%s: %v", m.Topic(), err)
		}
		mu.Lock()
		defer mu.Unlock()
		heard[name] = value
		if !strings.HasSuffix(m.Topic(), "/"+strings.Split(name, "{")[0]) {
			t.Errorf("%s came on %s", name, m.Topic())
		}
	})
	require.True(t, token.WaitTimeout(patience))
	e.start()
	for n := range 50 {
		e.publish(n)
	}
	for name, want := range map[string]float64{
		"OffloadTasksAccepted": 50, "OffloadTasksReceipted": 50, "OffloadTasksBalance": 0, "OffloadLinkUp": 1,
		"OffloadEventsRefused{reason=events}": 0, "OffloadReady": 1,
	} {
		e.await(fmt.Sprintf("%s is %g", name, want), func() bool {
			mu.Lock()
			defer mu.Unlock()
			v, ok := heard[name]
			return ok && v == want
		})
	}
	resp, err := http.Get(e.api + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	problems, err := promlint.New(resp.Body).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

// A running service under load logs nothing for each message, not even for a malformed one.
func TestNothingIsLoggedPerMessage(t *testing.T) {
	t.Parallel()
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=random", "OFFLOAD_LOCAL_OPERATORS=summary window=100ms")
	e.start()
	e.publish(0)
	e.await("the first is through", func() bool { return e.counts().Accepted == 1 })
	e.await("the start is logged", func() bool { return strings.Contains(e.log.String(), "ready: accepting events") })
	before := e.log.String()
	for n := range 500 {
		e.publish(n + 1)
		e.send([]byte("rubbish"))
	}
	e.await("all are through", func() bool { return e.counts().Accepted == 501 })
	require.LessOrEqual(t, strings.Count(strings.TrimPrefix(e.log.String(), before), "\n"), 3)
}

// telemetryOf opens an envelope with a metric, and appends its tags to its name.
func telemetryOf(message []byte) (string, float64, error) {
	var envelope struct{ Payload []byte }
	if err := json.Unmarshal(message, &envelope); err != nil {
		return "", 0, err
	}
	var metric struct {
		Name   string
		Fields []struct {
			Name  string
			Value float64
		}
		Tags []struct{ Name, Value string }
	}
	if err := json.Unmarshal(envelope.Payload, &metric); err != nil || len(metric.Fields) == 0 {
		return "", 0, fmt.Errorf("no metric: %s (%w)", envelope.Payload, err)
	}
	name := metric.Name
	for _, tag := range metric.Tags {
		if tag.Name != "service" {
			name += "{" + tag.Name + "=" + tag.Value + "}"
		}
	}
	return name, metric.Fields[0].Value, nil
}
