//go:build !linux

package local

import "time"

// threadTime returns the elapsed time, as the system has no CPU clock of a thread.
func threadTime() time.Duration { return time.Since(started) }
