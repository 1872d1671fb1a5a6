package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
)

// The short consumer in the README receives from the real service, joins split events, and its receipts empty the spool.
func TestTheConsumerOfTheREADMEJoinsAndReceipts(t *testing.T) {
	t.Parallel()
	const interpreter = "/usr/bin/python3"
	if out, err := exec.Command(interpreter, "-c", "import paho.mqtt").CombinedOutput(); err != nil {
		require.Empty(t, os.Getenv("CI"), "CI has to install python3-paho-mqtt: %s", out)
		t.Skip("python3-paho-mqtt is not installed")
	}
	e := newEdge(t, "OFFLOAD_WRITABLE_POLICY_DEFAULT=cloud", "OFFLOAD_WRITABLE_CLASSES_DEFAULT_CHUNKSIZE=16")
	e.start()
	if token := e.client.Unsubscribe("offload/v1/+/batch/+"); !token.WaitTimeout(patience) || token.Error() != nil { // no other consumer may receipt
		t.Fatal(token.Error())
	}
	want := map[string]string{}
	publish := func(n int, value, kind string) {
		raw := strings.Replace(strings.Replace(string(of(n, "d", "1.5")), `"1.5"`, value, 1), "Float64", kind, 1)
		e.send(enveloped([]byte(raw)))
		var request struct{ Event json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(raw), &request))
		want[id(n)] = string(request.Event)
	}
	const small, large = 20, 3
	for n := range small {
		publish(n, `"1.5"`, "Float64")
	}
	out := &lockedBuffer{}
	script := exec.Command(interpreter, "-B", "../../res/python/consumer.py", "127.0.0.1", e.port, filepath.Join(t.TempDir(), "records.db")) // #nosec G204 -- the repository's own script
	script.Stdout, script.Stderr = out, out
	require.NoError(t, script.Start())
	defer func() { _ = script.Process.Kill(); _ = script.Wait() }()
	for n := small; n < small+large; n++ {
		var values []string
		for i := range 700 {
			values = append(values, fmt.Sprint(n*i))
		}
		publish(n, `"[`+strings.Join(values, ",")+`]"`, "Float32Array")
	}
	e.await("the consumer prints every event", func() bool { return strings.Count(out.String(), "\n") >= small+large })
	e.await("its receipts empty the spool", func() bool { c := e.counts(); return c.Accepted > 0 && c.Receipted == c.Accepted })
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var event struct{ ID string }
		require.NoError(t, json.Unmarshal([]byte(line), &event), line)
		require.JSONEq(t, want[event.ID], line)
		delete(want, event.ID)
	}
	require.Empty(t, want)

	// A repeat is receipted; a sequence with other content, as from a copy of the spool, is a conflict.
	receipts := make(chan string, 10)
	token := e.client.Subscribe("offload/v1/x/receipt", 1, func(_ paho.Client, m paho.Message) {
		var receipt struct{ Data json.RawMessage }
		_ = json.Unmarshal(m.Payload(), &receipt)
		receipts <- string(receipt.Data)
	})
	require.True(t, token.WaitTimeout(patience))
	safe := `{"node":"x","epoch":"e","safe":[[1,1]],"session":"s"}`
	for _, c := range []struct{ event, want string }{
		{"a", safe}, {"a", safe}, {"b", `{"node":"x","epoch":"e","safe":[],"conflicts":[[1,1]],"session":"s"}`}, {"a", safe},
	} {
		e.client.Publish("offload/v1/x/batch/c", 1, false, fmt.Sprintf(
			`{"session":"s","data":{"node":"x","epoch":"e","records":[{"sequence":1,"eventId":%q,"event":{"readings":[]}}]}}`, c.event))
		select {
		case receipt := <-receipts:
			require.JSONEq(t, c.want, receipt)
		case <-time.After(patience):
			require.Fail(t, "no receipt", c.event)
		}
	}
}
