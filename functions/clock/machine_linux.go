package clock

import (
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// machine reads the clocks of this machine.
type machine struct{ start time.Time }

func (m *machine) Wall() time.Time { return time.Now() }

func (m *machine) Running() time.Duration { return time.Since(m.start) }

func (m *machine) Booted() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return m.Running()
	}
	return time.Duration(ts.Nano())
}

var boot = sync.OnceValue(func() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
})

func (m *machine) Boot() string { return boot() }

// timeError is what adjtimex answers while the kernel takes its clock for not synchronised.
const timeError = 5

func (m *machine) Synchronised() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state != timeError
}
