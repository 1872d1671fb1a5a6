// Package keys provides the keys that seal batches and records, by id, from the EdgeX secret store or from files.
package keys

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"app-offload/functions/seal"
)

// Secrets reads a secret of the EdgeX secret store by its name.
type Secrets interface {
	GetSecret(name string, keys ...string) (map[string]string, error)
}

// Keyring provides the keys of one secret to seal and spool. The secret has one entry per key, its id and the key as hex or base64, and the entry
// `current` with the id to seal with. Old keys stay in the secret as long as data sealed with them must be opened. A Keyring is safe for concurrent
// use.
//
// The secret is read on first use and again when Refresh is called, which the wiring does whenever the secret store reports a change: a rotation
// needs no restart, and a secret may be created late. Each read has the same effect as a restart: a bad entry is skipped and reported, a key removed
// from the secret is no longer used, and while `current` names no good key nothing is sealed. The previous keys stay in use only while the secret
// store does not answer.
type Keyring struct {
	name    string
	secrets Secrets

	mu      sync.Mutex
	current string
	keys    map[string][]byte // nil until the secret was read once
	read    time.Time         // last attempt
	err     error             // why the last read of the secret failed
	bad     error             // problems of single entries
	broken  error             // why there is no key to seal with
}

// reread is how long a failed read is not repeated, so that a missing secret costs one read a second and not one per batch.
const reread = time.Second

// NewKeyring returns the keyring of the named secret; an empty name is no key.
func NewKeyring(name string, secrets Secrets) *Keyring { return &Keyring{name: name, secrets: secrets} }

// Current returns the key to seal with; an empty id without an error if no secret is configured.
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

// Key returns a key by its id. It reads the secret again if the id is unknown, as the key may have been added recently.
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
	return nil, fmt.Errorf("secret %q has no key %q; add it again while data sealed with it exists", k.name, id)
}

// Refresh reads the secret again, and returns its problems. The keys in use stay until it can be read.
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

// Problem returns the problems of the last read of the secret, "" without any. Good keys are in use meanwhile.
func (k *Keyring) Problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.problem(); err != nil {
		return strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return ""
}

func (k *Keyring) problem() error { return errors.Join(k.err, k.broken, k.bad) }

// Broken reports whether there is no key to seal with although one is required: then nothing can leave.
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

// take adopts every good entry of the secret.
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
		k.broken = fmt.Errorf("secret %q: entry `current` names the key %q, which is missing or invalid: nothing is sealed until it is valid", k.name, k.current)
	}
}

var errID = errors.New("the id has blanks or unprintable characters")

// isID reports whether a key's id is valid in a message.
func isID(id string) bool {
	return seal.IsText(id) && strings.IndexFunc(id, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) < 0
}

// decodeKey decodes 16, 24 or 32 bytes as hex or base64. The error never contains the text.
func decodeKey(text string) ([]byte, error) {
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if key, err := decode(strings.TrimSpace(text)); err == nil && fits(key) {
			return key, nil
		}
	}
	return nil, errors.New("is not 16, 24 or 32 bytes as hex or base64")
}

func fits(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }

// The largest file of one key, and of many, in bytes.
const (
	maxKeyFile  = 4096
	maxKeysFile = 1 << 20
)

// How long a read of the files is valid: normally, and when a message names a missing key.
const (
	fresh  = 10 * time.Second
	missed = time.Second
)

// Files are the keys below one path, a folder or a file. A nil value holds no keys.
//
// A folder has one key per file: the file's name without its extension is the key's id. The optional file "current" has the id to seal with; without
// it the last id in alphabetical order is current, so keys named by date rotate automatically. A single file has one "id key" per line, and the last
// line is current. Keys are written as hex or base64 (or, in a file of their own, as raw bytes) and are 16, 24 or 32 bytes long.
//
// Changes on disk are noticed within seconds, so a rotation needs no restart. A bad entry is skipped and reported, and so are different keys with one
// id; the previous key with that id stays in use, and so does the previous current key if the new one is not good. Safe for concurrent use.
type Files struct {
	path   string
	report func(problem string)

	mu      sync.Mutex
	keys    map[string][]byte
	current string
	read    time.Time
	problem string // of the last read
}

// LoadFiles reads the keys of a folder or file; there must be a current one. report is called, under a lock, when the problems of the other keys
// change, "" being none.
func LoadFiles(path string, report func(problem string)) (*Files, error) {
	f := &Files{path: path, report: report}
	if err := f.reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current returns the key to seal with.
func (f *Files) Current() (string, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	return f.current, f.keys[f.current], nil
}

// Key returns a key by its id.
func (f *Files) Key(id string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	if key, ok := f.keys[id]; ok {
		return key, nil
	}
	f.refresh(missed)
	if key, ok := f.keys[id]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("%s has no key %q", f.path, id)
}

// Problem returns the problems of the last read, "" without any. Good keys are in use meanwhile.
func (f *Files) Problem() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	return f.problem
}

