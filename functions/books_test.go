package functions

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// A failed rotation is in the health with its reason until it is fixed.
func TestAFailedRotationIsReported(t *testing.T) {
	c := testConfig(t, nil, "cloud")
	c.KeySecret = "keys"
	secrets := &rotated{secret: map[string]string{"current": "k1", "k1": "000102030405060708090a0b0c0d0e0f"}}
	s, err := New(c, Deps{Name: "app-offload", Log: testLog{t}, Secrets: secrets, Publisher: &bin{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	_, _, _ = s.keys.Current()
	require.Equal(t, status.Fine, s.Health().Severity("keys"))
	secrets.secret = map[string]string{"current": "k2", "k2": "c2VjcmV0LWNhbmFyeQ=="}
	s.SecretsChanged()
	require.Equal(t, status.Critical, s.Health().Severity("keys"))
	require.Contains(t, strings.Join(s.NotReady(), " "), `key "k2"`)
	require.NotContains(t, strings.Join(s.NotReady(), " "), "c2VjcmV0")
	secrets.secret = map[string]string{"current": "k2", "k2": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}
	s.SecretsChanged()
	require.Equal(t, status.Fine, s.Health().Severity("keys"))
}

// A task too large for the spool is dropped under its class, shown everywhere, and no longer after its acknowledgement.
func TestDroppedTasksAreShownUntilAcknowledged(t *testing.T) {
	t.Parallel()
	s, _ := well(t, nil)
	s.drops.Early("default", spool.ReasonFull)
	h := s.Health()
	require.Equal(t, status.Warning, h.Severity("dropped"))
	require.Contains(t, h.Texts(status.Warning)[0], "class default 1 full")
	require.EqualValues(t, 1, s.Status().Drops.Unacknowledged)
	n, err := s.Acknowledge()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Equal(t, status.Well, s.Health().State)
}

// rotated is a secret store whose only secret changes.
type rotated struct{ secret map[string]string }

func (r *rotated) GetSecret(string, ...string) (map[string]string, error) { return r.secret, nil }
