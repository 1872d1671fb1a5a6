package models

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// stateFile keeps which version of each model is in force, over restarts.
const stateFile = "state.json"

// choice is what was decided for a model.
type choice struct {
	Version Version `json:"version"` // in force
	Newest  Version `json:"newest"`  // ever in force; versions up to it return only when they are asked for
}

// loadState reads the choices. A file that cannot be read is an error and not an empty state, which would undo a rollback.
func loadState(root *os.Root) (map[string]choice, error) {
	state := map[string]choice{}
	b, err := readSmall(root, stateFile, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return state, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &state)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of the models: %w; remove it to let the newest version of each model be in force", stateFile, err)
	}
	return state, nil
}

func saveState(root *os.Root, state map[string]choice) error {
	b, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return fmt.Errorf("keeping the state of the models: %w", err)
	}
	if err := WriteFile(root, stateFile, append(b, '\n')); err != nil {
		return fmt.Errorf("keeping the state of the models: %w", err)
	}
	return nil
}

// WriteFile replaces a small file so that a power cut leaves the old one or the new one.
func WriteFile(root *os.Root, path string, b []byte) error {
	part := path + ".new"
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(part, path); err != nil {
		return err
	}
	return SyncDir(root, parent(path))
}

// SyncDir makes the names in a folder durable.
func SyncDir(root *os.Root, path string) error {
	d, err := root.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func parent(path string) string {
	for i := len(path) - 1; i > 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "."
}
