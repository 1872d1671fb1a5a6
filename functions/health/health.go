// Package health computes the health of the service from a snapshot of facts, with every reason for a degraded state; page, status, /ready, metrics
// and log all show the result.
//
//	facts.go      Facts, the snapshot
//	symptoms.go   the table of symptoms: one line and one function for each thing that can be wrong
//	growth.go     the memory of the symptoms: the growth of counters
//	health.go     Watch turns facts into a status.Health; Report logs changes
//
// The package calls no other for its facts: the caller collects them and passes them in.
package health

import (
	"slices"
	"time"

	"app-offload/functions/clock"
	"app-offload/functions/say"
	"app-offload/functions/status"
)

// Codes returns the codes of all possible reasons, in alphabetical order.
func Codes() []string {
	codes := []string{}
	for _, s := range symptoms {
		codes = append(codes, s.code)
	}
	slices.Sort(codes)
	return codes
}

// Watch remembers since when each reason holds, and the growth of counters. It is not safe for concurrent use: counters must be passed in the order
// in which they were read, so one lock has to span the reading of the facts and Look.
type Watch struct {
	memory memory
	since  map[string]int64 // stamps
}

// NewWatch returns a watch without history.
func NewWatch(c *clock.Clock) *Watch {
	return &Watch{memory: memory{clock: c, counters: map[string]*growth{}}, since: map[string]int64{}}
}

// Look derives the health from the facts, which it does not change. It must be called at least every second to notice all events within a minute.
func (w *Watch) Look(f *Facts) status.Health {
	c := w.memory.clock
	reasons := []status.Reason{}
	for _, symptom := range symptoms {
		severity, text := symptom.look(f, &w.memory)
		if severity == status.Fine {
			delete(w.since, symptom.code)
			continue
		}
		since, known := w.since[symptom.code]
		if !known {
			since = c.Now()
			w.since[symptom.code] = since
		}
		reasons = append(reasons, status.Reason{Code: symptom.code, Text: text, Since: c.Wall(since), Severity: severity})
	}
	return status.NewHealth(reasons)
}

// Report logs reasons that begin to hold or become more severe, and those that have ended. It is for one goroutine.
type Report struct {
	log   say.Logger
	clock *clock.Clock
	seen  map[string]*sighting
}

// sighting is a reason that holds.
type sighting struct {
	since  int64           // stamp
	logged status.Severity // highest severity logged so far, Fine for none
}

// NewReport returns a report that has logged nothing yet.
func NewReport(c *clock.Clock, log say.Logger) *Report {
	return &Report{log: log, clock: c, seen: map[string]*sighting{}}
}

// shown is how long a reason holds before it is logged: the link, for example, is down for a moment at every start.
const shown = time.Second

// Write logs the changes since the last call.
func (p *Report) Write(h status.Health) {
	for _, r := range h.Reasons {
		s := p.seen[r.Code]
		if s == nil {
			s = &sighting{since: p.clock.Now()}
			p.seen[r.Code] = s
		}
		if r.Severity <= s.logged || p.clock.Since(s.since) < shown {
			continue
		}
		s.logged = r.Severity
		write := p.log.Warnf
		if r.Severity == status.Critical {
			write = p.log.Errorf
		}
		write("health: reason=%s severity=%s state=%s: %s", r.Code, r.Severity, h.State, r.Text)
	}
	for code, s := range p.seen {
		if h.Severity(code) != status.Fine {
			continue
		}
		delete(p.seen, code)
		if s.logged != status.Fine {
			p.log.Infof("health: cleared reason=%s lasted=%v state=%s", code, p.clock.Since(s.since).Round(time.Second), h.State)
		}
	}
}
