// Package e2e runs app-offload in the real stack: Consul, a MessageBus, device services on EdgeX's own SDK, a broker and the consumer with its
// database, each a process of its own. Only core-metadata is a fake, see metadata_test.go. `make e2e` builds the programs and passes their location;
// without it the tests are skipped.
package e2e

import (
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRealStack(t *testing.T) {
	if os.Getenv("E2E_BIN") == "" || os.Getenv("E2E_CONSUL") == "" {
		t.Skip("run `make e2e`, which builds the programs and Consul")
	}
	for name, start := range map[string]func(*testing.T) *bus{"Redis": startRedis, "MQTT": startMQTT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStack(t, start)
			step := func(what string, do func(*testing.T, *stack)) {
				begin := time.Now()
				do(t, s)
				t.Logf("%-55s %6.1f s", what, time.Since(begin).Seconds())
			}
			step("starts and stops without core-metadata", missesNoMetadata)
			step("a value emptied in Consul refuses the start", refusesAnEmptiedValue)
			step("registered, healthy and ready", comesUp)
			step("every Writable changes while events flow", changesLive)
			step("a mistake keeps the old configuration", refusesMistakes)
			step("results are events on the bus", resultsReachTheBus)
			step("Consul goes and comes back", outlivesConsul)
			step("nothing lost so far", accountsForAll)
			step("the bus goes and comes back", outlivesTheBus)
			step("leaves in order", leaves)
		})
	}
}

// stopTime is the longest time that a stop may take: 8 s, plus what a busy machine adds.
const stopTime = 15 * time.Second

// missesNoMetadata starts app-offload while core-metadata neither runs nor is registered. It becomes ready, and SIGTERM ends it, also while it still
// waits for the bus.
func missesNoMetadata(t *testing.T, s *stack) {
	s.offload.start()
	ready := s.timed("ready without core-metadata", func() bool { code, _ := s.ready(); return code == http.StatusOK })
	require.Less(t, ready, 30*time.Second)
	begin := time.Now()
	require.NoError(t, s.offload.stop(), s.offload.log.tail())
	require.Less(t, time.Since(begin), stopTime, s.offload.log.tail())
	require.False(t, s.consul.registered("app-offload"), "it is not registered any more")

	require.NoError(t, s.bus.stop())
	s.offload.start()
	time.Sleep(3 * time.Second) // it waits for the bus by then
	begin = time.Now()
	_ = s.offload.stop() // a start that did not succeed may end with a failure
	require.Less(t, time.Since(begin), stopTime, s.offload.log.tail())
	s.bus.begin()
	s.startMetadata()
}

// refusesAnEmptiedValue starts app-offload while Consul has an empty text for a switch, which the SDK reads as false: the data of a class that must
// not leave would leave.
func refusesAnEmptiedValue(t *testing.T, s *stack) {
	const key = "Classes/default/NeverLeave"
	s.consul.putAll(writable, map[string]string{key: ""})
	s.offload.start()
	require.Error(t, s.offload.end(), s.offload.log.tail())
	require.Contains(t, s.offload.log.String(), "Offload.Writable.Classes.default.NeverLeave = ")
	s.consul.putAll(writable, map[string]string{key: "false"})
}

// comesUp starts app-offload before the bus and before any device service, and compares it with what EdgeX and its operator see of it. On MQTT the
// SDK serves nothing until it has the bus.
func comesUp(t *testing.T, s *stack) {
	require.NoError(t, s.bus.stop())
	s.offload.start()
	if s.bus.kind == "redis" {
		s.await("alive, and not ready without the bus", func() bool {
			code, reasons := s.ready()
			return code == http.StatusServiceUnavailable && strings.Contains(reasons, "intake") && s.get("offload/live", nil) == http.StatusOK
		})
	}
	s.bus.begin()
	s.await("ready", func() bool { code, _ := s.ready(); return code == http.StatusOK })
	require.Equal(t, http.StatusOK, s.get("offload/live", nil))
	require.Equal(t, http.StatusOK, s.get("ping", nil))
	s.await("registered, and its health passes", func() bool { return s.consul.passing("app-offload") })
	_, pushed := s.consul.get(writable + "Batch/MaxCount")
	require.True(t, pushed, "the configuration is in Consul")
	s.startDevices()
	s.flows()
	s.await("both device services publish", func() bool {
		seen := map[string]bool{}
		for _, d := range s.latest("") {
			seen[d.Device] = true
		}
		return seen["device-json-1"] && seen["device-cbor-1"]
	})
}

