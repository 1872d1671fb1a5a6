package host

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"app-offload/functions/check"
	"app-offload/functions/clock"
)

// Governor scales the processor with the load of the node by the upper bound of cpufreq; any kernel governor works below that bound. A load above the
// high band, or work that is predicted to be late, restores all of it immediately. A load below the low band for a while lowers it by a step. In
// between nothing changes, so it does not oscillate. It acts while Run runs, and restores everything at the end. The other methods are safe for
// concurrent use.
type Governor struct {
	interval, hold   time.Duration
	low, high, floor float64
	domains          []domain
	state            func() *State
	lateness         func() float64
	log              func(format string, args ...any)

	// Used by Run only:
	level    float64   // allowed share of the highest frequency
	lowSince time.Time // zero while the load is not low

	mu     sync.Mutex
	status GovernorStatus
}

// GovernorStatus is the action of the governor, or the advised one.
type GovernorStatus struct {
	State  string  `json:"state"`  // "acting"; "advising", if the files are not writable; or "absent", without cpufreq
	MHz    float64 `json:"mhz"`    // the upper bound of the fastest cores, set or advised
	Share  float64 `json:"share"`  // of the highest frequency
	Reason string  `json:"reason"` // of the latest change, or of not acting
}

// domain is a set of cores that share one frequency.
type domain struct {
	file      string // of the upper bound, kHz
	low, high float64
}

// governorStep is the factor of a step down.
const governorStep = 0.8

// NewGovernor finds the frequencies to scale; it returns nil if the configuration disables it. lateness is the predicted lateness of local work in
// seconds, 0 or less for none. log is called once with the governor's abilities.
func NewGovernor(c Config, state func() *State, lateness func() float64, log func(format string, args ...any)) (*Governor, error) {
	if err := c.Validate(); err != nil || !c.Governor {
		return nil, err
	}
	p := check.In("Host")
	g := &Governor{
		interval: c.interval(p), hold: c.hold(p), low: c.GovernorLow, high: c.GovernorHigh, floor: c.GovernorFloor,
		domains: findDomains(c.SysfsRoot, c.GovernorMHz*1000), state: state, lateness: lateness, log: log, level: 1,
	}
	g.status = GovernorStatus{State: "absent", Share: 1, Reason: "there is no cpufreq below " + c.SysfsRoot}
	if len(g.domains) > 0 {
		g.status = GovernorStatus{State: "acting", MHz: g.fastest() / 1000, Share: 1, Reason: "not changed yet"}
	}
	return g, nil
}

func findDomains(root string, most float64) []domain {
	dirs := glob(root, "devices/system/cpu/cpufreq/policy*")
	if dirs == nil {
		dirs = glob(root, "devices/system/cpu/cpu[0-9]*/cpufreq")
	}
	var all []domain
	for _, dir := range dirs {
		low, okLow := number(filepath.Join(dir, "cpuinfo_min_freq"))
		high, okHigh := number(filepath.Join(dir, "cpuinfo_max_freq"))
		if most > 0 {
			high = min(high, max(most, low))
		}
		if okLow && okHigh && 0 < low && low <= high {
			all = append(all, domain{filepath.Join(dir, "scaling_max_freq"), low, high})
		}
	}
	return all
}

func (g *Governor) fastest() float64 {
	top := 0.0
	for _, d := range g.domains {
		top = max(top, d.high)
	}
	return top
}

// Status returns the governor's status, nil for a nil governor.
func (g *Governor) Status() *GovernorStatus {
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	return &s
}

// Run scales until ctx ends. It is to be called once.
func (g *Governor) Run(ctx context.Context) {
	if len(g.domains) == 0 {
		g.log("frequency governor inactive: %s", g.Status().Reason)
		return
	}
	g.set(1, "started")
	defer g.set(1, "stopped")
	tick := clock.NewTicker(g.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			g.step(now)
		}
	}
}

// step takes one sample, and changes the level if necessary.
func (g *Governor) step(now time.Time) {
	load, late := g.state().CPU, g.lateness()
	switch {
	case !(late <= 0):
		g.raise(fmt.Sprintf("local work is predicted to be %.3g s late", late))
	case !(load < g.high):
		g.raise(fmt.Sprintf("the CPU is %.0f %% busy", load))
	case load > g.low:
		g.lowSince = time.Time{}
	case g.lowSince.IsZero():
		g.lowSince = now
	case now.Sub(g.lowSince) >= g.hold && g.level > g.floor:
		g.lowSince = now
		g.set(max(g.level*governorStep, g.floor), fmt.Sprintf("the CPU was at most %.0f %% busy for %v", g.low, g.hold))
	}
}

func (g *Governor) raise(why string) {
	g.lowSince = time.Time{}
	if g.level < 1 {
		g.set(1, why)
	}
}

// set allows that share of the highest frequency. If one file is not writable, the governor only advises.
func (g *Governor) set(level float64, why string) {
	g.level = level
	var err error
	for _, d := range g.domains {
		err = errors.Join(err, d.allow(level))
	}
	if err != nil {
		for _, d := range g.domains { // not some slow and some fast
			_ = d.allow(1) // the error is known already
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.status.State
	g.status = GovernorStatus{State: "acting", MHz: max(g.fastest()*level, 0) / 1000, Share: level, Reason: why}
	if err == nil {
		return
	}
	g.status.State = "advising"
	if before != "advising" {
		g.log("frequency governor only advises, see the status: %v", err)
	}
}

func (d domain) allow(level float64) error {
	khz := strconv.FormatInt(int64(math.Round(max(d.low, d.high*level))), 10)
	f, err := os.OpenFile(d.file, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("setting the highest frequency: %w", err)
	}
	_, err = f.WriteString(khz + "\n")
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("setting the highest frequency to %s kHz: %w", khz, err)
	}
	return nil
}
