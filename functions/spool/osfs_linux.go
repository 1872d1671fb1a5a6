package spool

import (
	"errors"

	"golang.org/x/sys/unix"
)

// SyncData omits the inode's times, which saves a journal commit for blocks that are already allocated.
func (f osFile) SyncData() error { return unix.Fdatasync(int(f.Fd())) }

func (f osFile) Preallocate(size int64) error {
	err := unix.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}
