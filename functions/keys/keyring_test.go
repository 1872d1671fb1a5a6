package keys

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
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

// A key is found if it exists: added late, rotated, or both; old keys keep opening.
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

// Problems of a rotated secret are reported, and it has the same effect as after a restart.
func TestARotationIsTakenAsARestartWouldTakeIt(t *testing.T) {
	const short = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e" // 31 bytes
	for name, row := range map[string]struct {
		secret  map[string]string
		seals   string // "" is nothing
		opens   []string
		problem string
	}{
		"good":                                  {map[string]string{"current": "k2", "k2": base64Key}, "k2", []string{"k2"}, ""},
		"the new key is bad, the old one gone":  {map[string]string{"current": "k2", "k2": short}, "", nil, `key "k2": is not 16`},
		"the new key is bad, the old one there": {map[string]string{"current": "k2", "k1": hexKey, "k2": short}, "", []string{"k1"}, `key "k2"`},
		"another one is bad":                    {map[string]string{"current": "k1", "k1": hexKey, "k2": short, "k3": base64Key}, "k1", []string{"k1", "k3"}, `key "k2"`},
		"the current one is gone":               {map[string]string{"current": "k1", "k2": base64Key}, "", []string{"k2"}, "`current`"},
		"no current":                            {map[string]string{"k1": hexKey}, "", []string{"k1"}, "`current`"},
		"an id that cannot be sent":             {map[string]string{"current": "k1\n", "k1\n": hexKey, "k2": hexKey}, "", []string{"k2"}, "unprintable characters"},
		"an id with a blank":                    {map[string]string{"current": "k2", "k 1": hexKey, "k2": hexKey}, "k2", []string{"k2"}, "the id has blanks"},
		"empty":                                 {map[string]string{}, "", nil, "`current`"},
	} {
		secrets := &fakeSecrets{secret: map[string]string{"current": "k1", "k1": hexKey}}
		rotated := NewKeyring("keys", secrets)
		_, _, err := rotated.Current()
		require.NoError(t, err)
		secrets.secret = row.secret
		err = rotated.Refresh()
		require.Equal(t, row.problem != "", err != nil, "%s: %v", name, err)
		restarted := NewKeyring("keys", secrets)
		for when, k := range map[string]*Keyring{"rotated": rotated, "restarted": restarted} {
			id, key, err := k.Current()
			require.Equal(t, row.seals, id, "%s, %s", name, when)
			require.Equal(t, row.seals == "", err != nil, "%s, %s: %v", name, when, err)
			require.Equal(t, row.seals == "", key == nil, "%s, %s", name, when)
			require.Equal(t, row.seals == "", k.Broken(), "%s, %s", name, when)
			require.Contains(t, k.Problem(), row.problem, "%s, %s", name, when)
			for _, id := range []string{"k1", "k2", "k3"} {
				_, err := k.Key(id)
				require.Equal(t, slices.Contains(row.opens, id), err == nil, "%s, %s: %s", name, when, id)
			}
		}
	}
}

// While there is no key to seal with the secret is read again each second, without a notice from the secret store.
func TestARepairedSecretIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secrets := &fakeSecrets{secret: map[string]string{"current": "k2"}}
		k := NewKeyring("keys", secrets)
		for _, wait := range []time.Duration{0, reread - 1, 1} {
			time.Sleep(wait)
			id, _, err := k.Current()
			require.Equal(t, wait != 1, err != nil)
			require.Equal(t, wait == 1, id == "k2")
			secrets.secret = map[string]string{"current": "k2", "k2": hexKey}
		}
		require.Equal(t, 2, secrets.reads)
		time.Sleep(time.Hour)
		_, _, err := k.Current()
		require.NoError(t, err)
		require.Equal(t, 2, secrets.reads, "a good one is not")
	})
}

// Problems of a secret are reported without its content.
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

func TestKeysHaveTheLengthsOfAES(t *testing.T) {
	for n := range 40 {
		raw := make([]byte, n)
		for i := range raw {
			raw[i] = byte(i + 1)
		}
		for _, text := range []string{hex.EncodeToString(raw), " " + base64.StdEncoding.EncodeToString(raw) + "\n"} {
			key, err := decodeKey(text)
			if n == 16 || n == 24 || n == 32 {
				require.NoError(t, err, "%d bytes", n)
				require.Equal(t, raw, key)
			} else if err == nil { // hex of another length may be base64 of a good one
				require.Contains(t, []int{16, 24, 32}, len(key), "%d bytes", n)
			}
		}
	}
	_, err := decodeKey("*")
	require.EqualError(t, err, "is not 16, 24 or 32 bytes as hex or base64")
}

// An id consists of printable characters.
func TestAnIDCanStandInAMessage(t *testing.T) {
	for id, want := range map[string]bool{
		"k": true, "2026.01": true, "\u00fc": true, "": false, "\u200bk": false, "k\u200b": false, " k": false, "k ": false, "k\n": false, "k\xff": false, "\ufffd": false,
	} {
		require.Equal(t, want, isID(id), "%q", id)
	}
}

// Without a secret nothing is sealed, nothing can be opened, and there is no problem.
func TestNoSecretIsNoKey(t *testing.T) {
	secrets := &fakeSecrets{}
	k := NewKeyring("", secrets)
	id, key, err := k.Current()
	require.NoError(t, err)
	require.Empty(t, id)
	require.Nil(t, key)
	_, err = k.Key("k1")
	require.ErrorContains(t, err, "Offload.KeySecret")
	require.NoError(t, k.Refresh())
	require.Empty(t, k.Problem())
	require.False(t, k.Broken())
	require.Zero(t, secrets.reads)
}

// An unknown key is looked up again, at most once in a while; a known one never is.
func TestAnUnknownKeyIsLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		secrets := &fakeSecrets{}
		k := NewKeyring("keys", secrets)
		for range 3 {
			_, err := k.Key("k1")
			require.ErrorContains(t, err, `reading the keys in secret "keys": not there yet`)
		}
		require.Equal(t, 1, secrets.reads)
		require.True(t, k.Broken())
		require.Contains(t, k.Problem(), "not there yet")

		time.Sleep(reread)
		secrets.secret = map[string]string{"current": "k1", "k1": hexKey}
		for range 3 {
			_, err := k.Key("k1")
			require.NoError(t, err)
		}
		require.Equal(t, 2, secrets.reads)
		require.False(t, k.Broken())
		require.Empty(t, k.Problem())

		time.Sleep(reread - 1)
		_, err := k.Key("k2")
		require.ErrorContains(t, err, `secret "keys" has no key "k2"`)
		require.Equal(t, 2, secrets.reads)
		time.Sleep(time.Nanosecond)
		secrets.secret["k2"] = base64Key
		_, err = k.Key("k2")
		require.NoError(t, err)
		require.Equal(t, 3, secrets.reads)

		time.Sleep(reread)
		secrets.secret = nil // the store does not answer: the keys stay, and the problem shows
		_, err = k.Key("k3")
		require.ErrorContains(t, err, "has no key")
		require.Equal(t, 4, secrets.reads)
		time.Sleep(reread)
		_, err = k.Key("k1")
		require.NoError(t, err)
		require.Equal(t, 4, secrets.reads)
		require.Contains(t, k.Problem(), "not there yet")
		require.False(t, k.Broken())
	})
}
