package functions

import (
	"fmt"
	"runtime"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/intake"
	"app-offload/functions/ledger"
	"app-offload/functions/status"
	"app-offload/functions/version"
)

// Status gathers everything. It takes some locks for a moment each, and is meant for people and monitors, a few times a second.
func (s *Service) Status() status.Status {
	rules := s.rules.Load()
	var node host.State
	s.host.Read(&node)
	link := s.exporter.Link()
	node.Link = link
	health, build, policies := s.Health(), version.Get(), s.feedback.Status()
	policies.Governor = s.governor.Status()
	return status.Status{
		APIVersion: "v3", Version: build.Version, Commit: build.Commit, NodeName: s.cfg.Node, Ready: health.Ready(), NotReady: health.Texts(status.Critical), Health: health,
		Counts: s.Counts(), Drops: s.drops.Status(), Policy: rules.For("").String(), Events: s.events(), Spool: s.spoolStatus(), Undecided: s.parker.Status(),
		Link: link, Node: node, Export: s.exporter.Stats(), Local: s.local.Counts(), Models: s.local.Stats(), Answers: s.desk.Counts(), Results: s.forward.Counts(), Process: s.process(), Policies: policies,
		Configuration: status.ConfigurationStatus{Version: rules.Configuration, Policies: rules.Version(), Problem: s.configurationProblem()},
	}
}

func (s *Service) events() status.EventCounts {
	g := s.gate.Counts()
	received, skipped := s.parsed.Load(), s.kinship.Skipped()
	var c intake.SubscriberCounts
	if sub := s.subscriber.Load(); sub != nil {
		c = sub.Counts()
		received += c.Submitted
		skipped["retained"], skipped["unmatched"] = c.Retained, c.Unmatched
	}
	return status.EventCounts{
		Received: received, Unsafe: c.Unsafe,
		Refused:  map[string]uint64{"events": g.RefusedEvents, "bytes": g.RefusedBytes, "stopping": g.RefusedClosed},
		Returned: s.refused.Load(), Unheard: s.unheard.Load(), Quarantined: s.quarantine.Counts(),
		Skipped: skipped, Repeated: c.Duplicates, SameID: c.SameID,
	}
}

func (s *Service) spoolStatus() status.SpoolStatus {
	st := s.spool.Stats()
	return status.SpoolStatus{
		Epoch: st.Epoch, Tasks: int64(st.Held), Bytes: st.HeldBytes, Limit: st.Limit, Fill: st.Fill, Quota: st.Quota, OldestAge: st.OldestAge.Seconds(), // a count of records
		Line: fmt.Sprintf("spool %.0f %% full, %d of %d MiB, %d tasks, oldest %v", st.Fill*100, st.HeldBytes>>20, st.Limit>>20, st.Held,
			st.OldestAge.Round(time.Second)),
		Damaged: int64(st.Quarantined), Problem: st.Problem,
		Dropped: ledger.DroppedByClass(st.Classes),
	}
}

func (s *Service) process() status.Process {
	return status.Process{
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
func (s *Service) Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry {
	return s.feedback.Decisions(n, keep)
}

// Decision is one of the latest.
func (s *Service) Decision(id uint64) (decision.Entry, bool) { return s.feedback.Get(id) }

// Quarantined is what was received lately and was no event.
func (s *Service) Quarantined() []intake.Rejected { return s.quarantine.List() }
