package functions

import (
	"fmt"
	"strings"
	"time"

	"app-offload/functions/status"
)

// symptoms is everything that can be wrong, the more urgent first among those that are equally severe. One more is one line here and
// one function that looks; page, status, /ready, metrics and log have it then.
func symptoms() []symptom {
	return []symptom{
		{"stopping", stopping},
		{"intake", intakeDisconnected},
		{"busRival", busRival},
		{"spool", spoolFails},
		{"diskFull", diskFull},
		{"spoolFull", spoolFull},
		{"refused", refusedEvents},
		{"account", accountOff},
		{"dropped", droppedTasks},
		{"keys", keysFail},
		{"quarantine", quarantined},
		{"configuration", configurationRefused},
		{"clock", clockStepped},
		{"linkDown", linkDown},
		{"consumerSilent", consumerSilent},
		{"held", recordsHeld},
		{"statements", statementsRefused},
		{"copied", spoolCopied},
		{"models", modelsFail},
		{"drift", modelsDrift},
		{"modelCanary", modelRolledBack},
		{"learned", learnedNotKept},
		{"canary", canaryRolledBack},
		{"resultLoop", resultLoop},
		{"otherResults", otherResults},
		{"unsafe", unsafeEvents},
	}
}

func stopping(s *Service, _ *memory) (status.Severity, string) {
	return when(s.stopping.Load(), status.Critical, "the service is stopping")
}

// when is a reason that holds or does not.
func when(holds bool, severity status.Severity, format string, args ...any) (status.Severity, string) {
	if !holds {
		return status.Fine, ""
	}
	return severity, fmt.Sprintf(format, args...)
}

func intakeDisconnected(s *Service, _ *memory) (status.Severity, string) {
	f := s.intakeProblem.Load()
	if f == nil {
		return status.Fine, ""
	}
	problem := (*f)()
	return when(problem != "", status.Critical, "intake: %s", problem)
}

// busRival holds while another client takes the connection to the bus over, again and again.
func busRival(s *Service, _ *memory) (status.Severity, string) {
	sub := s.subscriber.Load()
	if sub == nil {
		return status.Fine, ""
	}
	text := sub.Rival()
	return when(text != "", status.Warning, "%s", text)
}

func spoolFails(s *Service, _ *memory) (status.Severity, string) {
	problem := s.spool.Stats().Problem
	return when(problem != "", status.Critical, "spool: %s", problem)
}

// diskFull holds from a commit that failed until one that did not: an attempt is the only proof there is.
func diskFull(s *Service, m *memory) (status.Severity, string) {
	st := s.spool.Stats()
	m.grown("spool failed", st.Failed)
	m.grown("spool disk full", st.DiskFull)
	m.grown("spool appended", st.Appended)
	full, fails := storingFails(m)
	if !fails {
		return status.Fine, ""
	}
	if full {
		return status.Critical, fmt.Sprintf("the disk is full: the spool in %s cannot store, %d of its %d MiB are used; make room there, or lower Offload.Spool.QuotaMiB",
			s.cfg.Spool.Directory, st.DiskBytes>>20, st.Quota>>20)
	}
	return status.Critical, fmt.Sprintf("the spool in %s cannot store: its last commit failed; the log says why", s.cfg.Spool.Directory)
}

// storingFails reports whether the last attempt to store failed, and whether for want of space.
func storingFails(m *memory) (full, fails bool) {
	stored, failed, noSpace := m.grew("spool appended"), m.grew("spool failed"), m.grew("spool disk full")
	full = !noSpace.IsZero() && !noSpace.Before(stored)
	return full, full || !failed.IsZero() && failed.After(stored)
}

// nearlyFull is the share of what the spool can hold from which on it is said to be full.
const nearlyFull = 0.95

// halfEmpty is the share below which a spool that was full takes events again.
const halfEmpty = 0.5

