package host

import (
	"math"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/process"
)

// ResidentBytes is the resident memory of this process, 0 if the system does not report it.
func ResidentBytes() int64 {
	self, err := process.NewProcess(int32(os.Getpid())) // a process number
	if err != nil {
		return 0
	}
	m, err := self.MemoryInfo()
	if err != nil {
		return 0
	}
	return int64(m.RSS) // bytes of memory
}

// limitFiles are the kernel's memory limits of a container, by the version of control groups.
var limitFiles = []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}

// MemoryLimit is the memory available to this process, in bytes: the least of the machine's, its container's and GOMEMLIMIT. It is 0 if the system
// does not report it.
func MemoryLimit() int64 {
	limit := debug.SetMemoryLimit(-1)
	if m, err := mem.VirtualMemory(); err == nil {
		limit = int64(min(uint64(limit), m.Total)) // neither is negative
	}
	for _, file := range limitFiles {
		text, err := os.ReadFile(file)
		if n, bad := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && bad == nil && n > 0 {
			limit = min(limit, n)
		}
	}
	if limit == math.MaxInt64 {
		return 0
	}
	return limit
}
