package functions

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

type fakeSecrets struct {
	secret map[string]string
	reads  int
}

func (f *fakeSecrets) GetSecret(string, ...string) (map[string]string, error) {
	f.reads++
	if f.secret == nil {
		return nil, errors.New("not there yet")
	}
	return f.secret, nil
}

const (
	hexKey    = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	base64Key = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
)

// A key is found when it is there: late, rotated, or both; old keys keep opening.
func TestKeyringRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secrets := &fakeSecrets{}
		k := NewKeyring("offload-keys", secrets)
		_, _, err := k.Current()
		require.ErrorContains(t, err, "offload-keys")
		_, _, err = k.Current()
		require.Error(t, err)
		require.Equal(t, 1, secrets.reads, "a missing secret is not looked up for every batch")

		time.Sleep(2 * reread)
		secrets.secret = map[string]string{"current": "k1", "k1": hexKey}
		id, key, err := k.Current()
		require.NoError(t, err)
		require.Equal(t, "k1", id)
		require.Len(t, key, 32)

		secrets.secret = map[string]string{"current": "k2", "k1": hexKey, "k2": base64Key}
		k.Refresh()
		id, _, err = k.Current()
		require.NoError(t, err)
		require.Equal(t, "k2", id)
		_, err = k.Key("k1")
		require.NoError(t, err, "the old key must keep opening")

		secrets.secret = nil
		k.Refresh()
		_, _, err = k.Current()
		require.NoError(t, err, "a secret store that is gone does not take the keys away")
	})
}

// What is wrong with a secret is said without saying the secret.
func TestKeyringNamesProblemsNotKeys(t *testing.T) {
	for name, secret := range map[string]map[string]string{
		"no current key": {"current": "k9", "k1": hexKey},
		"short key":      {"current": "k1", "k1": "c2VjcmV0LWNhbmFyeQ=="},
	} {
		_, _, err := NewKeyring("s", &fakeSecrets{secret: secret}).Current()
		require.Error(t, err, name)
		require.NotContains(t, err.Error(), "c2VjcmV0")
		require.True(t, strings.Contains(err.Error(), `"s"`), "%s: the error must name the secret: %v", name, err)
	}
}
