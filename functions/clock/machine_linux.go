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

// Booted is the boot time at the start of the process, plus Running, plus the time suspended since. So it follows the fake time of testing/synctest,
// too.
func (m *machine) Booted() time.Duration {
	d := started.booted + m.Running()
	if slept := asleep(read) - started.asleep; slept > time.Millisecond { // a smaller difference is the time between the readings of the two clocks
		d += slept
	}
	return d
}

var started = struct{ booted, asleep time.Duration }{booted: read(unix.CLOCK_BOOTTIME), asleep: asleep(read)}

// asleep returns how long the machine was suspended since its boot. Its two clocks cannot be read together, so they are read again if this goroutine
// was interrupted in between.
func asleep(read func(clock int32) time.Duration) (d time.Duration) {
	for range 8 {
		before := read(unix.CLOCK_MONOTONIC)
		d = read(unix.CLOCK_BOOTTIME) - before
		if read(unix.CLOCK_MONOTONIC)-before < 20*time.Microsecond {
			break
		}
	}
	return d
}

func read(clock int32) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(clock, &ts) != nil {
		return 0
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

// timeError is the result of adjtimex while the kernel considers its clock unsynchronised.
const timeError = 5

func (m *machine) Synchronised() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state != timeError
}