// change is a change of one key, with a check that it is in force.
type change struct {
	what   string
	values map[string]string // below Writable
	holds  func(s *stack, since uint64) bool
}

// plant is a class that did not exist when the service started.
func plant(policy string) map[string]string {
	return map[string]string{
		"Classes/plant/MatchDevice": "device-cbor-*", "Classes/plant/MatchSource": "Level", "Classes/plant/Policy": policy,
		"Classes/plant/Operators": "summary window=1s", "Classes/plant/Priority": "7", "Classes/plant/Off": "false",
	}
}

// newest reports whether such a decision is among the latest, and was made after the change.
func newest(filter string, like func(decision) bool) func(*stack, uint64) bool {
	return func(s *stack, since uint64) bool {
		return slices.ContainsFunc(s.latest(filter), func(d decision) bool { return d.ID > since && like(d) })
	}
}

// without holds once the latest hundred decisions have none of the class, which would make ten a second.
func without(class string) func(*stack, uint64) bool {
	return func(s *stack, since uint64) bool {
		last, of := s.latest("")[0].ID, s.latest("&class="+class)
		return last > since+100 && (len(of) == 0 || of[0].ID < last-100)
	}
}

func by(policy, target string) func(decision) bool {
	return func(d decision) bool { return d.Policy == policy && d.Decision.Target == target }
}

func formula(text string) func(*stack, uint64) bool {
	return func(s *stack, _ uint64) bool { return strings.Contains(s.status().Policy, text) }
}

var changes = []change{
	{"policy", map[string]string{"Policy/Default": "edge"}, newest("&class=default", by("edge", "local"))},
	{"policy weighted", map[string]string{"Policy/Default": "weighted"}, newest("", func(d decision) bool { return d.Policy == "weighted" })},
	{"threshold above all scores", map[string]string{"Policy/WeightedThreshold": "0.98"}, newest("&class=default", by("weighted", "local"))},
	{"threshold below all scores", map[string]string{"Policy/WeightedThreshold": "0.01"}, newest("&class=default", by("weighted", "cloud"))},
	{"a preset", map[string]string{"Policy/WeightedPreset": "article", "Policy/WeightedThreshold": "0.37"}, formula("0.37")},
	{"a new class", plant("edge"), newest("&class=plant", by("edge", "local"))},
	{"that class's policy", plant("cloud"), newest("&class=plant", by("cloud", "cloud"))},
	{"that class is off", map[string]string{"Classes/plant/Off": "true"}, without("plant")},
	{"back to the cloud", map[string]string{"Policy/Default": "cloud"}, newest("&class=default", by("cloud", "cloud"))},
}

// changesLive changes each kind of key while events flow, and requires that most changes are live within two seconds.
func changesLive(t *testing.T, s *stack) {
	var took []time.Duration
	for _, c := range changes {
		since := s.latest("")[0].ID
		s.consul.putAll(writable, c.values)
		d := s.timed(c.what, func() bool { return c.holds(s, since) })
		t.Logf("live after %4d ms: %s", d.Milliseconds(), c.what)
		took = append(took, d)
	}
	live := s.text("offload/config")
	for _, want := range []string{`"WeightedThreshold":0.37`, `"MatchSource":"Level"`, `"problem":""`} {
		require.Contains(t, live, want, "the API has the configuration in force")
	}
	took = append(took, changesBatches(t, s), changesShadows(t, s))
	slices.Sort(took)
	require.Less(t, took[len(took)/2], 2*time.Second, "half of the changes took longer: %v", took)
}

// changesBatches sets batches of one record each, which shows in the messages themselves.
func changesBatches(t *testing.T, s *stack) time.Duration {
	batches := s.listenToBatches()
	s.consul.putAll(writable, map[string]string{"Batch/MaxAge": "1s"})
	d := s.timed("batches gather for a second", func() bool { return batches.last() > 3 })
	t.Logf("live after %4d ms: the age of batches, and some batches of that age", d.Milliseconds())
	s.consul.putAll(writable, map[string]string{"Batch/MaxCount": "2"})
	d = s.timed("batches of two", func() bool { return batches.full(2) })
	t.Logf("live after %4d ms: the size of batches", d.Milliseconds())
	s.consul.putAll(writable, map[string]string{"Batch/MaxCount": "1000", "Batch/MaxAge": "20ms"})
	return d
}

