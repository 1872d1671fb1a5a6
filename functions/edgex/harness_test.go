package edgex

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions"
	"app-offload/functions/config"
	"app-offload/functions/local"
)

// discard accepts results and keeps none.
type discard struct{}

func (discard) Publish(local.Result) error { return nil }

type noSecrets struct{}

func (noSecrets) GetSecret(name string, _ ...string) (map[string]string, error) {
	return nil, fmt.Errorf("no secret %q", name)
}

// testLog passes warnings and errors on to the test.
type testLog struct{ t *testing.T }

func (testLog) Debugf(string, ...any)            {}
func (testLog) Infof(string, ...any)             {}
func (l testLog) Warnf(format string, a ...any)  { l.t.Logf("WARN "+format, a...) }
func (l testLog) Errorf(format string, a ...any) { l.t.Logf("ERROR "+format, a...) }

// testConfig is the default with everything in the test's own folder, a broker that does not exist, and a policy.
func testConfig(t *testing.T, policy string) config.Config {
	c := config.Default()
	c.Node, c.Spool.Directory, c.Spool.QuotaMiB = "n1", t.TempDir(), 64
	c.Writable.Policy.Default, c.Export.Broker = policy, "tcp://127.0.0.1:1"
	return c
}

func open(t *testing.T, c config.Config) *functions.Service {
	t.Helper()
	s, err := functions.New(c, functions.Deps{Name: "app-offload", Log: testLog{t}, Secrets: noSecrets{}, Publisher: discard{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	return s
}

// event is the JSON of a small event of a device: one float.
func event(device string, n int) []byte {
	return fmt.Appendf(nil, `{"apiVersion":"v3","id":"%08d-0000-4000-8000-%012d","deviceName":%q,"profileName":"P","sourceName":"S",`+
		`"origin":%d,"readings":[{"id":"x","origin":%d,"deviceName":%q,"resourceName":"R","profileName":"P","valueType":"Float64","value":"1.5"}]}`,
		n, n, device, n+1, n+1, device)
}

func eventually(t *testing.T, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "did not happen within "+within.String(), what)
		}
	}
}
