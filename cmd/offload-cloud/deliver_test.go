package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aead.dev/minisign"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/functions/infer/modeltest"
	"app-offload/functions/models"
	"app-offload/functions/models/delivery"
)

// A node on a real broker installs the sent version. A node that does not know the key refuses it, and the verb fails with the reason.
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

	sign := func(comment string) {
		signature := minisign.SignWithComments(private, manifest, comment, "")
		require.NoError(t, os.WriteFile(filepath.Join(folder, models.SignatureFile), signature, 0o600))
	}
	for comment, want := range map[string]int{"": 1, "rollback:1": 1, "rollback:2": 0} {
		sign(comment)
		code, said = deliver("n1", "-rollback")
		require.Equal(t, want, code, said)
		require.Equal(t, want == 1, strings.Contains(said, "-t rollback:VERSION"), said)
	}
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
	require.Contains(t, said, "has 10 bytes, the manifest specifies")
}

// sent is a transport that counts the messages to each node.
type sent struct {
	consume.Transport
	to map[string]int
}

func (s sent) Publish(_ context.Context, out []consume.Outgoing) error {
	for _, o := range out {
		s.to[o.Topic]++
	}
	return nil
}

// Offers to an absent node become less frequent, since the broker stores each of them. A node that has answered soon gets no other offer: it requests
// chunks itself, and another offer would replace its delivery.
func TestFewOffersStayWithTheBroker(t *testing.T) {
	folder := modeltest.Put(t, t.TempDir(), "bearing", "2", modeltest.Slow(t, 64, 2))
	manifest, err := os.ReadFile(filepath.Join(folder, models.ManifestFile))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		sender, err := delivery.NewSender(manifest, []byte("signature"), bytes.NewReader(nil), 1024, false)
		require.NoError(t, err)
		s := sent{to: map[string]int{}}
		c := &courier{sender: sender, transport: s, nodes: map[string]*recipient{"away": {pause: firstOffer}, "slow": {pause: firstOffer}}, log: slog.New(slog.DiscardHandler)}
		wants := make(chan *consume.Message, 1)
		w := delivery.Want{ID: sender.ID(), State: delivery.Wanted}
		payload, err := w.Encode()
		require.NoError(t, err)
		go func() {
			for range 10 {
				time.Sleep(time.Minute)
				wants <- &consume.Message{Topic: delivery.WantTopic("slow"), Payload: payload, Ack: func() {}}
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
		defer cancel()
		require.ErrorContains(t, c.serve(ctx, wants), "away, slow")
		require.Equal(t, 6, s.to[delivery.Topic("away")])
		require.Equal(t, 3, s.to[delivery.Topic("slow")], "none after the first answer")
	})
}
