//go:build !linux

package local

// lower does nothing: the system has no priority of a thread.
func lower(int) {}
