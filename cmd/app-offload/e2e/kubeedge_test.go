package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"
)

// rule is the routing part of a Rule of KubeEdge's router; the manifests' own test compares them with KubeEdge's types.
type rule struct {
	Kind string
	Spec struct {
		SourceResource map[string]string `yaml:"sourceResource"`
		TargetResource map[string]string `yaml:"targetResource"`
	}
}

func kubeedgeRules(t *testing.T) (rules []rule) {
	t.Helper()
	raw, err := os.ReadFile("../../../res/kubeedge/router.yaml")
	require.NoError(t, err)
	for documents := yaml.NewDecoder(bytes.NewReader(raw)); ; {
		var r rule
		if err := documents.Decode(&r); errors.Is(err, io.EOF) {
			return rules
		} else {
			require.NoError(t, err)
		}
		if r.Kind == "Rule" {
			rules = append(rules, r)
		}
	}
}

// eventBus does what KubeEdge's EventBus and router do between an MQTT broker on the node and HTTP in the cloud, by the rules: exact topics, QoS 1,
// the payload as a string in JSON, a POST whose response is ignored; and the reverse path.
type eventBus struct {
	t      *testing.T
	broker paho.Client
	rules  []rule
	inlet  string // of the consumer, in place of its name in the cluster
}

func (b *eventBus) start(broker string) (replies string) {
	b.t.Helper()
	b.broker = paho.NewClient(paho.NewClientOptions().AddBroker(broker).SetClientID("hub-client").SetOrderMatters(false))
	done := func(token paho.Token) {
		b.t.Helper()
		require.True(b.t, token.WaitTimeout(patience))
		require.NoError(b.t, token.Error())
	}
	done(b.broker.Connect())
	b.t.Cleanup(func() { b.broker.Disconnect(100) })
	for _, r := range b.rules {
		if topic := r.Spec.SourceResource["topic"]; topic != "" {
			resource := strings.Replace(r.Spec.TargetResource["resource"], "offload-cloud.offload:8080", b.inlet, 1)
			done(b.broker.Subscribe(topic, 1, func(_ paho.Client, m paho.Message) { b.carry(resource, m.Payload()) }))
		}
	}
	s := httptest.NewServer(http.HandlerFunc(b.back))
	b.t.Cleanup(s.Close)
	return s.URL
}

// carry forwards a message to the cloud. A payload that is not text would not survive it.
func (b *eventBus) carry(resource string, payload []byte) {
	asText, err := json.Marshal(string(payload))
	if err != nil {
		b.t.Errorf("a message is no text: %v", err)
		return
	}
	var text string
	if err := json.Unmarshal(asText, &text); err != nil {
		b.t.Errorf("a message is no text: %v", err)
		return
	}
	resp, err := http.Post(resource, "application/json", strings.NewReader(text))
	if err != nil {
		return // the consumer is away: the message is lost
	}
	_ = resp.Body.Close()
}