// spoolFull is critical while tasks are given back since the spool is full, until half of it is free again. It is a warning above the share
// from which on work is kept local. What the spool refuses and a class drops or processes here is not given back.
func spoolFull(s *Service, m *memory) (status.Severity, string) {
	st := s.spool.Stats()
	refused := m.grown("spool refused", st.Refused)
	returned := m.grown("tasks returned", uint64(s.events().Returned))
	share := st.Fill
	text := fmt.Sprintf("the spool is %.0f %% full with %d tasks", share*100, st.Held)
	limit := s.Config().Writable.Policy.BacklogLimit
	switch {
	case refused > 0 && returned > 0 && share < halfEmpty:
		return status.Warning, fmt.Sprintf("%s and has room again; within the last minute it was full, and %d tasks were given back to the MessageBus", text, returned)
	case refused > 0 && returned > 0:
		return status.Critical, fmt.Sprintf("%s and refused %d tasks within the last minute: their events are given back to the MessageBus; raise Offload.Spool.QuotaMiB or mend the link", text, returned)
	case s.exporter.Link().BacklogShare > limit:
		return status.Warning, fmt.Sprintf("%s, above the limit of %.0f %%: work is done locally", text, limit*100)
	}
	return when(share >= nearlyFull, status.Warning, "%s; what comes when it is full is dropped or refused, as Offload.Spool says for its class", text)
}

// refusedEvents is critical where nothing else was accepted in the same time.
func refusedEvents(s *Service, m *memory) (status.Severity, string) {
	e := s.events()
	refused := m.grown("events refused", summed(e.Refused))
	returned := m.grown("tasks returned", uint64(e.Returned))
	accepted := m.grown("tasks accepted", uint64(s.Counts().Accepted))
	if refused+returned == 0 || s.stopping.Load() {
		return status.Fine, ""
	}
	severity := status.Warning
	if accepted == 0 {
		severity = status.Critical
	}
	text := ""
	if refused > 0 {
		text = fmt.Sprintf("%d events were refused within the last minute (since the start: %s); see Offload.Intake.MaxEvents and MaxMiB", refused, counted(e.Refused))
	}
	if returned > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%d tasks were given back to the MessageBus within the last minute, as neither spool nor local workers could take them", returned)
	}
	return severity, text
}

func accountOff(s *Service, _ *memory) (status.Severity, string) {
	balance := s.Counts().Balance
	return when(balance != 0, status.Warning, "the account does not add up: %d tasks are not explained. This is a defect; please report it with the output of `offloadctl status -json`", balance)
}

// droppedTasks holds until somebody has acknowledged them.
func droppedTasks(s *Service, _ *memory) (status.Severity, string) {
	st := s.drops.Status()
	if st.Unacknowledged == 0 {
		return status.Fine, ""
	}
	var parts []string
	for _, d := range st.List {
		if d.Unacknowledged > 0 {
			parts = append(parts, d.String())
		}
	}
	return status.Warning, fmt.Sprintf("%d tasks were dropped: %s. Acknowledge them on the page, by `offloadctl status -acknowledge` or by POST /api/v3/offload/drops/acknowledge",
		st.Unacknowledged, strings.Join(parts, "; "))
}

func keysFail(s *Service, _ *memory) (status.Severity, string) {
	problem := s.keys.Problem()
	severity := status.Warning
	if s.keys.Broken() {
		severity = status.Critical
	}
	return when(problem != "", severity, "keys: %s", problem)
}

// mostQuarantined is the share of the messages of the last minute above which their quarantine is no longer a note.
const mostQuarantined = 0.5

// grownEvents is how many messages of the last minute were events. The subscriber counts those alone, the gate everything it lets in.
func (s *Service) grownEvents(m *memory, aside uint64) uint64 {
	if sub := s.subscriber.Load(); sub != nil {
		c := sub.Counts()
		return m.grown("events submitted", c.Submitted+c.Duplicates)
	}
	entered := m.grown("events entered", s.gate.Counts().Entered)
	return entered - min(entered, aside)
}