// changesShadows adds a shadow policy, if the service supports it.
func changesShadows(t *testing.T, s *stack) time.Duration {
	const key = "Policy/Shadow"
	if _, ok := s.consul.get(writable + key); !ok {
		t.Logf("there is no key %s", key)
		return 0
	}
	s.consul.putAll(writable, map[string]string{key: "edge,cost"})
	d := s.timed("two shadows", func() bool { return len(s.status().Policies.Shadows) == 2 })
	t.Logf("live after %4d ms: the list of shadows", d.Milliseconds())
	s.consul.putAll(writable, map[string]string{key: "edge"})
	s.await("one shadow", func() bool { return len(s.status().Policies.Shadows) == 1 })
	return d
}

// refusesMistakes writes an invalid value, and one that is not a number: both are rejected, and the API names them.
func refusesMistakes(t *testing.T, s *stack) {
	before := s.status()
	telemetry := s.bus.listen("edgex/telemetry/app-offload/#")
	s.consul.putAll(writable, map[string]string{"Policy/WeightedThreshold": "7", "Policy/Default": "edge"})
	s.await("the API names the problem", func() bool { return strings.Contains(s.status().Configuration.Problem, "WeightedThreshold") })
	problem := s.status().Configuration.Problem
	require.Contains(t, problem, "7", "the value")
	require.Contains(t, problem, "1", "the bound")
	require.Contains(t, s.offload.log.String(), "configuration rejected", "the log says so")
	s.await("Prometheus shows it", func() bool {
		return strings.Contains(s.text("offload/metrics"), "\napp_offload_configuration_refused 1\n")
	})
	s.await("EdgeX's telemetry shows it", func() bool {
		return strings.Contains(telemetry.says("edgex/telemetry/app-offload/OffloadConfigurationRefused"), `"value":1`)
	})
	require.Equal(t, before.Configuration.Version, s.status().Configuration.Version, "the old one is in force, as a whole")
	require.Equal(t, before.Policy, s.status().Policy)
	require.Contains(t, s.text("offload/config"), `"WeightedThreshold":0.37`, "what was refused is not shown as if it were in force")
	s.flows()
	s.await("the newest decision is still the old policy's", newestIs(s, "cloud"))

	s.consul.putAll(writable, map[string]string{"Policy/WeightedThreshold": "0.5", "Policy/Default": "cloud"})
	s.await("mended", func() bool { return s.status().Configuration.Problem == "" })

	said := strings.Count(s.offload.log.String(), "level=ERROR")
	s.consul.putAll(writable, map[string]string{"Policy/WeightedThreshold": "many"})
	s.await("the log says that it is no number", func() bool { return strings.Count(s.offload.log.String(), "level=ERROR") > said })
	s.await("and the API names key and value", func() bool { return strings.Contains(s.status().Configuration.Problem, `WeightedThreshold = "many"`) })
	require.Equal(t, http.StatusOK, s.get("offload/ready", nil))
	s.flows()
	s.consul.putAll(writable, map[string]string{"Policy/WeightedThreshold": "0.5", "Policy/Default": "edge"})
	s.await("mended, a later change is live", newestIs(s, "edge"))
	s.consul.putAll(writable, map[string]string{"Policy/Default": "cloud"})
	s.await("back to the cloud", newestIs(s, "cloud"))
}

func newestIs(s *stack, policy string) func() bool {
	return func() bool {
		latest := s.latest("&class=default")
		return len(latest) > 0 && latest[0].Policy == policy
	}
}

// resultsReachTheBus processes one class locally: its summaries return as events, where core-data receives them.
func resultsReachTheBus(_ *testing.T, s *stack) {
	l := s.bus.listen("edgex/events/device/app-offload/#")
	local := s.status().Counts.Local
	s.consul.putAll(writable, plant("edge"))
	s.await("results are events on the bus", func() bool { return l.heard() > 0 })
	s.await("tasks are done here", func() bool { return s.status().Counts.Local > local })
}

