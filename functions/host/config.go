package host

import (
	"os"
	"path/filepath"
	"time"

	"app-offload/functions/check"
)

// Config is where and how often the node is sampled. Start from DefaultConfig.
type Config struct {
	// Interval is the time between two samples, a Go duration of "100ms" to "1m". The CPU load in a decision is up to this old; link and queue are
	// newer.
	Interval string
	// SysfsRoot is the directory where sysfs is mounted, for temperature, frequency, RAPL energy counters and batteries. In a container mount the host's
	// /sys read-only and name it here.
	SysfsRoot string
	// ProcfsRoot is the directory where procfs is mounted, for CPU times and memory.
	ProcfsRoot string

	// Governor lowers the processor's highest frequency step by step while the node has little to do, and raises it immediately when the node has much
	// to do, or when local work is predicted to be late. If the files of cpufreq are not writable, it only advises: the status shows the frequency that
	// it would set.
	Governor bool
	// GovernorLow is the CPU load in percent, 1–66, below which the frequency is lowered.
	GovernorLow float64 `within:"1 66"`
	// GovernorHigh is the CPU load in percent, up to 100, above which the frequency is raised; in between it stays. It must be at least one and a half
	// times GovernorLow, or a step down would lead directly to a step up.
	GovernorHigh float64
	// GovernorHold is the time with a low load before each step down, a Go duration of "1s" to "10m".
	GovernorHold string
	// GovernorFloor is the lowest frequency as a share of the highest, 0.1–1.
	GovernorFloor float64 `within:"0.1 1"`
	// GovernorMHz is the highest frequency to allow, in MHz. 0 is the processor's own.
	GovernorMHz float64 `within:"0 1e5"`
}

// DefaultConfig samples the machine of this process once a second.
func DefaultConfig() Config {
	return Config{
		Interval: "1s", SysfsRoot: "/sys", ProcfsRoot: "/proc",
		GovernorLow: 30, GovernorHigh: 70, GovernorHold: "10s", GovernorFloor: 0.4,
	}
}

// Validate reports every problem, not only the first.
func (c Config) Validate() error {
	p := check.Fields("Host", c)
	c.interval(p)
	directory(p, "SysfsRoot", c.SysfsRoot)
	directory(p, "ProcfsRoot", c.ProcfsRoot)
	if p.Fine("GovernorLow") {
		check.Range(p, "GovernorHigh", c.GovernorHigh, 1.5*c.GovernorLow, 100)
	}
	c.hold(p)
	return p.Err()
}

func (c Config) interval(p *check.Problems) time.Duration {
	return p.Duration("Interval", c.Interval, 100*time.Millisecond, time.Minute)
}

func (c Config) hold(p *check.Problems) time.Duration {
	return p.Duration("GovernorHold", c.GovernorHold, time.Second, 10*time.Minute)
}

func directory(p *check.Problems, key, path string) {
	switch info, err := os.Stat(path); {
	case !filepath.IsAbs(path):
		p.Addf(key, path, "must be an absolute path")
	case err != nil:
		p.Addf(key, path, "cannot be opened (%v); name the directory where it is mounted", err)
	case !info.IsDir():
		p.Addf(key, path, "is not a directory")
	}
}
