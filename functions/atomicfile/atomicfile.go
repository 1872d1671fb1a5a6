// Package atomicfile replaces files atomically, and reads them. A link stands for its file. Devices, pipes and folders are refused.
package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace replaces a file atomically: after a power cut either the old or the new content is there. It writes and syncs a temporary file, renames it,
// and syncs the folder, which holds the name.
func Replace(path string, raw []byte) error {
	to, err := Resolve(path)
	if err == nil {
		err = replace(to, raw)
	}
	if err != nil {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	return syncFolder(filepath.Dir(to))
}

// Resolve follows links to a file, which may be missing. Anything else there is an error.
func Resolve(path string) (string, error) {
	for range 40 {
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Dir(path) + "/" + to
		}
		path = to
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, nil
	case err == nil && !info.Mode().IsRegular():
		err = errKind
	}
	return path, err
}

var errKind = errors.New("must be a file")

func replace(path string, raw []byte) error {
	temp := path + ".tmp"
	_ = os.Remove(temp) // it may be a link or a pipe; what cannot be removed cannot be created either
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// Read reads a file. A pipe is an error, and does not block.
func Read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, errKind)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}
