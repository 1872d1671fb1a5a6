package host

import (
	"os"

	"github.com/shirou/gopsutil/v3/process"
)

// ResidentBytes is the memory of this process that is in RAM, 0 where the system does not tell.
func ResidentBytes() int64 {
	self, err := process.NewProcess(int32(os.Getpid())) // #nosec G115 -- a process number
	if err != nil {
		return 0
	}
	m, err := self.MemoryInfo()
	if err != nil {
		return 0
	}
	return int64(m.RSS) // #nosec G115 -- bytes of memory
}
