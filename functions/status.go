package functions

import (
	"fmt"
	"runtime"
	"time"

	"app-offload/functions/export"
	"app-offload/functions/host"
	"app-offload/functions/intake"
	"app-offload/functions/local"
	"app-offload/functions/policy"
	"app-offload/functions/spool"
	"app-offload/functions/version"
)

// Status is the service at a glance, as the API shows it. Times are in seconds, sizes in bytes.
type Status struct {
	APIVersion string      `json:"apiVersion"`
	Version    string      `json:"version"` // of the program
	Commit     string      `json:"commit"`  // of its source
	NodeName   string      `json:"nodeName"`
	Ready      bool        `json:"ready"`
	NotReady   []string    `json:"notReady,omitempty"` // the critical reasons of Health
	Health     Health      `json:"health"`
	Counts     Counts      `json:"counts"`
	Drops      DropStatus  `json:"drops"`
	Policy     string      `json:"policy"`
	Events     EventCounts `json:"events"`
	Spool      SpoolStatus `json:"spool"`

	Undecided UndecidedStatus `json:"undecided"`

	Link     host.Link    `json:"link"`
	Node     host.State   `json:"node"`
	Export   export.Stats `json:"export"`
	Local    local.Counts `json:"local"`
	Process  Process      `json:"process"`
	Policies PolicyStatus `json:"policies"`

	Configuration ConfigurationStatus `json:"configuration"`
}

// EventCounts says how many events came in, and what became of those that were not taken.
type EventCounts struct {
	Received    uint64            `json:"received"`    // events handed to the pipeline: what was skipped below counts, what was quarantined or repeated does not
	Unsafe      uint64            `json:"unsafe"`      // messages at QoS 0, which no acknowledgement protects
	Refused     map[string]uint64 `json:"refused"`     // by the gate: too many events, too many bytes, or the stop
	Returned    int64             `json:"returned"`    // tasks given back because nothing here could take them
	Unheard     int64             `json:"unheard"`     // messages that the stop left no time for
	Quarantined map[string]uint64 `json:"quarantined"` // what was no event, by reason

	// Skipped counts the messages that were not worked on, by reason. Results of app-offload services: own, result, hops, echo, loop. On an MQTT bus
	// also retained (the broker's copy of an earlier event) and unmatched (on a topic that is no longer configured).
	Skipped  map[string]uint64 `json:"skipped"`
	Repeated uint64            `json:"repeated"` // events that had been handed on before, with the same id and content; MQTT only
	SameID   uint64            `json:"sameId"`   // events with the id of an earlier one and different content, processed all the same; MQTT only
}

// SpoolStatus is the spool in one line: "spool n of m bytes, oldest 3 h".
type SpoolStatus struct {
	Epoch     string  `json:"epoch"`
	Tasks     int64   `json:"tasks"`
	Bytes     int64   `json:"bytes"`
	Limit     int64   `json:"limit"`     // of Bytes; the rest of the quota is room in which files are rewritten
	Fill      float64 `json:"fill"`      // the share of Limit in use, 1 while tasks are refused or dropped for want of room
	Quota     int64   `json:"quota"`     // of all files
	OldestAge float64 `json:"oldestAge"` // s
	Line      string  `json:"line"`
	Damaged   int64   `json:"damaged"`
	Problem   string  `json:"problem,omitempty"`

	Dropped map[string]map[string]uint64 `json:"dropped"` // what the spool gave up, by class and reason
}

// Process is this process as the system sees it.
type Process struct {
	RSS        int64   `json:"rss"` // bytes
	Goroutines int     `json:"goroutines"`
	Uptime     float64 `json:"uptime"` // s
}

// ConfigurationStatus says which configuration is in force.
type ConfigurationStatus struct {
	Version  string `json:"version"`           // changes with every key that may change while the service runs
	Policies string `json:"policies"`          // changes with those of the policies alone; decisions and canary name it
	Problem  string `json:"problem,omitempty"` // why the last change was refused
}

