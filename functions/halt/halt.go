// Package halt says which signals stop a program in order.
package halt

import (
	"os"
	"os/signal"
	"syscall"
)

// Signals are an interrupt, SIGTERM and SIGHUP. A SIGHUP that is ignored, as under nohup, stays so.
func Signals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}
