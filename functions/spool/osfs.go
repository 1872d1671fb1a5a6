package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// osFS is the file system of the operating system.
type osFS struct{}

// osFile adds system-specific calls to an os.File.
type osFile struct{ *os.File }

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o750) }

func (osFS) Create(name string) (File, error) {
	f, err := os.OpenFile(filepath.Clean(name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Open(name string, write bool) (File, error) {
	mode := os.O_RDONLY
	if write {
		mode = os.O_RDWR
	}
	f, err := os.OpenFile(filepath.Clean(name), mode|unix.O_NONBLOCK, 0) // opening a pipe would wait for its other end
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() && !st.IsDir() {
		return nil, errors.Join(cmp.Or(err, fmt.Errorf("%s is a pipe or a device: move it out of the folder", name)), f.Close())
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error     { return os.Remove(name) }
func (osFS) Rename(from, to string) error { return os.Rename(from, to) }

func (osFS) List(dir string) ([]string, error) {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Lock uses flock, which the kernel releases however the process ends. It also locks the folder, if its file system supports that, since a user may
// remove the lock file as a leftover.
func (osFS) Lock(name string) (io.Closer, error) {
	file, err := flock(filepath.Clean(name), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	dir, err := flock(filepath.Dir(name), os.O_RDONLY)
	switch {
	case errors.Is(err, ErrLocked):
		return nil, errors.Join(err, file.Close())
	case err != nil:
		return file, nil
	}
	return locks{file, dir}, nil
}

func flock(name string, mode int) (*os.File, error) {
	f, err := os.OpenFile(name, mode, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: %s", ErrLocked, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

type locks [2]*os.File

func (l locks) Close() error { return errors.Join(l[0].Close(), l[1].Close()) }

func (f osFile) At(name string) error {
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if now, err := os.Stat(name); err != nil || !os.SameFile(opened, now) {
		return fmt.Errorf("%s was removed, moved or replaced while it is open; put it back, or start the program again", name)
	}
	return nil
}

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}
