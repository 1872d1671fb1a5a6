package health

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"app-offload/functions/infer"
	"app-offload/functions/status"
)

// symptom is one thing that can be wrong. look returns its current severity and a text, or Fine. It must not block.
type symptom struct {
	code string
	look func(*Facts, *memory) (status.Severity, string)
}

// symptoms is the list of all symptoms, by urgency among those of equal severity. A new one is one line and one function; page, status, /ready,
// metrics and log then show it.
var symptoms = []symptom{
	{"stopping", func(f *Facts, _ *memory) (status.Severity, string) {
		return when(f.Stopping, status.Critical, "the service is stopping")
	}},
	{"intake", problem(status.Critical, "intake: ", func(f *Facts) string { return f.Intake })},
	{"busRival", problem(status.Warning, "", func(f *Facts) string { return f.Rival })},
	{"spool", problem(status.Critical, "spool: ", func(f *Facts) string { return f.Spool.Problem })},
	{"diskFull", diskFull},
	{"spoolFull", spoolFull},
	{"refused", refusedEvents},
	{"account", accountOff},
	{"dropped", droppedTasks},
	{"keys", keysFail},
	{"quarantine", quarantined},
	{"configuration", problem(status.Warning, "", func(f *Facts) string { return f.Configuration })},
	{"clock", clockStepped},
	{"linkDown", linkDown},
	{"consumerSilent", consumerSilent},
	{"held", recordsHeld},
	{"statements", statementsRefused},
	{"copied", spoolCopied},
	{"models", modelsFail},
	{"drift", modelsDrift},
	{"modelCanary", modelRolledBack},
	{"learned", problem(status.Warning, "learned state is not saved: ", func(f *Facts) string { return f.Learned })},
	{"canary", canaryRolledBack},
	{"resultLoop", resultLoop},
	{"otherResults", otherResults},
	{"unsafe", unsafeEvents},
}

// problem returns a look function for a part of the service that reports its problem as text.
func problem(severity status.Severity, prefix string, of func(*Facts) string) func(*Facts, *memory) (status.Severity, string) {
	return func(f *Facts, _ *memory) (status.Severity, string) {
		text := of(f)
		return when(text != "", severity, "%s%s", prefix, text)
	}
}

// when returns the severity and the text if the condition holds, and Fine otherwise.
func when(holds bool, severity status.Severity, format string, args ...any) (status.Severity, string) {
	if !holds {
		return status.Fine, ""
	}
	return severity, fmt.Sprintf(format, args...)
}

// diskFull holds from a failed commit until a successful one: an attempt is the only proof there is.
func diskFull(f *Facts, m *memory) (status.Severity, string) {
	st := &f.Spool
	m.grown("spool failed", st.Failed)
	m.grown("spool disk full", st.DiskFull)
	m.grown("spool appended", st.Appended)
	full, fails := storingFails(m)
	if !fails {
		return status.Fine, ""
	}
	if full {
		return status.Critical, fmt.Sprintf("the disk is full: the spool in %s cannot store, %d of its %d MiB are used; make room there, or lower Offload.Spool.QuotaMiB",
			f.Directory, st.DiskBytes>>20, st.Quota>>20)
	}
	return status.Critical, fmt.Sprintf("the spool in %s cannot store: its last commit failed; see the log", f.Directory)
}

// storingFails reports whether the last attempt to store failed, and whether for lack of space.
func storingFails(m *memory) (full, fails bool) {
	stored, failed, noSpace := m.grew("spool appended"), m.grew("spool failed"), m.grew("spool disk full")
	full = !noSpace.IsZero() && !noSpace.Before(stored)
	return full, full || failed.After(stored)
}

// nearlyFull is the share of the spool's capacity from which the spool counts as full.
const nearlyFull = 0.95

// halfEmpty is the share below which a full spool accepts events again.
const halfEmpty = 0.5

// spoolFull is critical while tasks are returned because the spool is full, until half of it is free again. It is a warning above the share from
// which work is kept local. A task that the spool refuses and a class drops or processes locally is not returned.
func spoolFull(f *Facts, m *memory) (status.Severity, string) {
	st := &f.Spool
	refused := m.grown("spool refused", st.Refused)
	returned := m.grown("tasks returned", uint64(f.Events.Returned))
	share := st.Fill
	text := fmt.Sprintf("the spool is %.0f %% full with %s", share*100, status.Several(st.Held, "task"))
	limit := f.BacklogLimit
	m.bounded = refused > 0 && returned > 0 && (m.bounded || m.grown("spool disk full", st.DiskFull) > 0)
	switch {
	case refused > 0 && returned > 0 && share < halfEmpty:
		return status.Warning, fmt.Sprintf("%s and has room again; within the last minute it was full and returned %s to the MessageBus", text, status.Several(returned, "task"))
	case refused > 0 && returned > 0:
		advice := "raise Offload.Spool.QuotaMiB or fix the link"
		if m.bounded {
			advice = fmt.Sprintf("the disk is full before the quota of %d MiB is reached: make room in %s, or fix the link", st.Quota>>20, f.Directory)
		}
		return status.Critical, fmt.Sprintf("%s and returned %s to the MessageBus within the last minute; %s", text, status.Several(returned, "task"), advice)
	case f.Link.BacklogShare > limit:
		return status.Warning, fmt.Sprintf("%s, above the limit of %.0f %%: tasks are processed locally", text, limit*100)
	}
	return when(share >= nearlyFull, status.Warning, "%s; when it is full, tasks are dropped or refused according to OnFull of their class", text)
}

