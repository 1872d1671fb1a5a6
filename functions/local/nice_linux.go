package local

import "syscall"

// lower lowers the priority of the calling thread. A system that refuses leaves it as it is: the work is the same.
func lower(nice int) { _ = syscall.Setpriority(syscall.PRIO_PROCESS, syscall.Gettid(), nice) }
