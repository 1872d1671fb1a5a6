package clock

import (
	"fmt"
	"sync"
	"time"
)

// Fake is a source for tests: Advance moves the time, and Step steps the wall clock.
type Fake struct {
	mu      sync.Mutex
	wall    time.Time
	running time.Duration
	booted  time.Duration
	boots   int
	synced  bool
}

// NewFake returns a machine that has just started, with a synchronised wall clock.
func NewFake(wall time.Time) *Fake { return &Fake{wall: wall, boots: 1, synced: true} }

// Advance moves all clocks forward.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.running, f.booted = f.wall.Add(d), f.running+d, f.booted+d
}

// Step sets the wall clock forward, or back if d is below 0.
func (f *Fake) Step(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall = f.wall.Add(d)
}

// Synchronise sets whether the wall clock is synchronised.
func (f *Fake) Synchronise(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced = on
}

// Reboot restarts the machine after it was off for a time.
func (f *Fake) Reboot(off time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.running, f.booted = f.wall.Add(off), 0, 0
	f.boots++
}

// Wall returns the fake's time of day.
func (f *Fake) Wall() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wall
}

// Running returns the time since the fake was made or booted.
func (f *Fake) Running() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running
}

// Booted returns the time since the latest Reboot.
func (f *Fake) Booted() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.booted
}

// Boot names the latest boot.
func (f *Fake) Boot() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint("boot-", f.boots)
}

// Synchronised returns the value of the last Synchronise.
func (f *Fake) Synchronised() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced
}
