package local

import "syscall"

// lower lowers the priority of the calling thread by nice. A refusal by the system is ignored.
func lower(nice int) {
	raw, err := syscall.Getpriority(syscall.PRIO_PROCESS, syscall.Gettid())
	if err == nil {
		now := 20 - raw // as the kernel returns it
		_ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), min(now+nice, 19))
	}
}
