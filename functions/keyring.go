package functions

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"
)

// Keyring serves the keys of one secret to seal and spool. The secret holds one entry a key, its id and the key as hex
// or base64, and the entry `current` with the id to seal with. Old keys stay in the secret as long as anything sealed
// with them is to be opened. It is safe for concurrent use.
//
// The secret is read when it is first asked for and again when Refresh is called, which the wiring does whenever the
// secret store reports a change: a rotation needs no restart, and a secret created late is found late.
type Keyring struct {
	name    string
	secrets Secrets

	mu      sync.Mutex
	current string
	keys    map[string][]byte
	read    time.Time // last attempt
	err     error
}

// reread is how long a failed look-up stands, so that a missing secret costs one look-up a second and not one a batch.
const reread = time.Second

// NewKeyring names the secret; an empty name is no key at all.
func NewKeyring(name string, secrets Secrets) *Keyring { return &Keyring{name: name, secrets: secrets} }

// Current is the key to seal with; an empty id without an error where no secret is configured.
func (k *Keyring) Current() (id string, key []byte, err error) {
	if k.name == "" {
		return "", nil, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(k.keys == nil); err != nil {
		return "", nil, err
	}
	return k.current, k.keys[k.current], nil
}

// Key finds a key by its id, reading the secret again if the id is unknown: it may have been added a moment ago.
func (k *Keyring) Key(id string) ([]byte, error) {
	if k.name == "" {
		return nil, fmt.Errorf("key %q: no secret with keys is configured; set Offload.KeySecret", id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.load(k.keys[id] == nil); err != nil {
		return nil, err
	}
	if key := k.keys[id]; key != nil {
		return key, nil
	}
	return nil, fmt.Errorf("secret %q has no key %q; add it again for as long as data sealed with it is around", k.name, id)
}

// Refresh forgets what was read, so that the next use reads the secret again. The keys in use stay until that works.
func (k *Keyring) Refresh() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = time.Time{}
	if err := k.load(true); err != nil {
		k.err = err
	}
}

// Problem is why the secret could not be taken over when it was last read, "" if it was. The keys read before stay in use meanwhile.
func (k *Keyring) Problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err == nil {
		return ""
	}
	return k.err.Error()
}

func (k *Keyring) load(want bool) error {
	if !want || time.Since(k.read) < reread {
		if k.keys != nil {
			return nil
		}
		if !want || k.err != nil {
			return k.err
		}
	}
	k.read = time.Now()
	keys, current, err := k.fetch()
	if err != nil {
		if k.err = err; k.keys != nil {
			return nil // the keys of before are as good as they were
		}
		return err
	}
	k.keys, k.current, k.err = keys, current, nil
	return nil
}

func (k *Keyring) fetch() (map[string][]byte, string, error) {
	secret, err := k.secrets.GetSecret(k.name)
	if err != nil {
		return nil, "", fmt.Errorf("reading the keys in secret %q: %w", k.name, err)
	}
	entries := maps.Clone(secret)
	current := entries["current"]
	delete(entries, "current")
	keys := make(map[string][]byte, len(entries))
	for id, text := range entries {
		key, err := decodeKey(text)
		if err != nil {
			return nil, "", fmt.Errorf("secret %q, key %q: %w", k.name, id, err)
		}
		keys[id] = key
	}
	if keys[current] == nil {
		return nil, "", fmt.Errorf("secret %q: its entry `current` names the key %q, which is not in it", k.name, current)
	}
	return keys, current, nil
}

// decodeKey reads 16, 24 or 32 bytes as hex or base64. The error never shows the text.
func decodeKey(text string) ([]byte, error) {
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if key, err := decode(text); err == nil && (len(key) == 16 || len(key) == 24 || len(key) == 32) {
			return key, nil
		}
	}
	return nil, errors.New("is not 16, 24 or 32 bytes as hex or base64")
}
