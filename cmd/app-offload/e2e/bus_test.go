package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/edgexfoundry/go-mod-messaging/v3/messaging"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/stretchr/testify/require"
)

// bus is a real MessageBus, with the settings of EdgeX's common configuration.
type bus struct {
	*process
	port   string
	kind   string
	config string // the section MessageBus
	keeps  bool   // whether it brings what was published while a subscriber was away
}

// startMQTT runs mosquitto.
func startMQTT(t *testing.T) *bus {
	t.Helper()
	port := freePort(t)
	b := &bus{process: newMosquitto(t, "bus", port), port: port, kind: "mqtt", keeps: true}
	b.config = fmt.Sprintf(`{Disabled: false, Type: mqtt, Protocol: tcp, Host: 127.0.0.1, Port: %s, AuthMode: none, BaseTopicPrefix: edgex,
      Optional: {Qos: "1", KeepAlive: "10", AutoReconnect: "true", ConnectTimeout: "5", Retained: "false", SkipCertVerify: "false"}}`, b.port)
	b.begin()
	return b
}

// newMosquitto prepares a broker that keeps its sessions across a stop.
func newMosquitto(t *testing.T, name, port string) *process {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "mosquitto.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, "user root\nlistener %s 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"+
		"persistence true\npersistence_location %s/\n", port, dir), 0o600))
	return newProcess(t, name, "/usr/sbin/mosquitto", "-c", conf)
}

// startRedis runs Redis as EdgeX's no-secty stack does: no persistence of pub/sub, and empty user name and password.
func startRedis(t *testing.T) *bus {
	t.Helper()
	port := freePort(t)
	b := &bus{
		process: newProcess(t, "bus", "/usr/bin/redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir()),
		port:    port, kind: "redis",
	}
	b.config = fmt.Sprintf(`{Disabled: false, Type: redis, Protocol: redis, Host: 127.0.0.1, Port: %s, AuthMode: usernamepassword, SecretName: redisdb,
      BaseTopicPrefix: edgex, Optional: {Qos: "0", KeepAlive: "10", AutoReconnect: "true", ConnectTimeout: "5"}}`, port)
	b.begin()
	return b
}

// begin starts the bus, and waits until it answers.
func (b *bus) begin() {
	b.t.Helper()
	b.start()
	await(b.t, "the bus answers", func() bool { return answers(b.port) }, b.log.tail)
}

// listener receives the results published on the bus, as core-data does.
type listener struct {
	mu    sync.Mutex
	count int
	last  map[string]string // payload by topic
}

func (b *bus) listen(topic string) *listener {
	b.t.Helper()
	protocol := map[string]string{"mqtt": "tcp", "redis": "redis"}[b.kind]
	var port int
	_, err := fmt.Sscan(b.port, &port)
	require.NoError(b.t, err)
	client, err := messaging.NewMessageClient(types.MessageBusConfig{
		Type: b.kind, Broker: types.HostInfo{Host: "127.0.0.1", Port: port, Protocol: protocol},
		Optional: map[string]string{"ClientId": "e2e-" + strings.Map(letters, topic), "Qos": "1", "AutoReconnect": "true", "ConnectTimeout": "5"},
	})
	require.NoError(b.t, err)
	require.NoError(b.t, client.Connect())
	in, errs, quit := make(chan types.MessageEnvelope), make(chan error), make(chan struct{})
	require.NoError(b.t, client.Subscribe([]types.TopicChannel{{Topic: topic, Messages: in}}, errs))
	l := &listener{last: map[string]string{}}
	var listening sync.WaitGroup
	listening.Go(func() {
		for {
			select {
			case m := <-in:
				l.receive(m)
			case <-errs: // the bus is gone, which the test knows; the client comes back by itself
			case <-quit:
				return
			}
		}
	})
	b.t.Cleanup(func() { close(quit); listening.Wait() })
	return l
}

func (l *listener) receive(m types.MessageEnvelope) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	l.last[m.ReceivedTopic] = string(m.Payload)
}

// heard returns the number of messages received.
func (l *listener) heard() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// says returns the latest payload on a topic, or "".
func (l *listener) says(topic string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last[topic]
}

// letters keeps the characters of a topic that a client's id may contain.
func letters(r rune) rune {
	if r >= 'a' && r <= 'z' {
		return r
	}
	return -1
}
