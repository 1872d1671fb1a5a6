package spool

import (
	"errors"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
)

// faultFS fails operations as a test demands. The hook gets the operation, the file's name and, for writes, the number of bytes; with an error of a
// write it also returns how many of them are still written.
type faultFS struct {
	FS
	hook atomic.Pointer[func(op, name string, n int) (int, error)]

	mu    sync.Mutex
	moved map[string]string // by the name that a file was opened with: a spare becomes a segment while it is open
}

// now returns the current name of an open file.
func (f *faultFS) now(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if to := f.moved[name]; to != "" {
		return to
	}
	return name
}

func (f *faultFS) set(hook func(op, name string, n int) (int, error)) { f.hook.Store(&hook) }

// full is a disk without space: no file can be created or grow.
func full(op, _ string, _ int) (int, error) {
	if op == "create" || op == "preallocate" {
		return 0, syscall.ENOSPC
	}
	return 0, nil
}

func (f *faultFS) check(op, name string, n int) (int, error) {
	if h := f.hook.Load(); h != nil && *h != nil {
		return (*h)(op, filepath.Base(name), n)
	}
	return 0, nil
}

func (f *faultFS) Create(name string) (File, error) {
	if _, err := f.check("create", name, 0); err != nil {
		return nil, err
	}
	f.mu.Lock()
	delete(f.moved, name)
	f.mu.Unlock()
	file, err := f.FS.Create(name)
	return &faultFile{file, f, name}, err
}

func (f *faultFS) Open(name string, write bool) (File, error) {
	if _, err := f.check("open", name, 0); err != nil {
		return nil, err
	}
	file, err := f.FS.Open(name, write)
	if err != nil {
		return nil, err
	}
	return &faultFile{file, f, name}, nil
}

func (f *faultFS) Rename(from, to string) error {
	if _, err := f.check("rename", to, 0); err != nil {
		return err
	}
	if err := f.FS.Rename(from, to); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.moved == nil {
		f.moved = map[string]string{}
	}
	for was, is := range f.moved {
		if is == from {
			f.moved[was] = to
		}
	}
	f.moved[from] = to
	return nil
}

func (f *faultFS) SyncDir(dir string) error {
	if _, err := f.check("syncdir", dir, 0); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

func (f *faultFS) Remove(name string) error {
	if _, err := f.check("remove", name, 0); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *faultFS) List(dir string) ([]string, error) {
	if _, err := f.check("list", dir, 0); err != nil {
		return nil, err
	}
	names, err := f.FS.List(dir)
	slices.Sort(names) // the file system's order is its own
	return names, err
}

func (f *faultFS) MkdirAll(dir string) error {
	if _, err := f.check("mkdir", dir, 0); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir)
}

func (f *faultFS) Lock(name string) (io.Closer, error) {
	if _, err := f.check("lock", name, 0); err != nil {
		return nil, err
	}
	return f.FS.Lock(name)
}

type faultFile struct {
	File
	fs   *faultFS
	name string
}

func (f *faultFile) WriteAt(b []byte, at int64) (int, error) {
	if k, err := f.fs.check("write", f.fs.now(f.name), len(b)); err != nil {
		n, _ := f.File.WriteAt(b[:k], at)
		return n, err
	}
	return f.File.WriteAt(b, at)
}

func (f *faultFile) ReadAt(b []byte, at int64) (int, error) {
	if _, err := f.fs.check("read", f.fs.now(f.name), len(b)); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

func (f *faultFile) SyncData() error {
	if _, err := f.fs.check("sync", f.fs.now(f.name), 0); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultFile) Preallocate(size int64) error {
	if _, err := f.fs.check("preallocate", f.fs.now(f.name), 0); err != nil {
		return err
	}
	return f.File.Preallocate(size)
}

func (f *faultFile) Size() (int64, error) {
	if _, err := f.fs.check("size", f.fs.now(f.name), 0); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *faultFile) Truncate(size int64) error {
	if _, err := f.fs.check("truncate", f.fs.now(f.name), 0); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Close closes the file even if it must fail.
func (f *faultFile) Close() error {
	_, failed := f.fs.check("close", f.fs.now(f.name), 0)
	return errors.Join(failed, f.File.Close())
}
