// Package keys reads the consumer's keys from files.
//
// A folder holds one key a file: the file's name without its extension is the key's id. The file "current", if there is one, holds
// the id to seal receipts with; otherwise the last id in alphabetical order is current, so keys named by date rotate by themselves. A
// single file holds one "id key" a line, the last line being current. Keys are written as hex or base64 (or, in a file of
// their own, as the bare bytes) and are 16, 24 or 32 bytes long.
//
// What changes on disk is seen within seconds, so a rotation needs no restart. Safe for concurrent use.
package keys

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// How long a reading of the files is good for: when all goes well, and when a message names a key that is not there.
const (
	fresh  = 10 * time.Second
	missed = time.Second
)

// Files are the keys below one path. A nil value holds no keys.
type Files struct {
	path string

	mu      sync.Mutex
	keys    map[string][]byte
	current string
	read    time.Time
}

// Load reads the keys of a folder or file; there must be at least one.
func Load(path string) (*Files, error) {
	f := &Files{path: path}
	if err := f.reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Current is the key to seal with.
func (f *Files) Current() (string, []byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refresh(fresh)
	return f.current, f.keys[f.current], nil
}

// Key finds a key by its id.
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

// refresh reads again what is older than the age. Files that cannot be read now leave the keys as they are.
func (f *Files) refresh(age time.Duration) {
	if time.Since(f.read) >= age {
		_ = f.reload() // a rotation half done; the next reading will find it whole
	}
}

func (f *Files) reload() error {
	f.read = time.Now()
	info, err := os.Stat(f.path)
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	var found map[string][]byte
	var current string
	if info.IsDir() {
		found, current, err = readFolder(f.path)
	} else {
		found, current, err = readFile(f.path)
	}
	if err != nil {
		return fmt.Errorf("reading keys: %w", err)
	}
	if found[current] == nil {
		return fmt.Errorf("reading keys: %s does not hold the current key %q", f.path, current)
	}
	f.keys, f.current = found, current
	return nil
}

func readFolder(dir string) (found map[string][]byte, current string, err error) {
	entries, err := os.ReadDir(dir) // in alphabetical order
	if err != nil {
		return nil, "", err
	}
	found = map[string][]byte{}
	named := ""
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue // orchestrators keep their own links and folders beside mounted secrets
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, "", err
		}
		if e.Name() == "current" {
			named = strings.TrimSpace(string(content))
			continue
		}
		id := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if found[id], err = parse(content); err != nil {
			return nil, "", fmt.Errorf("%s: %w", filepath.Join(dir, e.Name()), err)
		}
		current = id
	}
	if named != "" {
		current = named
	}
	return found, current, nil
}

func readFile(path string) (found map[string][]byte, current string, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	found = map[string][]byte{}
	for i, line := range strings.Split(string(content), "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		id, text, ok := strings.Cut(line, " ")
		if !ok {
			return nil, "", fmt.Errorf("%s, line %d: write the id, a space and the key", path, i+1)
		}
		if found[id], err = parse([]byte(text)); err != nil {
			return nil, "", fmt.Errorf("%s, line %d: %w", path, i+1, err)
		}
		current = id
	}
	return found, current, nil
}

// parse reads hex before base64 before bare bytes; the error does not show what it was given.
func parse(content []byte) ([]byte, error) {
	text := strings.TrimSpace(string(content))
	if key, err := hex.DecodeString(text); err == nil && fits(key) {
		return key, nil
	}
	if key, err := base64.StdEncoding.DecodeString(text); err == nil && fits(key) {
		return key, nil
	}
	if fits(content) {
		return content, nil
	}
	return nil, fmt.Errorf("not a key of 16, 24 or 32 bytes as hex, base64 or bare bytes")
}

func fits(key []byte) bool { return len(key) == 16 || len(key) == 24 || len(key) == 32 }
