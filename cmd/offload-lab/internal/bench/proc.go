package bench

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is the kernel's USER_HZ, the unit of CPU times in /proc, which is 100 on every Linux that Go supports.
const ticks = 100

// cpuTime is the CPU time of a process since its start, user and system.
func cpuTime(pid int) (time.Duration, error) {
	path := fmt.Sprintf("/proc/%d/stat", pid)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the CPU time, which needs Linux: %w", err)
	}
	// The second field is the program's name in parentheses and may contain anything; the times are fields 14 and 15.
	fields := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s has no CPU times: %q", path, raw)
	}
	var sum int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks, nil
}

// peakMemory is the peak resident memory of a process in MiB.
func peakMemory(pid int) (float64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("reading the peak of memory: %w", err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("%s has no VmHWM", path)
}

// loadAverage is the load average of the last minute, or -1 if the system has none.
func loadAverage() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return -1
	}
	first, _, _ := strings.Cut(string(raw), " ")
	v, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return v
}

// wakeups is the number of voluntary context switches of a process's threads since their start.
func wakeups(pid int) (sum int64) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid)) // the pattern is valid
	for _, file := range files {
		raw, _ := os.ReadFile(file) // fails for a thread that has exited
		for line := range strings.Lines(string(raw)) {
			if rest, ok := strings.CutPrefix(line, "voluntary_ctxt_switches:"); ok {
				n, _ := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
				sum += n
			}
		}
	}
	return sum
}

// machineTime is the CPU time of all processes since the machine's start, -1 if unknown.
func machineTime() time.Duration {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return -1
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal …
	if len(fields) < 8 || fields[0] != "cpu" {
		return -1
	}
	var sum int64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return -1
		}
		sum += n
	}
	return time.Duration(sum) * time.Second / ticks
}

// usage is the CPU time of a process, and of all bench processes together, at a moment.
type usage struct {
	at                  time.Time
	cpu, bench, machine time.Duration
	wakeups             int64
}

// usageOf reads the usage of a process. others are the bench's other processes besides that and this one.
func usageOf(pid int, others ...func() time.Duration) (u usage, err error) {
	if u.cpu, err = cpuTime(pid); err != nil {
		return u, err
	}
	own, err := cpuTime(os.Getpid())
	if err != nil {
		return u, err
	}
	u.bench = u.cpu + own
	for _, used := range others {
		u.bench += used()
	}
	u.at, u.machine, u.wakeups = time.Now(), machineTime(), wakeups(pid)
	return u, nil
}
