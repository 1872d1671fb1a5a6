package functions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"app-offload/functions/keys"
	"app-offload/functions/receive"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"
)

// secretValue is in every event that must not leave, and in no other.
const secretValue = "8.675309e+17"

// Whatever the device's name and the other content of the event: no byte of a class that must not leave is on the wire, in the spool or in the
// decision log, under a policy that sends all it may.
func TestNothingOfAClassThatMustNotLeaveIsOnTheWire(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	b := startBroker(t)
	cloud := startCloud(t, b, "n1", keys.NewKeyring("", nil))
	var mu sync.Mutex
	var wire [][]byte
	require.NoError(t, b.Subscribe("offload/#", 2, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) {
		mu.Lock()
		defer mu.Unlock()
		wire = append(wire, bytes.Clone(p.Payload))
	}))
	c := testConfig(t, b, "cloud")
	c.Intake.ReorderWindow, c.DecisionLog = "0s", t.TempDir()
	c.Seal.Compression = "none"
	secret := c.Writable.Classes["default"]
	secret.NeverLeave = true
	devices, resources := secret, secret
	devices.MatchDevice, resources.MatchResource = "hall*", "*Face?"
	c.Writable.Classes["devices"], c.Writable.Classes["resources"] = devices, resources
	sound := c.Writable.Classes["default"]
	sound.MatchResource, sound.ChunkSize = "Noise*", 3
	c.Writable.Classes["sound"] = sound
	s := open(t, c, &bin{})
	s.Start()

	open := 0
	for n := range 400 {
		payload, stays := randomEvent(rng, n)
		if !stays {
			open++
		}
		require.NoError(t, s.Receive(receive.Message{Topic: "edgex/events/device/x", ContentType: "application/json", Payload: payload}))
	}
	eventually(t, 20*time.Second, "all that may leave has left", func() bool {
		whole := map[string]bool{}
		for _, task := range cloud.tasks() {
			whole[task.EventID] = true
		}
		return len(whole) == open && s.Counts().Spooled == 0
	})
	require.Less(t, open, 390)
	require.NoError(t, s.Stop())
	mu.Lock()
	defer mu.Unlock()
	for _, message := range wire {
		require.NotContains(t, string(message), secretValue)
	}
	for _, dir := range []string{c.DecisionLog, c.Spool.Directory} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			require.NotContains(t, string(raw), secretValue, path)
			return err
		}))
	}
}

// randomEvent returns an event of a device with any name that EdgeX allows, and whether it must stay.
func randomEvent(rng *rand.Rand, n int) (payload []byte, stays bool) {
	const letters = "ab/ #+.-_$^*?[]\\ü\"é|"
	name := func() string {
		var b strings.Builder
		for range rng.IntN(8) {
			r := []rune(letters)
			b.WriteRune(r[rng.IntN(len(r))])
		}
		return b.String() + "x"
	}
	device := name()
	if stays = rng.IntN(3) == 0; stays {
		device = "hall" + device
	}
	var readings []map[string]any
	add := func(resource, kind, value string) {
		readings = append(readings, map[string]any{
			"id": "x", "origin": n + 1, "deviceName": device, "profileName": "P", "resourceName": resource, "valueType": kind, "value": value,
		})
	}
	secretive := rng.IntN(3) == 0
	stays = stays || secretive
	value := func() string {
		if stays {
			return secretValue
		}
		return "1.5"
	}
	add("Noise/"+name(), "Float64Array", "["+strings.Repeat("1, ", rng.IntN(9))+value()+"]")
	add("Temp", "Float64", value())
	if secretive {
		add(name()+"Face/", "Float64", value())
	}
	payload, _ = json.Marshal(map[string]any{
		"apiVersion": "v3", "id": fmt.Sprintf("%08d-0000-4000-8000-000000000000", n), "deviceName": device, "profileName": "P",
		"sourceName": "S", "origin": n + 1, "readings": readings,
	})
	if rng.IntN(2) == 0 { // an app service gathers readings of several devices
		payload = bytes.Replace(payload, []byte(`"deviceName":`), []byte(`"deviceName":"gathered","x":`), 1)
	}
	return payload, stays
}
