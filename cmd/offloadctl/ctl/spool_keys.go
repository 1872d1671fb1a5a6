package ctl

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// folderKeys are the keys of a folder, one a file named by the key's id, as offload-cloud reads them.
type folderKeys struct {
	dir     string
	byID    map[string][]byte
	current string
}

// Current is what the file "current" names. Nothing is sealed here, so its absence is no error.
func (k *folderKeys) Current() (string, []byte, error) { return k.current, k.byID[k.current], nil }

// Key finds a key by its id.
func (k *folderKeys) Key(id string) ([]byte, error) {
	if key, ok := k.byID[id]; ok {
		return key, nil
	}
	return nil, fmt.Errorf("there is no file with the key %q in %s", id, k.dir)
}

// maxKeyFile bounds the file of a key, in bytes.
const maxKeyFile = 4096

// readKeys reads a folder. No error shows what is in a file.
func readKeys(dir string) (*folderKeys, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the keys: %w", err)
	}
	k := &folderKeys{dir: dir, byID: map[string][]byte{}}
	for _, f := range files {
		if !f.Type().IsRegular() && f.Type()&os.ModeSymlink == 0 || strings.HasPrefix(f.Name(), ".") {
			continue // folders, and what mounted secrets keep beside their files
		}
		if err := k.read(filepath.Join(dir, f.Name())); err != nil {
			return nil, err
		}
	}
	if len(k.byID) == 0 {
		return nil, fmt.Errorf("reading the keys: %s has none; put each into a file named by its id", dir)
	}
	return k, nil
}

func (k *folderKeys) read(path string) error {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return fmt.Errorf("reading a key: %w", err)
	case info.IsDir():
		return nil
	case info.Size() > maxKeyFile:
		return fmt.Errorf("reading a key: %s has %d bytes and is no key", path, info.Size())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading a key: %w", err)
	}
	id := strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	if id == "current" {
		k.current = strings.TrimSpace(string(raw))
		return nil
	}
	if k.byID[id], err = decodeKey(raw); err != nil {
		return fmt.Errorf("reading the key %s: %w", path, err)
	}
	return nil
}

// decodeKey reads 16, 24 or 32 bytes as hex, base64 or as they are. The error never shows them.
func decodeKey(raw []byte) ([]byte, error) {
	text := strings.TrimSpace(string(raw))
	for _, decode := range []func(string) ([]byte, error){hex.DecodeString, base64.StdEncoding.DecodeString} {
		if key, err := decode(text); err == nil && isKeyLength(len(key)) {
			return key, nil
		}
	}
	if isKeyLength(len(raw)) {
		return raw, nil
	}
	return nil, errors.New("it is not 16, 24 or 32 bytes as hex or base64")
}

func isKeyLength(n int) bool { return n == 16 || n == 24 || n == 32 }