// back publishes on the node what is posted to /{node}/{namespace}/{path of a rule}/….
func (b *eventBus) back(w http.ResponseWriter, r *http.Request) {
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/"), "/", 3)
	for _, rule := range b.rules {
		prefix := rule.Spec.SourceResource["path"]
		if prefix == "" || len(parts) < 3 || parts[0] != "edge-1" || parts[1] != "offload" || !strings.HasPrefix("/"+parts[2], prefix) {
			continue
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		topic := path.Join(rule.Spec.TargetResource["topic"], strings.TrimPrefix("/"+parts[2], prefix))
		b.broker.Publish(topic, 1, false, string(body))
		return
	}
	http.NotFound(w, r)
}

// The contract with KubeEdge's EventBus, against a real broker and by the shipped rules: batches of every class reach the consumer, their receipts
// return, and a consumer that was down receives what it missed.
func TestKubeEdge(t *testing.T) {
	if os.Getenv("E2E_BIN") == "" {
		t.Skip("run `make e2e`, which builds the programs")
	}
	t.Parallel()
	port, inlet, dir := freePort(t), freePort(t), t.TempDir()
	broker := newMosquitto(t, "edge-broker", port)
	broker.start()
	await(t, "the node's broker answers", func() bool { return answers(port) }, broker.log.tail)
	rules := kubeedgeRules(t)
	require.Len(t, rules, 6)
	bus := &eventBus{t: t, rules: rules, inlet: net.JoinHostPort("127.0.0.1", inlet)}
	replies := bus.start("tcp://127.0.0.1:" + port)

	s := &stack{t: t, dir: dir, dsn: "sqlite:" + filepath.Join(dir, "cloud.db")}
	s.store = newProcess(t, "offload-cloud", binary("offload-cloud"), "-from", "http://127.0.0.1:"+inlet,
		"-replies", replies+"/{node}/offload/receipts", "-store", s.dsn)
	s.offload = standalone(s, port)
	s.offload.start()
	s.await("ready", func() bool { code, _ := s.ready(); return code == http.StatusOK })
	profiles := []string{"Sensor", "Camera-1", "Vibration-1"} // of the three classes
	for _, p := range profiles {                              // the consumer is not there yet
		s.post(p)
	}
	s.await("all are kept", func() bool { return s.status().Counts.Spooled == int64(len(profiles)) })
	s.store.start()
	s.await("the consumer is there", func() bool { return answers(inlet) })
	for range 20 {
		for _, p := range profiles {
			s.post(p)
		}
	}
	want := 21 * len(profiles)
	s.await("all have their receipt", func() bool { return s.status().Counts.Receipted == int64(want) })
	require.Zero(t, s.status().Counts.Balance)
	stored, incomplete := s.stored()
	require.Len(t, stored, want)
	require.Zero(t, incomplete)
	require.NoError(t, s.offload.stop(), s.offload.log.tail())
	require.NoError(t, s.store.stop(), s.store.log.tail())
}

// standalone is app-offload without a stack: events are posted to it.
func standalone(s *stack, brokerPort string) *process {
	s.t.Helper()
	res, err := filepath.Abs("../../../res")
	require.NoError(s.t, err)
	file := filepath.Join(s.dir, "common.yaml")
	text := fmt.Sprintf(common, "0", `{Disabled: true, Type: mqtt, Protocol: tcp, Host: 127.0.0.1, Port: 0, AuthMode: none, BaseTopicPrefix: edgex}`, "0")
	require.NoError(s.t, os.WriteFile(file, []byte(text), 0o600))
	port := freePort(s.t)
	s.api = "http://127.0.0.1:" + port + "/api/v3/"
	p := newProcess(s.t, "app-offload", binary("app-offload"), "-cc", file, "-cd", res)
	p.env = []string{
		"EDGEX_SECURITY_SECRET_STORE=false", "SERVICE_HOST=127.0.0.1", "SERVICE_PORT=" + port, "TRIGGER_TYPE=http", "OFFLOAD_NODE=edge-1",
		"OFFLOAD_SPOOL_DIRECTORY=" + filepath.Join(s.dir, "spool"), "OFFLOAD_EXPORT_BROKER=tcp://127.0.0.1:" + brokerPort,
		"OFFLOAD_SEAL_FORM=json", "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", "OFFLOAD_WRITABLE_BATCH_MAXAGE=20ms",
		"OFFLOAD_EXPORT_RECEIPTTIMEOUT=1s",
	}
	return p
}

// post sends app-offload one event of the profile.
func (s *stack) post(profile string) {
	s.t.Helper()
	id := uuid.NewString()
	body := fmt.Sprintf(`{"apiVersion":"v3","requestId":"%[1]s","event":{"apiVersion":"v3","id":"%[1]s","deviceName":"d","profileName":%[2]q,"sourceName":"S","origin":1,`+
		`"readings":[{"id":"%[1]s","origin":1,"deviceName":"d","resourceName":"R","profileName":%[2]q,"valueType":"String","value":"grüß"}]}}`, id, profile)
	resp, err := http.Post(s.api+"trigger", "application/json", strings.NewReader(body))
	require.NoError(s.t, err)
	require.NoError(s.t, resp.Body.Close())
	require.Equal(s.t, http.StatusOK, resp.StatusCode)
}