// refusedEvents is critical if no event was accepted in the same time.
func refusedEvents(f *Facts, m *memory) (status.Severity, string) {
	e := &f.Events
	refused := m.grown("events refused", status.Sum(e.Refused))
	returned := m.grown("tasks returned", uint64(e.Returned))
	accepted := m.grown("tasks accepted", uint64(f.Counts.Accepted))
	if refused+returned == 0 || f.Stopping {
		return status.Fine, ""
	}
	severity := status.Warning
	if accepted == 0 {
		severity = status.Critical
	}
	text := ""
	if refused > 0 {
		text = fmt.Sprintf("%s refused within the last minute (since the start: %s); see Offload.Intake.MaxEvents and MaxMiB", status.Several(refused, "event"), counted(e.Refused))
	}
	if returned > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("%s returned to the MessageBus within the last minute, as neither spool nor local workers had room", status.Several(returned, "task"))
	}
	return severity, text
}

func accountOff(f *Facts, _ *memory) (status.Severity, string) {
	balance := f.Counts.Balance
	return when(balance != 0, status.Warning, "the account does not add up: %s unexplained. This is a defect; please report it with the output of `offloadctl status -json`", status.Several(balance, "task"))
}

// droppedTasks holds until the drops are acknowledged.
func droppedTasks(f *Facts, _ *memory) (status.Severity, string) {
	st := &f.Drops
	if st.Unacknowledged == 0 {
		return status.Fine, ""
	}
	var parts []string
	for _, d := range st.List {
		if d.Unacknowledged > 0 {
			parts = append(parts, d.String())
		}
	}
	return status.Warning, fmt.Sprintf("%s dropped: %s. Acknowledge them on the page, by `offloadctl status -acknowledge` or by POST /api/v3/offload/drops/acknowledge",
		status.Several(st.Unacknowledged, "task"), strings.Join(parts, "; "))
}

func keysFail(f *Facts, _ *memory) (status.Severity, string) {
	severity := status.Warning
	if f.KeysBroken {
		severity = status.Critical
	}
	return when(f.Keys != "", severity, "keys: %s", f.Keys)
}

// mostQuarantined is the share of the messages of the last minute above which their quarantine is a warning instead of a note.
const mostQuarantined = 0.5

func quarantined(f *Facts, m *memory) (status.Severity, string) {
	counts := f.Events.Quarantined
	rejected := m.grown("quarantined", status.Sum(counts))
	messages := max(m.grown("messages", f.Messages), rejected)
	if rejected == 0 {
		return status.Fine, ""
	}
	text := fmt.Sprintf("%d of %s within the last minute quarantined as invalid events (since the start: %s); GET /api/v3/offload/quarantine shows them",
		rejected, status.Several(messages, "message"), counted(counts))
	if float64(rejected) > mostQuarantined*float64(messages) {
		return status.Warning, text
	}
	return status.Note, text
}

func linkDown(f *Facts, _ *memory) (status.Severity, string) {
	why := ""
	if f.Export.Problem != "" {
		why = " (" + f.Export.Problem + ")"
	}
	return when(!f.Link.Up, status.Warning, "the link to the cloud is down%s: tasks with a deadline are processed locally, the others wait in the spool", why)
}

func consumerSilent(f *Facts, _ *memory) (status.Severity, string) {
	st := &f.Export
	return when(st.ReceiptsSilent, status.Warning, "%s", st.Silence)
}

func canaryRolledBack(f *Facts, _ *memory) (status.Severity, string) {
	c := f.Canary
	if c == nil || c.State == "running" {
		return status.Fine, ""
	}
	return status.Warning, fmt.Sprintf("the canary %s was rolled back: %s", c.Policy, c.Reason)
}

// otherResults notes that another app-offload is on this bus, whose results are counted and skipped.
func otherResults(f *Facts, m *memory) (status.Severity, string) {
	counts := maps.Clone(f.Events.Skipped)
	maps.DeleteFunc(counts, func(why string, _ uint64) bool {
		return why == "own" || why == "loop" || why == "retained" || why == "unmatched"
	})
	n := m.grown("results of others", status.Sum(counts))
	return when(n > 0, status.Note, "another app-offload or rule engine is on this bus: %s within the last minute skipped; a class takes them by MatchResultsOf", status.Several(n, "result"))
}

func unsafeEvents(f *Facts, _ *memory) (status.Severity, string) {
	n := f.Events.Unsafe
	return when(n > 0, status.Note, "%s received at QoS 0, which no acknowledgement protects: a crash or a stop loses those in progress; set MessageBus.Optional.Qos to 1 for all services", status.Several(n, "event"))
}

