package functions

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/infer/modeltest"
	"app-offload/functions/models"
	"app-offload/functions/models/delivery"
)

// serve answers the node's requests for the chunks of a model, and offers it.
func serve(t *testing.T, b *broker, node string, s *delivery.Sender) *sync.Map {
	t.Helper()
	states := &sync.Map{}
	require.NoError(t, b.Subscribe(delivery.WantTopic(node), 7, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) {
		w, err := delivery.DecodeWant(p.Payload)
		if err != nil {
			t.Errorf("reading a request: %v", err)
			return
		}
		states.Store(string(w.State), w.Reason)
		go func() {
			for chunk, err := range s.Answer(w) {
				if err == nil {
					err = b.Publish(delivery.Topic(node), chunk, false, 1)
				}
				if err != nil {
					t.Errorf("sending a chunk: %v", err)
				}
			}
		}()
	}))
	require.NoError(t, b.Publish(delivery.Topic(node), s.Offer(), false, 1))
	return states
}

// A signed model delivered over MQTT replaces the current one while tasks are computed: no task fails, and from some task on the answers come from
// the new version. A model with another signature changes nothing.
func TestADeliveredModelTakesOverUnderLoad(t *testing.T) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	_, other, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	b := startBroker(t)
	startCloud(t, b, "n1", nil)
	c := modelConfig(t, b, "edge")
	text, err := public.MarshalText()
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	c.Models.Keys, c.Models.Delivery = lines[len(lines)-1], true
	c.Models.Canary.Tasks = 0
	_, err = base64.StdEncoding.DecodeString(c.Models.Keys)
	require.NoError(t, err)
	folder := filepath.Join(c.Models.Directory, "bearing.edge.1")
	manifest, err := os.ReadFile(filepath.Join(folder, models.ManifestFile))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(folder, models.SignatureFile), minisign.Sign(private, manifest), 0o600))

	bus := &bin{}
	s := linkedTo(t, c, bus)
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := submitOne(t, s, bearing("pump", i, sure)); err != nil {
				t.Errorf("event %d: %v", i, err)
			}
		}
	}()
	send := func(v models.Version, key minisign.PrivateKey) *sync.Map {
		file := modeltest.Two(t, 100)
		_, text := modeltest.Manifest(t, "bearing", v, file)
		sender, err := delivery.NewSender(text, minisign.Sign(key, text), bytes.NewReader(file), delivery.MinChunk, false)
		require.NoError(t, err)
		return serve(t, b, "n1", sender)
	}
	states := send("2", other)
	eventually(t, 20*time.Second, "the foreign one is refused", func() bool {
		_, refused := states.Load(string(delivery.Refused))
		return refused
	})
	require.NoError(t, b.Unsubscribe(delivery.WantTopic("n1"), 7))
	states = send("2", private)
	eventually(t, 20*time.Second, "it is installed", func() bool {
		_, installed := states.Load(string(delivery.Installed))
		return installed
	})
	n := len(bus.all())
	eventually(t, 20*time.Second, "more tasks are computed", func() bool { return len(bus.all()) > n+3 })
	close(stop)
	<-ended
	results := bus.all()
	first, last := results[0], results[len(results)-1]
	require.Equal(t, "1", first.Event.Tags["modelVersion"])
	require.Equal(t, "ok", first.Event.Readings[0].Value)
	require.Equal(t, "2", last.Event.Tags["modelVersion"])
	require.Equal(t, "worn", last.Event.Readings[0].Value)
	st := s.Status()
	require.Zero(t, st.Models.Classes[0].Failed)
	require.EqualValues(t, len(results), st.Counts.Local)
	require.EqualValues(t, "2", st.Models.Classes[0].Version)
}