// refresh reads the files again if the last read is older than age.
func (f *Files) refresh(age time.Duration) {
	if time.Since(f.read) >= age {
		_ = f.reload() // it is reported
	}
}

// reload adopts every good key. The error says why there is no key to seal with; then no key is dropped.
func (f *Files) reload() error {
	f.read = time.Now()
	var bad []error
	err := f.take(&bad)
	if err != nil {
		bad = append(bad, err)
	}
	problem := ""
	if len(bad) > 0 {
		problem = "reading the keys: " + strings.ReplaceAll(errors.Join(bad...).Error(), "\n", "; ")
	}
	if problem != f.problem {
		f.problem = problem
		if f.keys != nil {
			f.report(problem)
		}
	}
	if err != nil {
		return errors.New(problem)
	}
	return nil
}

func (f *Files) take(bad *[]error) error {
	entries, err := readEntries(f.path)
	if err != nil {
		return err
	}
	found, seen, current, named := map[string][]byte{}, map[string][]byte{}, "", false
	for _, e := range entries {
		if e.current {
			if named, current = true, strings.TrimSpace(string(e.content)); e.err != nil {
				*bad = append(*bad, fmt.Errorf("%s: %w", e.where, e.err))
			}
			continue
		}
		key, err := e.key()
		if before, known := seen[e.id]; err == nil {
			if seen[e.id] = key; known && !bytes.Equal(before, key) {
				err = fmt.Errorf("is a different key with the id %q, so neither is used", e.id)
				seen[e.id] = nil // nor is a third one
				delete(found, e.id)
			}
		}
		if err != nil {
			*bad = append(*bad, fmt.Errorf("%s: %w", e.where, err))
			if key = found[e.id]; key == nil {
				key = f.keys[e.id]
			}
		}
		if key != nil {
			found[e.id] = key
		}
	}
	for i := len(entries) - 1; !named && current == "" && i >= 0; i-- {
		if found[entries[i].id] != nil {
			current = entries[i].id
		}
	}
	switch {
	case found[current] != nil:
		f.keys, f.current = found, current
		return nil
	case len(entries) == 0:
		return fmt.Errorf("%s has no keys; put each into a file named by its id, and the id to seal with into the file `current`", f.path)
	case len(found) == 0:
		return fmt.Errorf("%s has no valid key", f.path)
	case f.keys != nil: // new ones are good for opening
		maps.Copy(f.keys, found)
	}
	return fmt.Errorf("%s: the current key %q is missing or invalid", f.path, current)
}

// entry is an undecoded key.
type entry struct {
	id, where string
	content   []byte
	err       error
	current   bool // its content is the id to seal with
}

func (e *entry) key() ([]byte, error) {
	switch {
	case e.err != nil:
		return nil, e.err
	case !isID(e.id):
		return nil, errID
	}
	return parse(e.content)
}

// readEntries reads a folder, or a file of lines.
func readEntries(path string) ([]entry, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case info.IsDir():
		return readFolder(path)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: must be a file or a folder", path)
	case info.Size() > maxKeysFile:
		return nil, fmt.Errorf("%s: has %d bytes, a file of keys at most %d", path, info.Size(), maxKeysFile)
	}
	return readLines(path)
}

func readFolder(dir string) (entries []entry, err error) {
	files, err := os.ReadDir(dir) // in alphabetical order
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		path := filepath.Join(dir, file.Name())
		info, err := os.Stat(path)
		if strings.HasPrefix(file.Name(), ".") || err == nil && info.IsDir() {
			continue // orchestrators keep their own links and folders beside mounted secrets
		}
		e := entry{id: strings.TrimSuffix(file.Name(), filepath.Ext(file.Name())), where: path, err: err, current: file.Name() == "current"}
		switch {
		case err != nil:
		case !info.Mode().IsRegular():
			e.err = errors.New("must be a file")
		case info.Size() > maxKeyFile:
			e.err = fmt.Errorf("has %d bytes, a key at most %d", info.Size(), maxKeyFile)
		default:
			e.content, e.err = os.ReadFile(path)
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func readLines(path string) (entries []entry, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for i, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		id, text, ok := strings.Cut(line, " ")
		e := entry{id: id, where: fmt.Sprintf("%s, line %d", path, i+1), content: []byte(text)}
		if !ok {
			e.id, e.err = "", errors.New("write the id, a space and the key") // the line may be a key without an id, which is not shown
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// parse tries hex, then base64, then raw bytes; the error does not contain the content.
func parse(content []byte) ([]byte, error) {
	if key, err := decodeKey(string(content)); err == nil || !fits(content) {
		return key, err
	}
	return content, nil
}