func quarantined(s *Service, m *memory) (status.Severity, string) {
	counts := s.quarantine.Counts()
	aside := m.grown("quarantined", summed(counts))
	taken := s.grownEvents(m, aside)
	if aside == 0 {
		return status.Fine, ""
	}
	text := fmt.Sprintf("%d of %d messages within the last minute were no events and were quarantined (since the start: %s); GET /api/v3/offload/quarantine shows them",
		aside, aside+taken, counted(counts))
	if float64(aside) > mostQuarantined*float64(aside+taken) {
		return status.Warning, text
	}
	return status.Note, text
}

func configurationRefused(s *Service, _ *memory) (status.Severity, string) {
	problem := s.configurationProblem()
	return when(problem != "", status.Warning, "%s", problem)
}

func linkDown(s *Service, _ *memory) (status.Severity, string) {
	return when(!s.exporter.Link().Up, status.Warning, "the link to the cloud is down: work with a deadline is done locally, the rest waits in the spool")
}

func consumerSilent(s *Service, _ *memory) (status.Severity, string) {
	st := s.exporter.Stats()
	return when(st.ReceiptsSilent, status.Warning, "%s", st.Silence)
}

func learnedNotKept(s *Service, _ *memory) (status.Severity, string) {
	problem := s.feedback.LearnedProblem()
	return when(problem != "", status.Warning, "learned state is not saved: %s", problem)
}

func canaryRolledBack(s *Service, _ *memory) (status.Severity, string) {
	c := s.feedback.Canary()
	if c == nil || c.State == "running" {
		return status.Fine, ""
	}
	return status.Warning, fmt.Sprintf("the canary %s was rolled back: %s", c.Policy, c.Reason)
}

// otherResults says that another app-offload is on this bus, whose results are counted and not computed on.
func otherResults(s *Service, m *memory) (status.Severity, string) {
	counts := s.kinship.Skipped()
	delete(counts, "own")
	delete(counts, "loop")
	n := m.grown("results of others", summed(counts))
	return when(n > 0, status.Note, "another app-offload or rule engine is on this bus: %d of its results within the last minute were not computed on; a class takes them by MatchResultsOf", n)
}

func unsafeEvents(s *Service, _ *memory) (status.Severity, string) {
	n := s.events().Unsafe
	return when(n > 0, status.Note, "%d events came at QoS 0, which no acknowledgement protects: a crash or a stop loses those under way; set MessageBus.Optional.Qos to 1 for all services", n)
}

// stepped is the jump of the wall clock from which on it is a step: less is what a time service does to a clock that runs.
const stepped = 10 * time.Second

// stepShown is how long a step is a reason.
const stepShown = 10 * time.Minute

// clockWatch notices that the wall clock was set. Its zero value has not looked yet.
type clockWatch struct {
	looked  bool
	stepped time.Duration // since the clock was made, at the last look
	by      time.Duration // of the last step
	at      int64         // stamp of when it was seen
	seen    bool          // there was one
}

func clockStepped(_ *Service, m *memory) (status.Severity, string) {
	c, all := &m.steps, m.clock.Stepped()
	if by := all - c.stepped; c.looked && by.Abs() >= stepped { // a machine that slept has made a step, too
		c.by, c.at, c.seen = by, m.clock.Now(), true
	}
	c.looked, c.stepped = true, all
	return when(c.seen && m.clock.Since(c.at) < stepShown, status.Warning, "the clock of this machine was set by %v: times of day before and after do not compare", c.by.Round(time.Second))
}

// resultLoop names the device that feeds results back.
func resultLoop(s *Service, m *memory) (status.Severity, string) {
	events, devices := s.kinship.Looped()
	n := m.grown("loops", events)
	return when(n > 0, status.Warning, "results are fed back to this service by %s: %d of its events within the last minute were not computed on; publish them on a topic to which no app-offload subscribes", devices, n)
}
