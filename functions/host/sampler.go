// Package host samples the node: the load of its cores and its memory, temperature, power, the local queue, and the exporter's measurements of the
// link.
//
// State is lock-free and never blocks, so decisions may call it at any rate. A missing sensor reads as NaN (or 0, as each field says), without an
// error or a log line: a gateway without a thermometer is normal. Sampler.Absent names the missing sensors for display.
//
// The state by file:
//
//	state.go, json.go         the State, immutable once published, and its Source
//	sampler.go                the Sampler: Run owns the meters and publishes a State per interval; the exporter changes the link's part under mu
//	sysfs.go, vitals.go
//	                          the meters: processor, sensors and power; used by Run only
//	governor.go               the Governor, which writes the upper bound of the processor's frequency; Run owns its level
//	self.go                   the memory of this process, measured on demand
package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/host"
	"github.com/shirou/gopsutil/v3/mem"

	"app-offload/functions/check"
	"app-offload/functions/clock"
)

// rescan is the number of samples after which the sensors are searched again, since batteries and USB thermometers appear and disappear at run time.
const rescan = 60

type queueFunc func() (tasks int, cycles float64)

// Sampler measures the node while Run runs. All its methods but Run are safe for concurrent use.
type Sampler struct {
	interval time.Duration
	roots    context.Context // carries the roots to gopsutil, nothing else
	sysfs    string
	pressure string // the kernel's pressure stall information of memory

	latest atomic.Pointer[State]
	queue  atomic.Pointer[queueFunc]
	failed atomic.Uint64

	mu sync.Mutex // held while the next state is made; never by readers

	// Used by Run only:
	taken   int // samples so far
	cpu     cpuMeter
	power   powerMeter
	sensors sensors
}

// New takes the first sample, so that State is never nil. It fails if CPU times or memory cannot be read.
func New(c Config) (*Sampler, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Sampler{interval: c.interval(check.In("Host")), sysfs: c.SysfsRoot, pressure: filepath.Join(c.ProcfsRoot, "pressure", "memory")}
	s.roots = context.WithValue(context.Background(), common.EnvKey, common.EnvMap{
		common.HostSysEnvKey: c.SysfsRoot, common.HostProcEnvKey: c.ProcfsRoot,
	})
	s.latest.Store(&State{Temperature: math.NaN(), Watts: math.NaN(), Battery: math.NaN()})
	if err := s.sample(time.Now()); err != nil {
		return nil, fmt.Errorf("taking the first sample of the node below %s: %w", c.ProcfsRoot, err)
	}
	return s, nil
}

// Run samples until ctx is done; it is to be called once. A failed sample keeps the previous values and is counted in Failed.
func (s *Sampler) Run(ctx context.Context) {
	tick := clock.NewTicker(s.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if err := s.sample(now); err != nil {
				s.failed.Add(1)
			}
		}
	}
}

// State returns the latest sample with the latest link; its queue is as old as the newer of the two. It never blocks.
func (s *Sampler) State() *State { return s.latest.Load() }

// Read copies the latest state to dst, with the current queue. A burst of tasks can fill the queue long before the next sample, so a decider should
// call this once per burst, and may add the tasks that it kept local to dst's queue.
func (s *Sampler) Read(dst *State) {
	*dst = *s.latest.Load()
	s.fillQueue(dst)
}

// Failed is the number of samples in which CPU times or memory could not be read.
func (s *Sampler) Failed() uint64 { return s.failed.Load() }

// SetLink publishes a state with the exporter's latest measurement of the link.
func (s *Sampler) SetLink(l Link) {
	s.change(func(next *State) { next.Link = l })
}

// SetQueue sets the source of the size of the local queue, nil for no source. The function must be fast and safe for concurrent use, and must not
// call the Sampler.
func (s *Sampler) SetQueue(queue func() (tasks int, cycles float64)) {
	f := queueFunc(queue)
	s.queue.Store(&f)
	s.change(func(*State) {})
}