// outlivesConsul stops Consul: the flow continues, and afterwards health and changes are back.
func outlivesConsul(t *testing.T, s *stack) {
	s.consul.kill()
	s.flows()
	code, reasons := s.ready()
	require.Equal(t, http.StatusOK, code, "without Consul only changes are missing: %s", reasons)
	s.consul.begin()
	s.await("health passes again", func() bool { return s.consul.passing("app-offload") })
	// Consul's watchers retry after growing pauses, the first 5 s.
	s.consul.putAll(writable, map[string]string{"Policy/Default": "random"})
	d := s.timed("a change after Consul's return", newestIs(s, "random"))
	t.Logf("live after %4d ms: a change right after Consul's return", d.Milliseconds())
	s.consul.putAll(writable, map[string]string{"Policy/Default": "cloud"})
	s.await("back to the cloud", newestIs(s, "cloud"))
}

// accountsForAll silences the devices and compares: every event that a device service published is either in the database or done locally, none of
// them twice, and there are no others.
func accountsForAll(t *testing.T, s *stack) {
	s.setPaused(true)
	s.await("all that was published is accepted", func() bool { return s.status().Counts.Accepted == int64(len(s.published())) })
	s.accounted()
	published, stored := s.published(), s.settled()
	st := s.status()
	require.Len(t, published, len(stored)+int(st.Counts.Local), "in the database, or done here")
	for id := range stored {
		require.True(t, published[id], "event %s is in the database, but was not published", id)
	}
	require.Empty(t, st.Events.Quarantined)
	t.Logf("%d events published, %d in the database, %d done here", len(published), len(stored), st.Counts.Local)
	s.setPaused(false)
	s.flows()
}

// accounted waits until nothing is in flight, and checks the account.
func (s *stack) accounted() {
	s.t.Helper()
	s.await("nothing is in progress", func() bool {
		c := s.status().Counts
		return c.Spooled == 0 && c.InFlight == 0 && c.Accepted > 0
	})
	c := s.status().Counts
	require.Zero(s.t, c.Balance)
	for reason, n := range c.Dropped {
		require.Zero(s.t, n, reason)
	}
}

// settled returns the events in the database, once there are as many as were receipted.
func (s *stack) settled() map[string]bool {
	s.t.Helper()
	var ids map[string]bool
	s.await("what is receipted is in the database", func() bool {
		stored, incomplete := s.stored()
		ids = stored
		return incomplete == 0 && int64(len(ids)) == s.status().Counts.Receipted
	})
	return ids
}

// outlivesTheBus stops the MessageBus: the probe reports it with the reason, and afterwards no event accepted by the bus is missing or, on a bus
// without persistence, none accepted since the probe reported that it is well again.
func outlivesTheBus(t *testing.T, s *stack) {
	require.NoError(t, s.bus.stop())
	s.await("not ready, with a reason", func() bool {
		code, reasons := s.ready()
		return code == http.StatusServiceUnavailable && strings.Contains(reasons, "intake")
	})
	require.Equal(t, http.StatusOK, s.get("offload/live", nil), "alive all the same")
	s.bus.begin()
	s.await("ready again", func() bool { code, _ := s.ready(); return code == http.StatusOK })
	expected := map[string]bool{}
	if !s.bus.keeps {
		expected = s.published() // those before may be lost, and are none of the account
	}
	s.flows()
	s.setPaused(true)
	s.await("all that the bus has taken is in the database or done here", func() bool { return s.arrived(expected) })
	s.accounted()
	published := s.published()
	for id := range s.settled() {
		require.True(t, published[id] || s.bus.keeps, "event %s is in the database, but was not published", id)
	}
}

// arrived reports whether every published event, except for some, was decided on.
func (s *stack) arrived(except map[string]bool) bool {
	s.t.Helper()
	var body struct{ Decisions []struct{ EventID string } }
	seen := map[string]bool{}
	s.get("offload/decisions?limit=1000", &body)
	for _, d := range body.Decisions {
		seen[d.EventID] = true
	}
	stored, _ := s.stored()
	for id := range s.published() {
		if !except[id] && !seen[id] && !stored[id] {
			return false
		}
	}
	return true
}

// leaves ends everything in order.
func leaves(t *testing.T, s *stack) {
	begin := time.Now()
	require.NoError(t, s.offload.stop(), s.offload.log.tail())
	t.Logf("app-offload stopped in %d ms", time.Since(begin).Milliseconds())
	require.False(t, s.consul.registered("app-offload"), "it is not registered any more")
	require.NotContains(t, s.offload.log.String(), "panic")
	for _, d := range s.devices {
		_ = d.stop() // how the SDK ends is its own affair
	}
	require.NoError(t, s.store.stop(), s.store.log.tail())
}
