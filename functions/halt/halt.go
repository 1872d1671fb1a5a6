// Package halt defines the signals that stop the programs.
package halt

import (
	"os"
	"os/signal"
	"syscall"
)

// Signals returns the signals that stop a program in an orderly way: interrupt, SIGTERM and, unless the process ignores it as under nohup, SIGHUP.
func Signals() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}
