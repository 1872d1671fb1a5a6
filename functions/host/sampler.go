// Package host looks at the node: how busy its cores and its memory are, how hot it is, what power it draws, what
// waits for a local worker and what the exporter measured of the link.
//
// State is lock-free and never blocks, so a decision may ask as often as it likes. What has no sensor here is NaN (or 0,
// as each field says), without an error and without a line in the log: a gateway without a thermometer is no fault.
// Sampler.Absent names what is missing for those who want to show it once.
//
// Which file holds which state:
//
//	state.go, json.go         the State, immutable once published, and the Source of it
//	sampler.go                the Sampler: Run owns the meters and publishes a State an interval; the exporter changes the link's part under mu
//	sysfs.go, vitals.go
//	                          the meters: processor, sensors and power; Run's alone
//	governor.go               the Governor, which writes the upper bound of the processor's frequency; Run owns its level
//	self.go                   what this process takes, asked when it is shown
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

// rescan is the number of samples after which the sensors are looked for again, since batteries and USB thermometers
// come and go while the service runs.
const rescan = 60

type queueFunc func() (tasks int, cycles float64)

// Sampler measures the node while Run runs. All its methods but Run are safe for concurrent use.
type Sampler struct {
	interval time.Duration
	roots    context.Context // carries the roots to gopsutil, nothing else
	sysfs    string
	pressure string // file in which the kernel says how long tasks wait for memory

	latest atomic.Pointer[State]
	queue  atomic.Pointer[queueFunc]
	failed atomic.Uint64

	mu sync.Mutex // held while the next state is made; never by readers

	// Run's alone:
	taken   int // samples so far
	cpu     cpuMeter
	power   powerMeter
	sensors sensors
}

// New takes the first sample, so that State is never nil. It fails where CPU times or memory cannot be read at all.
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

// Run samples until ctx is done; it is to be called once. A sample that fails keeps the values before it and is counted in Failed.
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

// State is the latest sample with the latest link; its queue is as old as the newer of the two. It never blocks.
func (s *Sampler) State() *State { return s.latest.Load() }

// Read copies the latest state to dst and asks for the queue as it is at this very moment. One burst of tasks can fill
// the queue long before the next sample, so a decider should use this once per burst, and may add to dst's queue
// what he himself decided to keep.
func (s *Sampler) Read(dst *State) {
	*dst = *s.latest.Load()
	s.fillQueue(dst)
}

// Failed is the number of samples in which CPU times or memory could not be read.
func (s *Sampler) Failed() uint64 { return s.failed.Load() }

// SetLink puts the exporter's latest measurement of the link into the state, at once.
func (s *Sampler) SetLink(l Link) {
	s.change(func(next *State) { next.Link = l })
}

// SetQueue sets the source of the size of the local queue, nil for no source. The function must be fast, safe for
// concurrent use and must not call the Sampler.
func (s *Sampler) SetQueue(queue func() (tasks int, cycles float64)) {
	f := queueFunc(queue)
	s.queue.Store(&f)
	s.change(func(*State) {})
}

// change makes the next state out of the latest one. Writers take turns, so that none undoes what another one set.
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

// Absent names the figures that this node does not provide, in words for an operator; nil where nothing is missing.
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

// sample measures everything once. What cannot be read keeps its last value where that still means something (CPU and
// memory, whose failure is the error), and becomes unknown where it does not (the sensors). Some sensors take long to
// answer, so nothing is locked until all have been asked.
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
