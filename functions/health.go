package functions

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/status"
)

// symptom is one thing that can be wrong. look answers how severe it is now and in which words, or Fine. It is called under the
// lock of the health, at least once a second, and must neither block nor ask for the health itself.
type symptom struct {
	code string
	look func(*Service, *memory) (status.Severity, string)
}

// HealthCodes are the codes of all reasons there can be, in alphabetical order.
func HealthCodes() []string {
	codes := []string{}
	for _, s := range symptoms() {
		codes = append(codes, s.code)
	}
	slices.Sort(codes)
	return codes
}

// health remembers since when each reason holds. It is safe for concurrent use.
type health struct {
	mu     sync.Mutex
	memory memory
	since  map[string]int64 // stamps

	logged map[string]time.Time // since when those hold that were logged; of the one goroutine that reports
}

func newHealthMemory(c *clock.Clock) *health {
	return &health{memory: memory{counters: map[string]*growth{}, clock: c}, since: map[string]int64{}, logged: map[string]time.Time{}}
}

// Health looks at everything that can be wrong. It takes a few locks for a moment each.
func (s *Service) Health() status.Health {
	h := s.health
	h.mu.Lock()
	defer h.mu.Unlock()
	clock := h.memory.clock
	reasons := []status.Reason{}
	for _, symptom := range symptoms() {
		severity, text := symptom.look(s, &h.memory)
		if severity == status.Fine {
			delete(h.since, symptom.code)
			continue
		}
		since, known := h.since[symptom.code]
		if !known {
			since = clock.Now()
			h.since[symptom.code] = since
		}
		reasons = append(reasons, status.Reason{Code: symptom.code, Text: text, Since: clock.Wall(since), Severity: severity})
	}
	return status.NewHealth(reasons)
}

// reportHealth logs what has become wrong since the last call, and what is over. It is for one goroutine.
func (s *Service) reportHealth() {
	h, logged := s.Health(), s.health.logged
	for _, r := range h.Reasons {
		if _, said := logged[r.Code]; said || s.health.held(r.Code) < time.Second { // such as the link at every start
			continue
		}
		logged[r.Code] = time.Now()
		write := s.log.Warnf
		if r.Severity == status.Critical {
			write = s.log.Errorf
		}
		write("health: reason=%s severity=%s state=%s: %s", r.Code, r.Severity, h.State, r.Text)
	}
	for code, since := range logged {
		if h.Severity(code) == status.Fine {
			delete(logged, code)
			s.log.Infof("health: over reason=%s lasted=%v state=%s", code, time.Since(since).Round(time.Second), h.State)
		}
	}
}

// held is for how long a reason has held.
func (h *health) held(code string) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.memory.clock.Since(h.since[code])
}

// NotReady lists why events are not taken or not cared for; empty is ready. A cloud that is away is no reason.
func (s *Service) NotReady() []string { return s.Health().Texts(status.Critical) }

// lately is how far back a symptom looks at what is counted.
const lately = time.Minute

// memory is what symptoms look back on: how counters have grown. It belongs to the health, under its lock.
type memory struct {
	clock    *clock.Clock
	counters map[string]*growth
	steps    clockWatch
}

// growth is what was seen of one counter within the last minute.
type growth struct {
	steps []step // at least a second apart, oldest first
	last  uint64
	grew  time.Time // zero before the first time
}

type step struct {
	at time.Time
	by uint64
}

// grown notes a counter's value, under a name of its own, and says by how much it has grown within the last minute. What was counted
// before the first look is not news; a counter that begins anew counts from 0.
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

// grew is when a counter last did, as grown has seen it; the zero time if never.
func (m *memory) grew(name string) time.Time {
	if g := m.counters[name]; g != nil {
		return g.grew
	}
	return time.Time{}
}

// counted writes counts by a word, the largest first: "malformed 12, too large 3".
func counted[N int64 | uint64](counts map[string]N) string {
	var parts []string
	for _, word := range slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	}) {
		if counts[word] > 0 {
			parts = append(parts, fmt.Sprintf("%s %d", status.Spelled(word), counts[word]))
		}
	}
	return strings.Join(parts, ", ")
}

func summed[N int64 | uint64](counts map[string]N) (n uint64) {
	for _, c := range counts {
		n += uint64(c) // counts are not negative
	}
	return n
}
