package main

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"aead.dev/minisign"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/functions/infer/modeltest"
	"app-offload/functions/models"
	"app-offload/functions/models/delivery"
)

// A node at a real broker takes the version that the verb sends it; one that does not know the key refuses it, and the verb fails and says why.
func TestDeliverSendsAModel(t *testing.T) {
	public, private, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	stranger, _, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	folder := modeltest.Put(t, t.TempDir(), "bearing", "2", modeltest.Slow(t, 64, 2))
	manifest, err := os.ReadFile(filepath.Join(folder, models.ManifestFile))
	require.NoError(t, err)
	address := edgetest.Broker(t)
	r := newRadio(t, address, nil)
	receive := func(node string, key minisign.PublicKey) *models.Store {
		cfg := models.DefaultConfig()
		cfg.Dir, cfg.Keys = t.TempDir(), []string{key.String()}
		store, err := models.Open(t.Context(), cfg, nil)
		require.NoError(t, err)
		receiver, err := delivery.NewReceiver(store, delivery.Config{Window: 3}, nil)
		require.NoError(t, err)
		wait(t, r.Subscribe(delivery.Topic(node), 1, func(_ mqtt.Client, m mqtt.Message) {
			if answer, _ := receiver.Handle(t.Context(), m.Payload()); answer != nil {
				r.Publish(delivery.WantTopic(node), 1, false, answer)
			}
		}))
		return store
	}
	knows, strange := receive("n1", public), receive("n2", stranger)
	deliver := func(to string, more ...string) (int, string) {
		out := &buffer{}
		args := append([]string{"deliver", "-from", "mqtt://" + address, "-to", to, "-chunk", "1024", "-within", "1m"}, more...)
		code := run(t.Context(), append(args, folder), streams{out, out})
		return code, out.String()
	}

	code, said := deliver("n1")
	require.Equal(t, 1, code)
	require.Contains(t, said, "minisign -S", "nodes take signed versions only")

	require.NoError(t, os.WriteFile(filepath.Join(folder, models.SignatureFile), minisign.Sign(private, manifest), 0o600))
	code, said = deliver("n1,n2")
	require.Equal(t, 1, code, said)
	require.Contains(t, said, "model installed\" node=n1")
	require.Contains(t, said, "node=n2 reason=")
	require.Contains(t, said, "nodes that refused the model: 1")
	list, _ := knows.Status()
	require.Len(t, list, 1)
	require.Equal(t, "bearing", list[0].Name)
	list, _ = strange.Status()
	require.Empty(t, list)

	code, said = deliver("n1")
	require.Zero(t, code, said)

	for _, to := range []string{"", "a/b", "a,", "+"} {
		code, said = deliver(to)
		require.Equal(t, 1, code)
		require.Contains(t, said, "-to")
	}
	code, said = deliver("away", "-within", "100ms")
	require.Equal(t, 1, code)
	require.Contains(t, said, "nodes without an answer: away")
	require.NoError(t, os.Truncate(filepath.Join(folder, "model.tflite"), 10))
	code, said = deliver("n1")
	require.Equal(t, 1, code)
	require.Contains(t, said, "has 10 bytes, the manifest says")
}
