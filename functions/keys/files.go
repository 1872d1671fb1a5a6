package keys

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// maxKeyFile bounds the file of one key, in bytes.
const maxKeyFile = 4096

// How long a reading of the files is good for: when all goes well, and when a message names a key that is not there.
const (
	fresh  = 10 * time.Second
	missed = time.Second
)

// Files are the keys below one path, a folder or a file. A nil value holds no keys.
//
// A folder holds one key a file: the file's name without its extension is the key's id. The file "current", if there is one, holds
// the id to seal with; otherwise the last id in alphabetical order is current, so keys named by date rotate by themselves. A
// single file holds one "id key" a line, the last line being current. Keys are written as hex or base64 (or, in a file of
// their own, as the bare bytes) and are 16, 24 or 32 bytes long.
//
// What changes on disk is seen within seconds, so a rotation needs no restart. Safe for concurrent use.
type Files struct {
	path string

	mu      sync.Mutex
	keys    map[string][]byte
	current string
	read    time.Time
}

// LoadFiles reads the keys of a folder or file; there must be at least one.
func LoadFiles(path string) (*Files, error) {
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
		return fmt.Errorf("reading the keys: %w", err)
	}
	var found map[string][]byte
	var current string
	if info.IsDir() {
		found, current, err = readFolder(f.path)
	} else {
		found, current, err = readFile(f.path)
	}
	if err != nil {
		return fmt.Errorf("reading the keys: %w", err)
	}
	if len(found) == 0 {
		return fmt.Errorf("reading the keys: %s holds none; put each into a file named by its id, and the id to seal with into the file `current`", f.path)
	}
	if found[current] == nil {
		return fmt.Errorf("reading the keys: %s does not hold the current key %q", f.path, current)
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
		path := filepath.Join(dir, e.Name())
		if info, err := os.Stat(path); err == nil && info.Size() > maxKeyFile {
			return nil, "", fmt.Errorf("%s has %d bytes, a key at most %d", path, info.Size(), maxKeyFile)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, "", err
		}
		if e.Name() == "current" {
			named = strings.TrimSpace(string(content))
			continue
		}
		id := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if found[id], err = parse(content); err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
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
	if key, err := decodeKey(string(content)); err == nil || !fits(content) {
		return key, err
	}
	return content, nil
}
