//go:build !linux

package spool

// SyncData is a full sync on systems without fdatasync.
func (f osFile) SyncData() error { return f.Sync() }

// Preallocate does nothing: the spool is fast and safe on Linux, and only works elsewhere.
func (f osFile) Preallocate(int64) error { return nil }
