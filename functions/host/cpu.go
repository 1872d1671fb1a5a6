package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"
)

// cpuMeter turns counters of CPU seconds into shares of the time between two samples. Its own counters are kept here
// because gopsutil's Percent keeps them for the whole process, where a second caller would spoil them.
type cpuMeter struct {
	busy, total float64 // seconds of all cores, at the last sample
	own         time.Duration
	at          time.Time
}

// read fills the CPU fields of s. The first sample has nothing before it, so it is the mean since the machine started.
func (m *cpuMeter) read(roots context.Context, now time.Time, s *State) error {
	times, err := cpu.TimesWithContext(roots, false)
	if err != nil || len(times) == 0 {
		return fmt.Errorf("reading CPU times: %w", errors.Join(err, errNoCPU(times)))
	}
	s.Cores = runtime.NumCPU()
	busy, total := sum(times[0])
	if spent := total - m.total; spent > 0 {
		s.CPU = percent((busy - m.busy) / spent)
	}
	own := ownTime()
	if wall := now.Sub(m.at); !m.at.IsZero() && wall > 0 {
		s.OwnCPU = min(percent(float64(own-m.own)/float64(wall)/float64(s.Cores)), s.CPU)
	}
	m.busy, m.total, m.own, m.at = busy, total, own, now
	return nil
}

func errNoCPU(times []cpu.TimesStat) error {
	if len(times) > 0 {
		return nil
	}
	return errors.New("stat has no line for the CPU")
}

// sum adds up what the kernel counts. Guests are contained in user and nice already; waiting for a disk is idle time.
func sum(t cpu.TimesStat) (busy, total float64) {
	busy = t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal
	return busy, busy + t.Idle + t.Iowait
}

// ownTime is the CPU time this process has spent, 0 where the kernel does not say.
func ownTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func percent(share float64) float64 { return 100 * min(max(share, 0), 1) }

func readMemory(roots context.Context, s *State) error {
	m, err := mem.VirtualMemoryWithContext(roots)
	if err != nil {
		return fmt.Errorf("reading memory: %w", err)
	}
	if m.Total == 0 {
		return errors.New("reading memory: meminfo names no total")
	}
	// Available rather than free: what the page cache holds is given back when somebody needs it.
	s.Memory = percent(1 - float64(m.Available)/float64(m.Total))
	return nil
}

// hottest is the highest plausible temperature in °C, NaN without any. Boards wire up sensors that are not there and
// then read -128 or 255; such values must not look like a fire.
func hottest(roots context.Context) float64 {
	// The error lists sensors that could not be read; the others still count.
	readings, _ := host.SensorsTemperaturesWithContext(roots)
	top := math.NaN()
	for _, r := range readings {
		if r.Temperature > -40 && r.Temperature < 150 && !(r.Temperature <= top) {
			top = r.Temperature
		}
	}
	return top
}

// stalled reads avg10 of the line "some" of pressure stall information, in percent. Text of another form, as of a kernel without it, is 0.
func stalled(pressure string) float64 {
	var share float64
	if n, err := fmt.Sscanf(pressure, "some avg10=%f", &share); n != 1 || err != nil || math.IsNaN(share) {
		return 0
	}
	return percent(share / 100)
}
