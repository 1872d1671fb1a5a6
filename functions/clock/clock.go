// Package clock separates durations from the time of day.
//
// The wall clock of a gateway steps: without a battery it starts years in the past, and NTP, a daylight saving script or an
// operator sets it while the service runs. The difference of two readings of it is therefore no duration. A Clock gives stamps: ns
// since the Unix epoch, as the wall clock had it when the clock was made, plus the time that really went by since. The difference of
// two stamps of one clock is the time between them, whatever the wall clock does; Wall turns a stamp into the time of day that
// people, files and other machines are to see. A Moment is what a file keeps to measure a time across restarts and boots.
//
// time.Time values that come from time.Now and are never stripped of their monotonic part may be subtracted as they are. Use a Clock
// wherever a time is kept as a number, crosses a file, or is to be set by a test.
//
// Everything is safe for concurrent use and never blocks.
package clock

import "time"

// Source is what a clock reads.
type Source interface {
	// Wall is the time of day, which may step.
	Wall() time.Time
	// Running is the time since some moment of this process. It never steps.
	Running() time.Duration
	// Booted is the time since the machine's start, time asleep included. It never steps.
	Booted() time.Duration
	// Boot names this run of the machine, "" where that is unknown.
	Boot() string
	// Synchronised reports whether something keeps the wall clock right at present.
	Synchronised() bool
}

// Clock gives stamps. Make one with New; nil is System.
type Clock struct {
	source Source
	base   int64 // what a stamp is at Running = 0
}

// System is the machine's clock.
var System = New(&machine{start: time.Now()})

// New makes a clock of a source.
func New(source Source) *Clock {
	return &Clock{source: source, base: source.Wall().UnixNano() - int64(source.Running())}
}

// Or is c, or System where c is nil.
func (c *Clock) Or() *Clock {
	if c == nil {
		return System
	}
	return c
}

// Now is the present as a stamp, in ns.
func (c *Clock) Now() int64 {
	c = c.Or()
	return c.base + int64(c.source.Running())
}

// Time is Now as a time.Time, for code that subtracts those.
func (c *Clock) Time() time.Time { return time.Unix(0, c.Now()) }

// Since is the time that went by since a stamp.
func (c *Clock) Since(stamp int64) time.Duration { return time.Duration(c.Now() - stamp) }

// Wall is the time of day of a stamp, by the wall clock as it stands now.
func (c *Clock) Wall(stamp int64) time.Time { return c.Or().source.Wall().Add(-c.Since(stamp)) }

// Stepped is by how much the wall clock was set forward since the clock was made, below 0 for back.
func (c *Clock) Stepped() time.Duration {
	return time.Duration(c.Or().source.Wall().UnixNano() - c.Now())
}

// Booted is the time since the machine's start.
func (c *Clock) Booted() time.Duration { return c.Or().source.Booted() }

// Moment is a point in time by all clocks that a machine has.
type Moment struct {
	Wall         int64  // ns since the Unix epoch
	Boot         string // the run of the machine, "" unknown
	Booted       time.Duration
	Synchronised bool
}

// Moment reads all clocks.
func (c *Clock) Moment() Moment {
	c = c.Or()
	return Moment{Wall: c.source.Wall().UnixNano(), Boot: c.source.Boot(), Booted: c.source.Booted(), Synchronised: c.source.Synchronised()}
}

// believable bounds the time for which a node may have been off. A wall clock that claims more was set.
const believable = 30 * 24 * time.Hour

// Since is the time between an earlier moment and this one, as far as it is certain. Within a boot that is the time since the boot.
// Across boots there is only the wall clock, and it counts where it was synchronised at both moments and claims no more than 30 days;
// else the time in between is unknown and counts as 0, so that nothing grows older by a step. The result is never below 0.
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
