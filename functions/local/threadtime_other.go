//go:build !linux

package local

import "time"

// threadTime is the elapsed time, where the CPU time of a thread is not to be had.
func threadTime() time.Duration { return time.Since(started) }
