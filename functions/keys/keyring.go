// Package keys finds the keys that batches and records are sealed with by their ids: in the EdgeX secret store, or in files.
package keys

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"app-offload/functions/seal"
)

// Secrets finds a secret of the EdgeX secret store by its name.
type Secrets interface {
	GetSecret(name string, keys ...string) (map[string]string, error)
}

// Keyring serves the keys of one secret to seal and spool. The secret holds one entry a key, its id and the key as hex
// or base64, and the entry `current` with the id to seal with. Old keys stay in the secret as long as anything sealed
// with them is to be opened. It is safe for concurrent use.
//
// The secret is read when it is first asked for and again when Refresh is called, which the wiring does whenever the
// secret store reports a change: a rotation needs no restart, and a secret created late is found late. What was read then holds as it
// would after a restart: a bad entry is left out and reported, a key that is gone from the secret is used no more, and while `current`
// names no good key nothing is sealed. Only where the secret store does not answer do the previous keys stay in use.
type Keyring struct {
	name    string
	secrets Secrets

	mu      sync.Mutex
	current string
	keys    map[string][]byte // nil until the secret was read once
	read    time.Time         // last attempt
	err     error             // why the secret could not be read, the last time
	bad     error             // what is wrong with single entries of it
	broken  error             // why there is no key to seal with
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
	if err := k.load(k.keys == nil || k.broken != nil); err != nil {
		return "", nil, err
	}
	if k.broken != nil {
		return "", nil, k.broken
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

// Refresh reads the secret again, and returns what is wrong with it. The keys in use stay until it can be read.
func (k *Keyring) Refresh() error {
	if k.name == "" {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read = time.Time{}
	_ = k.load(true)
	return k.problem()
}

// Problem is what was wrong with the secret when it was last read, "" if nothing was. Good keys are in use meanwhile.
func (k *Keyring) Problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.problem(); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

func (k *Keyring) problem() error { return errors.Join(k.err, k.broken, k.bad) }

// Broken reports whether there is no key to seal with although there should be: then nothing can leave.
func (k *Keyring) Broken() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.broken != nil || k.err != nil && k.keys == nil
}

func (k *Keyring) load(want bool) error {
	if want && time.Since(k.read) >= reread {
		k.read = time.Now()
		secret, err := k.secrets.GetSecret(k.name)
		if k.err = nil; err != nil {
			k.err = fmt.Errorf("reading the keys in secret %q: %w", k.name, err)
		} else {
			k.take(secret)
		}
	}
	if k.keys == nil {
		return k.err
	}
	return nil // the previous keys are still good
}

// take takes over every good entry of the secret.
func (k *Keyring) take(secret map[string]string) {
	var bad []error
	k.keys, k.current = map[string][]byte{}, strings.TrimSpace(secret["current"])
	for _, id := range slices.Sorted(maps.Keys(secret)) {
		if id == "current" {
			continue
		}
		key, err := decodeKey(secret[id])
		if err == nil && !isID(id) {
			err = errID
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("secret %q, key %q: %w", k.name, id, err))
			continue
		}
		k.keys[id] = key
	}
	k.bad, k.broken = errors.Join(bad...), nil
	if k.keys[k.current] == nil {
		k.broken = fmt.Errorf("secret %q: its entry `current` names the key %q, which is not in it as a good one: nothing is sealed until it is", k.name, k.current)
	}
}

var errID = errors.New("is an id with blanks or characters that cannot be printed")

// isID reports whether a key's id can stand in a message.
func isID(id string) bool {
	return seal.IsText(id) && strings.IndexFunc(id, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) < 0
}

// decodeKey reads 16, 24 or 32 bytes as hex or base64. The error never shows the text.
func decodeKey(text string) ([]byte, error) {
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if key, err := decode(strings.TrimSpace(text)); err == nil && fits(key) {
			return key, nil
		}
	}
	return nil, errors.New("is not 16, 24 or 32 bytes as hex or base64")
}

func fits(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }
