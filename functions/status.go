package functions

import (
	"fmt"
	"maps"
	"runtime"
	"time"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/health"
	"app-offload/functions/host"
	"app-offload/functions/ledger"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/version"
)

// Status gathers everything. It takes some locks for a moment each, and is meant for people and monitors, a few times a second.
func (s *Service) Status() status.Status {
	rules := s.rules.Load()
	var node host.State
	s.host.Read(&node)
	f, health := s.examine()
	node.Link = f.Link
	build, policies := version.Get(), s.feedback.Status()
	policies.Credits = s.teller.status(rules.Model.Credits())
	policies.Governor, policies.Learned.Fleet = s.governor.Status(), s.member.Status()
	return status.Status{
		APIVersion: "v3", Version: build.Version, Commit: build.Commit, NodeName: f.Node, Ready: health.Ready(), NotReady: health.Texts(status.Critical), Health: health,
		Counts: f.Counts, Drops: f.Drops, Policy: rules.For("").String(), Events: f.Events, Spool: spoolStatus(&f.Spool), Undecided: s.parker.Status(), Overload: s.shedder.Status(s.clock.Now()),
		Link: f.Link, Node: node, Export: f.Export, Local: s.local.Counts(), Models: f.Models, Answers: s.desk.Counts(), Results: s.forward.Counts(), Process: s.process(), Policies: policies,
		Configuration: status.ConfigurationStatus{Version: rules.Configuration, Policies: rules.Version(), Problem: f.Configuration},
	}
}

// Health looks at everything that can be wrong. It takes a few locks for a moment each.
func (s *Service) Health() status.Health {
	_, h := s.examine()
	return h
}

// NotReady lists why events are not taken or not cared for; empty is ready. A cloud that is away is no reason.
func (s *Service) NotReady() []string { return s.Health().Texts(status.Critical) }

// examine reads the facts, and derives the health from them. One lock spans both, so that no counter seems to fall.
func (s *Service) examine() (health.Facts, status.Health) {
	s.examining.Lock()
	defer s.examining.Unlock()
	f := s.facts()
	return f, s.health.Look(&f)
}

func (s *Service) facts() health.Facts {
	cfg, problem := s.configuration()
	f := health.Facts{
		Node: cfg.Node, Stopping: s.stopping.Load(), Intake: s.Problem(), Rival: s.Rival(), Counts: s.Counts(), Drops: s.drops.Status(),
		Directory: cfg.Spool.Directory, Spool: s.spool.Stats(), BacklogLimit: cfg.Writable.Policy.BacklogLimit,
		Link: s.exporter.Link(), Export: s.exporter.Stats(), Models: s.local.Stats(), Keys: s.keys.Problem(), KeysBroken: s.keys.Broken(),
		Configuration: problem, Learned: s.feedback.LearnedProblem(), Canary: s.feedback.Canary(),
	}
	f.Events, f.Messages = s.Receiver.Counts()
	f.Events.Returned = s.refused.Load()
	maps.Copy(f.Events.Skipped, s.kinship.Skipped())
	f.Looped, f.LoopDevices = s.kinship.Looped()
	return f
}

func spoolStatus(st *spool.Stats) status.SpoolStatus {
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

// Advise decides for a task that is not here. The decision is noted among the others; its id is the task's.
func (s *Service) Advise(q decide.Question) (decision.Entry, error) {
	if err := q.Check(); err != nil {
		return decision.Entry{}, err
	}
	r := &run{rules: s.rules.Load()}
	s.look(&r.state)
	j := &job{Case: r.rules.Answer(q, &r.state)}
	entry, _ := s.Decision(s.enter(r, j, j.Decision))
	return entry, nil
}

// Decisions are up to n of the latest, newest first, for which keep holds.
func (s *Service) Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry {
	return s.feedback.Decisions(n, keep)
}

// Decision is one of the latest.
func (s *Service) Decision(id uint64) (decision.Entry, bool) { return s.feedback.Get(id) }
