// Package clock separates durations from the time of day.
//
// The wall clock of a gateway steps: without a battery it starts years in the past, and NTP, a daylight saving script or an operator sets it while
// the service runs. The difference of two wall clock readings is therefore not a duration. A Clock returns stamps: ns since the Unix epoch, by the
// wall clock when the Clock was made, plus the time elapsed since. The difference of two stamps of one Clock is the time between them, regardless of
// the wall clock. Wall converts a stamp to the time of day, for people, files and other machines. A Moment is stored in a file to measure durations
// across restarts and boots.
//
// time.Time values of time.Now that keep their monotonic part may be subtracted directly. Use a Clock wherever a time is kept as a number, crosses a
// file, or is set by a test.
//
// Everything is safe for concurrent use and never blocks.
package clock

import "time"

// Source provides the readings of a clock.
type Source interface {
	// Wall is the time of day, which may step.
	Wall() time.Time
	// Running is the time since some moment of this process. It never steps.
	Running() time.Duration
	// Booted is the time since the machine's boot, suspended time included. It never steps.
	Booted() time.Duration
	// Boot identifies the current boot of the machine, "" if unknown.
	Boot() string
	// Synchronised reports whether the wall clock is currently synchronised.
	Synchronised() bool
}

// Clock returns stamps. Make one with New; nil is System.
type Clock struct {
	source Source
	base   int64 // stamp at Running = 0
}

// System is the machine's clock.
var System = New(&machine{start: time.Now()})

// New returns a clock of a source.
func New(source Source) *Clock {
	return &Clock{source: source, base: source.Wall().UnixNano() - int64(source.Running())}
}

// Or returns c, or System if c is nil.
func (c *Clock) Or() *Clock {
	if c == nil {
		return System
	}
	return c
}

// Now returns the current stamp, in ns.
func (c *Clock) Now() int64 {
	c = c.Or()
	return c.base + int64(c.source.Running())
}

// Time returns Now as a time.Time, for code that subtracts those.
func (c *Clock) Time() time.Time { return time.Unix(0, c.Now()) }

// Since returns the time elapsed since a stamp.
func (c *Clock) Since(stamp int64) time.Duration { return time.Duration(c.Now() - stamp) }

// Wall returns the time of day of a stamp, by the current wall clock.
func (c *Clock) Wall(stamp int64) time.Time { return c.Or().source.Wall().Add(-c.Since(stamp)) }

// Stepped returns the time by which the wall clock was set forward since the clock was made, below 0 for back.
func (c *Clock) Stepped() time.Duration {
	return time.Duration(c.Or().source.Wall().UnixNano() - c.Now())
}

// Booted returns the time since the machine's boot.
func (c *Clock) Booted() time.Duration { return c.Or().source.Booted() }

// Moment is a point in time by all clocks of a machine.
type Moment struct {
	Wall         int64  // ns since the Unix epoch
	Boot         string // id of the boot, "" if unknown
	Booted       time.Duration
	Synchronised bool
}

// Moment reads all clocks.
func (c *Clock) Moment() Moment {
	c = c.Or()
	return Moment{Wall: c.source.Wall().UnixNano(), Boot: c.source.Boot(), Booted: c.source.Booted(), Synchronised: c.source.Synchronised()}
}

// believable bounds the time for which a node may have been off. A longer gap of the wall clock is taken for a step.
const believable = 30 * 24 * time.Hour

// Since returns the time between an earlier moment and this one, as far as it is certain. Within a boot it is by the time since the boot. Across
// boots only the wall clock remains; it counts if it was synchronised at both moments and the gap is at most 30 days. Otherwise the time is unknown
// and counts as 0, so that a step makes nothing older. The result is never below 0.
func (m Moment) Since(then Moment) time.Duration {
	if m.Boot != "" && m.Boot == then.Boot {
		return max(m.Booted-then.Booted, 0)
	}
	off := time.Duration(m.Wall - then.Wall)
	if !m.Synchronised || !then.Synchronised || off > believable {
		return 0
	}
	return max(off, 0)
}
