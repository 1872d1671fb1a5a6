package spool

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// crashFS is a file system for the spool that can lose unsynced data, block by block and name by name.
type crashFS struct {
	*vfs.MemFS
	before func() // called before each operation that changes the disk
}

type crashFile struct {
	vfs.File
	before func()
}

func (c crashFS) MkdirAll(dir string) error { return c.MemFS.MkdirAll(dir, 0o755) }

func (c crashFS) Create(name string) (File, error) {
	c.before()
	f, err := c.MemFS.Create(name, "")
	if err != nil {
		return nil, err
	}
	return crashFile{f, c.before}, nil
}

func (c crashFS) Open(name string, _ bool) (File, error) {
	if _, err := c.Stat(name); err != nil {
		return nil, err
	}
	f, err := c.OpenReadWrite(name, "")
	if err != nil {
		return nil, err
	}
	return crashFile{f, c.before}, nil
}

func (c crashFS) Remove(name string) error {
	c.before()
	err := c.MemFS.Remove(name)
	if err != nil && errors.Is(err, os.ErrNotExist) {
		return os.ErrNotExist
	}
	return err
}

func (c crashFS) Rename(from, to string) error {
	c.before()
	return c.MemFS.Rename(from, to)
}

func (c crashFS) SyncDir(dir string) error {
	c.before()
	d, err := c.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (c crashFS) Lock(name string) (io.Closer, error) {
	l, err := c.MemFS.Lock(name)
	if errors.Is(err, syscall.EAGAIN) {
		return nil, ErrLocked
	}
	return l, err
}

func (f crashFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f crashFile) WriteAt(b []byte, at int64) (int, error) {
	f.before()
	return f.File.WriteAt(b, at)
}

func (f crashFile) SyncData() error {
	f.before()
	return f.File.SyncData()
}

// At does nothing: a file in memory is never moved.
func (f crashFile) At(string) error { return nil }

// Truncate does nothing, since vfs cannot truncate: the spool must work without it, for a truncation is not durable either.
func (f crashFile) Truncate(int64) error { return nil }

// Preallocate extends the file to its final size.
func (f crashFile) Preallocate(size int64) error {
	n, err := f.Size()
	if err != nil || n >= size {
		return err
	}
	_, err = f.File.WriteAt(make([]byte, size-n), n)
	return err
}
