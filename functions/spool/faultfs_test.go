package spool

import (
	"errors"
	"io"
	"path/filepath"
	"sync/atomic"
	"syscall"
)

// faultFS fails operations as a test says. The hook gets the operation, the file's name and, for writes, how many bytes; with an
// error of a write it also says how many of them still arrive.
type faultFS struct {
	FS
	hook atomic.Pointer[func(op, name string, n int) (int, error)]
}

func (f *faultFS) set(hook func(op, name string, n int) (int, error)) { f.hook.Store(&hook) }

// full is a disk without space: nothing can be created, and files cannot grow.
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
	return f.FS.Rename(from, to)
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
	return f.FS.List(dir)
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
	if k, err := f.fs.check("write", f.name, len(b)); err != nil {
		n, _ := f.File.WriteAt(b[:k], at)
		return n, err
	}
	return f.File.WriteAt(b, at)
}

func (f *faultFile) ReadAt(b []byte, at int64) (int, error) {
	if _, err := f.fs.check("read", f.name, len(b)); err != nil {
		return 0, err
	}
	return f.File.ReadAt(b, at)
}

func (f *faultFile) SyncData() error {
	if _, err := f.fs.check("sync", f.name, 0); err != nil {
		return err
	}
	return f.File.SyncData()
}

func (f *faultFile) Preallocate(size int64) error {
	if _, err := f.fs.check("preallocate", f.name, 0); err != nil {
		return err
	}
	return f.File.Preallocate(size)
}

func (f *faultFile) Size() (int64, error) {
	if _, err := f.fs.check("size", f.name, 0); err != nil {
		return 0, err
	}
	return f.File.Size()
}

func (f *faultFile) Truncate(size int64) error {
	if _, err := f.fs.check("truncate", f.name, 0); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// Close closes the file even if it is to fail.
func (f *faultFile) Close() error {
	_, failed := f.fs.check("close", f.name, 0)
	return errors.Join(failed, f.File.Close())
}
