//go:build !linux

package local

// lower does nothing: there is no priority of a thread here.
func lower(int) {}
