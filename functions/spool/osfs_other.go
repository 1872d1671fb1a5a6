//go:build !linux

package spool

// SyncData is a full sync where the system has no lesser one.
func (f osFile) SyncData() error { return f.Sync() }

// Preallocate does nothing: the spool is fast and sure on Linux, and merely works elsewhere.
func (f osFile) Preallocate(int64) error { return nil }
