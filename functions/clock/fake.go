package clock

import (
	"fmt"
	"sync"
	"time"
)

// Fake is a source for tests: time goes by when Advance says so, and the wall clock steps when Step says so.
type Fake struct {
	mu      sync.Mutex
	wall    time.Time
	running time.Duration
	booted  time.Duration
	boots   int
	synced  bool
}

// NewFake is a machine that has just started, with its wall clock at a time and synchronised.
func NewFake(wall time.Time) *Fake { return &Fake{wall: wall, boots: 1, synced: true} }

// Advance lets time go by, on all clocks.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.running, f.booted = f.wall.Add(d), f.running+d, f.booted+d
}

// Step sets the wall clock forward, or back where d is below 0.
func (f *Fake) Step(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall = f.wall.Add(d)
}

// Synchronise says from when on the wall clock is kept right, or no longer is.
func (f *Fake) Synchronise(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.synced = on
}

// Reboot starts the machine anew after it was off for a time.
func (f *Fake) Reboot(off time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wall, f.running, f.booted = f.wall.Add(off), 0, 0
	f.boots++
}

// Wall is the fake's time of day.
func (f *Fake) Wall() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wall
}

// Running is the time since the fake was made or booted.
func (f *Fake) Running() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.running
}

// Booted is the time since the latest Reboot.
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

// Synchronised is what Synchronise said last.
func (f *Fake) Synchronised() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.synced
}
