package health

import (
	"time"

	"app-offload/functions/clock"
)

// lately is the period over which symptoms look at counters.
const lately = time.Minute

// memory is the history of the symptoms. It belongs to the Watch.
type memory struct {
	clock    *clock.Clock
	counters map[string]*growth
	steps    clockWatch
	bounded  bool // the disk was full while the spool returned tasks
}

// growth is the growth of one counter within the last minute.
type growth struct {
	steps []step // at least a second apart, oldest first
	last  uint64
	grew  time.Time // zero before the first time
}

type step struct {
	at time.Time
	by uint64
}

// grown records a counter's value under a name, and returns its growth within the last minute. The count before the first call is ignored; a counter
// that restarts counts from 0.
func (m *memory) grown(name string, n uint64) (by uint64) {
	now, g := m.clock.Time(), m.counters[name]
	if g == nil {
		g = &growth{last: n}
		m.counters[name] = g
	}
	if n < g.last {
		g.last = 0
	}
	if n > g.last {
		if last := len(g.steps) - 1; last >= 0 && now.Sub(g.steps[last].at) < time.Second {
			g.steps[last].by += n - g.last
		} else {
			g.steps = append(g.steps, step{now, n - g.last})
		}
		g.last, g.grew = n, now
	}
	for len(g.steps) > 0 && now.Sub(g.steps[0].at) >= lately {
		g.steps = g.steps[1:]
	}
	for _, s := range g.steps {
		by += s.by
	}
	return by
}

// grew returns the last time that grown has seen a counter grow; the zero time if never.
func (m *memory) grew(name string) time.Time {
	if g := m.counters[name]; g != nil {
		return g.grew
	}
	return time.Time{}
}