// stepped is the least jump of the wall clock that counts as a step: time services make smaller corrections to a running clock.
const stepped = 10 * time.Second

// stepShown is how long a step is shown.
const stepShown = 10 * time.Minute

// clockWatch detects steps of the wall clock. Its zero value has no observation yet.
type clockWatch struct {
	looked  bool
	stepped time.Duration // since the clock was made, at the last observation
	by      time.Duration // of the last step, 0 for none
	at      int64         // stamp of its detection
}

func clockStepped(_ *Facts, m *memory) (status.Severity, string) {
	c, all := &m.steps, m.clock.Stepped()
	if by := all - c.stepped; c.looked && by.Abs() >= stepped { // a suspended machine has made a step, too
		c.by, c.at = by, m.clock.Now()
	}
	c.looked, c.stepped = true, all
	return when(c.by != 0 && m.clock.Since(c.at) < stepShown, status.Warning, "the clock of this machine was set by %v: times of day before and after are not comparable", c.by.Round(time.Second))
}

// resultLoop names the device that feeds results back.
func resultLoop(f *Facts, m *memory) (status.Severity, string) {
	n := m.grown("loops", f.Looped)
	return when(n > 0, status.Warning, "results are fed back to this service by %s: %s within the last minute skipped; publish them on a topic to which no app-offload subscribes", f.LoopDevices, status.Several(n, "event"))
}

// recordsHeld lists why records do not leave although the link is up.
func recordsHeld(f *Facts, _ *memory) (status.Severity, string) {
	var texts []string
	for _, h := range f.Export.Holds {
		texts = append(texts, h.Text)
	}
	return when(len(texts) > 0, status.Warning, "%s", strings.Join(texts, "; "))
}

// statementsRefused holds while receipts and announcements arrive that are ignored.
func statementsRefused(f *Facts, m *memory) (status.Severity, string) {
	counts := map[string]uint64{}
	for kind, n := range f.Export.Errors {
		if strings.HasPrefix(kind, "receipt_") && kind != "receipt_late" || strings.HasPrefix(kind, "announcement_") {
			counts[kind] = n
		}
	}
	n := m.grown("statements", status.Sum(counts))
	return when(n > 0, status.Warning, "%s of consumers ignored within the last minute (since the start: %s): forged, sealed with another key, or for another node, epoch or copy of this spool; see the log",
		status.Several(n, "statement"), counted(counts))
}

// copiedShown is how long a new epoch is shown.
const copiedShown = time.Hour

// spoolCopied holds for a while after the node began a new epoch because another spool uses the previous one.
func spoolCopied(f *Facts, m *memory) (status.Severity, string) {
	n := f.Export.Epochs
	m.grown("epochs", n)
	at := m.grew("epochs")
	return when(m.clock.Time().Sub(at) < copiedShown, status.Warning, "the consumer has records of another spool under this node's name and epoch: a disk was copied or restored, or two gateways have the name %q. "+
		"The node began a new epoch (%d so far) and sends its records under it; give each gateway its own Offload.Node", f.Node, n)
}

// modelsFail holds while a class names a model that cannot be used.
func modelsFail(f *Facts, _ *memory) (status.Severity, string) {
	st := f.Models
	if st == nil {
		return status.Fine, ""
	}
	var parts []string
	for _, c := range st.Classes {
		if c.Problem != "" {
			parts = append(parts, fmt.Sprintf("class %s, model %s: %s", c.Class, c.Model, c.Problem))
		}
	}
	return when(len(parts) > 0, status.Warning, "models cannot be used, and their tasks go to the cloud: %s", strings.Join(parts, "; "))
}

// modelsDrift holds while the inputs of a model differ from the first ones it received.
func modelsDrift(f *Facts, _ *memory) (status.Severity, string) {
	st := f.Models
	if st == nil {
		return status.Fine, ""
	}
	var parts []string
	for _, c := range st.Classes {
		if c.Drifted {
			parts = append(parts, fmt.Sprintf("model %s of class %s (%.0f deviations)", c.Model, c.Class, c.Drift))
		}
	}
	return when(len(parts) > 0, status.Warning, "the data have drifted from the first inputs of the model, so its confidence is unreliable: %s; retrain it", strings.Join(parts, ", "))
}

// modelRolledBack holds while the latest canary of a model is rolled back.
func modelRolledBack(f *Facts, _ *memory) (status.Severity, string) {
	st := f.Models
	if st == nil {
		return status.Fine, ""
	}
	var parts []string
	for _, c := range st.Canaries {
		if c.State == infer.TrialRolledBack {
			parts = append(parts, fmt.Sprintf("version %s of model %s was rolled back, keeping %s: %s", c.Version, c.Model, c.Against, c.Reason))
		}
	}
	return when(len(parts) > 0, status.Warning, "%s", strings.Join(parts, "; "))
}

// counted formats counts with their words, the largest first: "malformed 12, too large 3".
func counted(counts map[string]uint64) string {
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
