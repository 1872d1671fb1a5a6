package local

import "syscall"

// lower lowers the priority of the calling thread. A refusal by the system is ignored.
func lower(nice int) { _ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), nice) }