// Status gathers everything. It takes some locks for a moment each, and is meant for people and monitors, a few times a second.
func (s *Service) Status() Status {
	rules := s.rules.Load()
	var node host.State
	s.host.Read(&node)
	link := s.exporter.Link()
	node.Link = link
	health, build := s.Health(), version.Get()
	return Status{
		APIVersion: "v3", Version: build.Version, Commit: build.Commit, NodeName: s.cfg.Node, Ready: health.Ready(), NotReady: health.Texts(Critical), Health: health,
		Counts: s.Counts(), Drops: s.drops.status(), Policy: rules.decider.For("").String(), Events: s.events(), Spool: s.spoolStatus(), Undecided: s.room.status(),
		Link: link, Node: node, Export: s.exporter.Stats(), Local: s.local.Counts(), Process: s.process(), Policies: s.policies(rules),
		Configuration: ConfigurationStatus{Version: rules.version, Policies: rules.decider.Version(), Problem: s.configurationProblem()},
	}
}

func (s *Service) events() EventCounts {
	g := s.gate.Counts()
	received, skipped := s.parsed.Load(), s.kinship.skipped()
	var c intake.SubscriberCounts
	if sub := s.subscriber.Load(); sub != nil {
		c = sub.Counts()
		received += c.Submitted
		skipped["retained"], skipped["unmatched"] = c.Retained, c.Unmatched
	}
	return EventCounts{
		Received: received, Unsafe: c.Unsafe,
		Refused:  map[string]uint64{"events": g.RefusedEvents, "bytes": g.RefusedBytes, "stopping": g.RefusedClosed},
		Returned: s.refused.Load(), Unheard: s.unheard.Load(), Quarantined: s.quarantine.Counts(),
		Skipped: skipped, Repeated: c.Duplicates, SameID: c.SameID,
	}
}

func (s *Service) spoolStatus() SpoolStatus {
	st := s.spool.Stats()
	return SpoolStatus{
		Epoch: st.Epoch, Tasks: int64(st.Held), Bytes: st.HeldBytes, Limit: st.Limit, Fill: st.Fill, Quota: st.Quota, OldestAge: st.OldestAge.Seconds(), // a count of records
		Line: fmt.Sprintf("spool %.0f %% full, %d of %d MiB, %d tasks, oldest %v", st.Fill*100, st.HeldBytes>>20, st.Limit>>20, st.Held,
			st.OldestAge.Round(time.Second)),
		Damaged: int64(st.Quarantined), Problem: st.Problem,
		Dropped: droppedByClass(st.Classes),
	}
}

// droppedByClass leaves out the classes of which nothing was given up, and what was done here after all.
func droppedByClass(classes map[string]spool.ClassStats) map[string]map[string]uint64 {
	dropped := map[string]map[string]uint64{}
	for name, c := range classes {
		if delete(c.Dropped, spool.ReasonHere); len(c.Dropped) > 0 {
			dropped[name] = c.Dropped
		}
	}
	return dropped
}

func (s *Service) process() Process {
	return Process{
		RSS: host.ResidentBytes(), Goroutines: runtime.NumGoroutine(), Uptime: time.Since(s.started).Seconds(),
	}
}

// configurationProblem says why the last change was refused, "" if it was not.
func (s *Service) configurationProblem() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem
}

// Decisions are up to n of the latest, newest first, for which keep holds.
func (s *Service) Decisions(n int, keep func(*policy.Entry) bool) []policy.Entry {
	found := s.ring.Last(n, keep)
	for i := range found {
		found[i] = s.asShown(found[i])
	}
	return found
}

// Decision is one of the latest.
func (s *Service) Decision(id uint64) (policy.Entry, bool) { return shown{s.Pipeline}.Get(id) }

// shown is the latest decisions as others see them.
type shown struct{ *Pipeline }

func (p shown) Get(id uint64) (policy.Entry, bool) {
	e, ok := p.ring.Get(id)
	return p.asShown(e), ok
}

// asShown gives a decision the time of day for its stamps, by the wall clock as it stands now.
func (p *Pipeline) asShown(e policy.Entry) policy.Entry {
	stepped := int64(p.clock.Stepped())
	e.Time += stepped
	e.State.Time += stepped
	return e
}

// Quarantined is what was received lately and was no event.
func (s *Service) Quarantined() []intake.Rejected { return s.quarantine.List() }