// change derives the next state from the latest one. Writers take turns, so that none reverts the change of another.
func (s *Sampler) change(edit func(next *State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := *s.latest.Load()
	edit(&next)
	s.fillQueue(&next)
	s.latest.Store(&next)
}

func (s *Sampler) fillQueue(dst *State) {
	if f := s.queue.Load(); f != nil && *f != nil {
		dst.QueueTasks, dst.QueueCycles = (*f)()
		return
	}
	dst.QueueTasks, dst.QueueCycles = 0, 0
}

// Absent names the figures that this node does not provide, in words for an operator; it returns nil if none is missing.
func (s *Sampler) Absent() []string {
	now := s.State()
	var absent []string
	for _, sensor := range []struct {
		missing bool
		name    string
	}{
		{math.IsNaN(now.Temperature), "temperature (no hwmon sensor and no thermal zone)"},
		{now.MHz == 0, "frequency (no cpufreq)"},
		{math.IsNaN(now.Watts), "power (no readable powercap counter; since Linux 5.10 only root may read them)"},
	} {
		if sensor.missing {
			absent = append(absent, sensor.name)
		}
	}
	return absent
}

// sample measures everything once. On failure CPU and memory keep their last value, and the failure is the error; sensors become unknown. Some
// sensors are slow, so the lock is taken only after all have been read.
func (s *Sampler) sample(now time.Time) error {
	if s.taken%rescan == 0 {
		s.sensors = findSensors(s.sysfs)
	}
	s.taken++
	seen := *s.latest.Load()
	seen.Time = now.UnixNano()
	err := errors.Join(s.cpu.read(s.roots, now, &seen), readMemory(s.roots, &seen))
	seen.MemoryStall = stalled(text(s.pressure))
	seen.Temperature = hottest(s.roots)
	seen.MHz = s.sensors.megahertz()
	seen.Watts = s.power.watts(s.sensors.energy, now)
	seen.OnBattery, seen.Battery = s.sensors.battery()
	s.change(func(next *State) {
		link := next.Link // the exporter may have set a newer one meanwhile
		*next = seen
		next.Link = link
	})
	return err
}

// cpuMeter turns counters of CPU seconds into shares of the time between two samples. It has its own counters because gopsutil's Percent has one set
// for the whole process, which a second caller would disturb.
type cpuMeter struct {
	busy, total float64 // seconds of all cores, at the last sample
	own         time.Duration
	at          time.Time
}

// read fills the CPU fields of s. The first sample has no previous one, so it is the mean since boot.
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

// sum adds up the kernel's counters. Guests are contained in user and nice already; waiting for a disk is idle time.
func sum(t cpu.TimesStat) (busy, total float64) {
	busy = t.User + t.System + t.Nice + t.Irq + t.Softirq + t.Steal
	return busy, busy + t.Idle + t.Iowait
}

// ownTime returns the CPU time of this process, 0 if the kernel does not report it.
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
		return errors.New("reading memory: meminfo has no total")
	}
	// Available rather than free: the page cache is reclaimed on demand.
	s.Memory = percent(1 - float64(m.Available)/float64(m.Total))
	return nil
}

// hottest returns the highest plausible temperature in °C, NaN without any. Some boards report absent sensors as -128 or 255; such values must not
// look like a fire.
func hottest(roots context.Context) float64 {
	// The error lists unreadable sensors; the others still count.
	readings, _ := host.SensorsTemperaturesWithContext(roots)
	top := math.NaN()
	for _, r := range readings {
		if r.Temperature > -40 && r.Temperature < 150 && !(r.Temperature <= top) {
			top = r.Temperature
		}
	}
	return top
}

// stalled reads avg10 of the line "some" of pressure stall information, in percent. Other text, as of a kernel without it, is 0.
func stalled(pressure string) float64 {
	var share float64
	if n, err := fmt.Sscanf(pressure, "some avg10=%f", &share); n != 1 || err != nil || math.IsNaN(share) {
		return 0
	}
	return percent(share / 100)
}
