package health

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/export"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/status"
)

// fixture is a watch with its facts, and a clock that the test moves.
type fixture struct {
	*Watch
	facts Facts
	fake  *clock.Fake
}

// well is a healthy service with its link up; its backlog is at the limit.
func well(t *testing.T) *fixture {
	t.Helper()
	fake := clock.NewFake(time.Now())
	p := &fixture{Watch: NewWatch(clock.New(fake)), fake: fake, facts: Facts{Link: host.Link{Up: true, BacklogShare: 0.8}, BacklogLimit: 0.8}}
	require.Equal(t, status.Health{State: status.Well, Reasons: []status.Reason{}}, p.look())
	return p
}

func (p *fixture) look() status.Health { return p.Look(&p.facts) }

// Each symptom has its severity and its own text, and no other holds beside it.
func TestEachSymptomShows(t *testing.T) {
	models := func(s infer.Stats) func(*Facts) { return func(f *Facts) { f.Models = &s } }
	seen := map[string]bool{}
	for _, c := range []struct {
		code     string
		severity status.Severity
		text     string
		happens  func(*Facts)
	}{
		{"stopping", status.Critical, "the service is stopping", func(f *Facts) { f.Stopping = true }},
		{"intake", status.Critical, "intake: not connected", func(f *Facts) { f.Intake = "not connected" }},
		{"busRival", status.Warning, "another client", func(f *Facts) { f.Rival = "another client" }},
		{"spool", status.Critical, "spool: a bad file", func(f *Facts) { f.Spool.Problem = "a bad file" }},
		{"diskFull", status.Critical, "the disk is full: the spool in /s cannot store, 3 of its 5 MiB are used", func(f *Facts) {
			f.Directory, f.Spool.DiskFull, f.Spool.DiskBytes, f.Spool.Quota = "/s", 1, 3<<20, 5<<20
		}},
		{"diskFull", status.Critical, "the spool in /s cannot store: its last commit failed", func(f *Facts) { f.Directory, f.Spool.Failed = "/s", 1 }},
		{"spoolFull", status.Warning, "the spool is 95 % full with 1 task; when it is full", func(f *Facts) { f.Spool.Fill, f.Spool.Held = 0.95, 1 }},
		{"spoolFull", status.Warning, "above the limit of 80 %: tasks are processed locally", func(f *Facts) { f.Link.BacklogShare = 0.81 }},
		{"refused", status.Critical, "1 event refused within the last minute (since the start: bytes 1)", func(f *Facts) { f.Events.Refused = map[string]uint64{"bytes": 1} }},
		{"refused", status.Warning, "1 task returned", func(f *Facts) { f.Events.Returned, f.Counts.Accepted = 1, 1 }},
		{"refused", status.Critical, "2 events refused within the last minute (since the start: bytes 2); see Offload.Intake.MaxEvents and MaxMiB; 2 tasks returned", func(f *Facts) {
			f.Events.Refused, f.Events.Returned = map[string]uint64{"bytes": 2}, 2
		}},
		{"account", status.Warning, "-2 tasks unexplained", func(f *Facts) { f.Counts.Balance = -2 }},
		{"dropped", status.Warning, "1 task dropped: class a 1 too large before this was noted. Acknowledge", func(f *Facts) {
			f.Drops = status.DropStatus{Unacknowledged: 1, List: []status.Drop{{Class: "b", Reason: "full"}, {Class: "a", Reason: "tooLarge", Unacknowledged: 1}}}
		}},
		{"dropped", status.Warning, "2 tasks dropped: class a 1 too large before this was noted; class c 1 full before this was noted. Acknowledge", func(f *Facts) {
			f.Drops = status.DropStatus{Unacknowledged: 2, List: []status.Drop{{Class: "a", Reason: "tooLarge", Unacknowledged: 1}, {Class: "c", Reason: "full", Unacknowledged: 1}}}
		}},
		{"keys", status.Critical, "keys: no such secret", func(f *Facts) { f.Keys, f.KeysBroken = "no such secret", true }},
		{"keys", status.Warning, "keys: one is bad", func(f *Facts) { f.Keys = "one is bad" }},
		{"quarantine", status.Note, "1 of 2 messages within the last minute quarantined as invalid events", func(f *Facts) { f.Events.Quarantined, f.Messages = map[string]uint64{"malformed": 1}, 2 }},
		{"configuration", status.Warning, "configuration rejected", func(f *Facts) { f.Configuration = "configuration rejected" }},
		{"linkDown", status.Warning, "the link to the cloud is down: tasks", func(f *Facts) { f.Link.Up = false }},
		{"linkDown", status.Warning, "the link to the cloud is down (connection refused): tasks", func(f *Facts) { f.Link.Up, f.Export.Problem = false, "connection refused" }},
		{"consumerSilent", status.Warning, "no receipts", func(f *Facts) { f.Export.ReceiptsSilent, f.Export.Silence = true, "no receipts" }},
		{"held", status.Warning, "key k is unknown; too large", func(f *Facts) { f.Export.Holds = []export.Hold{{Text: "key k is unknown"}, {Text: "too large"}} }},
		{"held", status.Warning, "too large", func(f *Facts) { f.Export.Holds = []export.Hold{{Text: "too large"}} }},
		{"statements", status.Warning, "3 statements of consumers ignored within the last minute (since the start: receipt forged 2, announcement forged 1)", func(f *Facts) {
			f.Export.Errors = map[string]uint64{"receipt_forged": 2, "announcement_forged": 1, "receipt_late": 9, "publish": 9}
		}},
		{"statements", status.Warning, "1 statement of consumers", func(f *Facts) { f.Export.Errors = map[string]uint64{"receipt_forged": 1} }},
		{"copied", status.Warning, `two gateways have the name "n". The node began a new epoch (1 so far)`, func(f *Facts) { f.Node, f.Export.Epochs = "n", 1 }},
		{"models", status.Warning, "class c, model m: no such file", models(infer.Stats{Classes: []infer.ClassStats{{Class: "c", Model: "m", Problem: "no such file"}, {Class: "d"}}})},
		{"drift", status.Warning, "model m of class c (4 deviations); retrain it", models(infer.Stats{Classes: []infer.ClassStats{{Class: "c", Model: "m", Drifted: true, Drift: 4}, {Class: "d"}}})},
		{"modelCanary", status.Warning, "version 2 of model m was rolled back, keeping 1: slow", models(infer.Stats{Canaries: []infer.CanaryStats{
			{Model: "m", Version: "2", Against: "1", State: infer.TrialRolledBack, Reason: "slow"}, {Model: "n"},
		}})},
		{"learned", status.Warning, "learned state is not saved: read-only", func(f *Facts) { f.Learned = "read-only" }},
		{"canary", status.Warning, "the canary ppo was rolled back: misses", func(f *Facts) {
			f.Canary = &status.CanaryStatus{Policy: "ppo", State: "rolledBack", Reason: "misses"}
		}},
		{"resultLoop", status.Warning, "fed back to this service by d: 1 event within", func(f *Facts) { f.Looped, f.LoopDevices = 1, "d" }},
		{"otherResults", status.Note, "on this bus: 1 result within", func(f *Facts) {
			f.Events.Skipped = map[string]uint64{"result": 1, "own": 9, "loop": 9, "retained": 9, "unmatched": 9}
		}},
		{"unsafe", status.Note, "1 event received at QoS 0", func(f *Facts) { f.Events.Unsafe = 1 }},
	} {
		seen[c.code] = true
		p := well(t)
		c.happens(&p.facts)
		h := p.look()
		require.Len(t, h.Reasons, 1, c.code)
		require.Equal(t, c.code, h.Reasons[0].Code)
		require.Equal(t, c.severity, h.Reasons[0].Severity, c.code)
		require.Contains(t, h.Reasons[0].Text, c.text)
	}
	require.Len(t, seen, len(Codes())-1, "all but the clock, which has a test of its own")
}

// A spool that returns tasks is critical until half of it is free again; tasks that a class drops instead are no reason.
func TestTheSpoolIsFullUntilHalfOfItIsFree(t *testing.T) {
	p := well(t)
	for _, c := range []struct {
		refused  uint64
		returned int64
		fill     float64
		want     status.Severity
	}{
		{1, 0, 0.9, status.Fine}, // dropped or done locally
		{1, 1, 0.9, status.Critical},
		{1, 1, 0.5, status.Critical},
		{1, 1, 0.49, status.Warning},
		{1, 1, 0.94, status.Critical},
	} {
		p.facts.Spool.Refused, p.facts.Events.Returned, p.facts.Spool.Fill = c.refused, c.returned, c.fill
		require.Equal(t, c.want, p.look().Severity("spoolFull"), c)
	}
	p.fake.Advance(lately)
	require.Equal(t, status.Fine, p.look().Severity("spoolFull"), "nothing was returned within the last minute")
	p.facts.Events.Returned, p.facts.Spool.Fill = 2, 0.3
	require.Equal(t, status.Fine, p.look().Severity("spoolFull"), "it was not the spool that refused")
}

// If the disk bounds the spool, a larger quota is no advice.
func TestASpoolThatTheDiskBoundsIsFull(t *testing.T) {
	p := well(t)
	f := &p.facts
	f.Directory, f.Spool.Quota, f.Spool.Refused, f.Events.Returned, f.Spool.Fill = "/s", 64<<20, 1, 1, 1
	_, text := spoolFull(f, &p.memory)
	require.Contains(t, text, "; raise Offload.Spool.QuotaMiB or fix the link")
	f.Spool.DiskFull = 1
	_, text = spoolFull(f, &p.memory)
	require.Contains(t, text, "; the disk is full before the quota of 64 MiB is reached: make room in /s, or fix the link")
	p.fake.Advance(lately / 2)
	f.Spool.Refused, f.Events.Returned = 2, 2
	_, text = spoolFull(f, &p.memory)
	require.Contains(t, text, "; the disk is full")
	p.fake.Advance(lately / 2)
	_, text = spoolFull(f, &p.memory)
	require.Contains(t, text, "; the disk is full", "it is tried rarely")
	p.fake.Advance(lately)
	_, text = spoolFull(f, &p.memory)
	require.NotContains(t, text, "; the disk is full", "nothing is returned any more")
	f.Spool.Refused, f.Events.Returned = 3, 3
	_, text = spoolFull(f, &p.memory)
	require.Contains(t, text, "; raise Offload.Spool.QuotaMiB or fix the link", "somebody has made room")
}

// More than half of the messages is a warning, half of them a note; the text counts both.
func TestHalfOfTheMessagesQuarantinedIsANote(t *testing.T) {
	p := well(t)
	look := func(aside, all uint64) (status.Severity, string) {
		p.facts.Events.Quarantined, p.facts.Messages = map[string]uint64{"malformed": aside}, all
		return quarantined(&p.facts, &p.memory)
	}
	severity, text := look(10, 20)
	require.Equal(t, status.Note, severity)
	require.Contains(t, text, "10 of 20 messages within the last minute")
	require.Contains(t, text, "GET /api/v3/offload/quarantine")
	severity, text = look(11, 21)
	require.Equal(t, status.Warning, severity)
	require.Contains(t, text, "11 of 21 messages within the last minute")
	p.fake.Advance(lately)
	severity, text = look(11, 21)
	require.Equal(t, status.Fine, severity)
	require.Empty(t, text)
}

// A step of the clock by years is a reason for a while, in either direction, and moves no reason's beginning.
func TestHealthSaysThatTheClockWasSet(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, by := range []time.Duration{time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 30 * year, -30 * year} {
		p := well(t)
		p.facts.Events.Unsafe = 1
		p.look()
		p.fake.Advance(time.Second)
		p.fake.Step(by)
		h := p.look()
		require.Equal(t, status.Warning, h.Severity("clock"), by)
		require.Contains(t, h.Reasons[0].Text, by.String())
		require.Equal(t, p.fake.Wall().Add(-time.Second), h.Reasons[1].Since, "it holds for a second")
		p.fake.Advance(stepShown)
		require.Equal(t, status.Fine, p.look().Severity("clock"))
	}
}

// A step of at least ten seconds, in either direction, is shown for ten minutes.
func TestStepsOfTheClockAreShownForAWhile(t *testing.T) {
	fake := clock.NewFake(time.Unix(0, 0)) // a gateway without a battery for its clock
	m := &memory{clock: clock.New(fake), counters: map[string]*growth{}}
	look := func() string { _, text := clockStepped(nil, m); return text }
	fake.Step(time.Hour)
	require.Empty(t, look(), "a step before the first look is unknown")
	require.Empty(t, look())
	fake.Step(stepped - time.Nanosecond)
	require.Empty(t, look())
	fake.Step(stepped)
	require.Contains(t, look(), "was set by 10s: ")
	fake.Advance(stepShown - time.Nanosecond)
	require.NotEmpty(t, look())
	fake.Advance(time.Nanosecond)
	require.Empty(t, look())
	fake.Step(-stepped)
	severity, text := clockStepped(nil, m)
	require.Equal(t, status.Warning, severity)
	require.Contains(t, text, "was set by -10s: ")
}

// A new epoch is a reason for an hour.
func TestACopiedSpoolIsShownForAnHour(t *testing.T) {
	p := well(t)
	p.facts.Export.Epochs = 1
	require.Equal(t, status.Warning, p.look().Severity("copied"))
	p.fake.Advance(copiedShown - time.Nanosecond)
	require.Equal(t, status.Warning, p.look().Severity("copied"))
	p.fake.Advance(time.Nanosecond)
	require.Equal(t, status.Fine, p.look().Severity("copied"))
}

// The last attempt decides: storing fails from a failed commit until a successful one.
func TestStoringFailsUntilItSucceeds(t *testing.T) {
	p := well(t)
	m := &p.memory
	check := func(full, fails bool, what string) {
		t.Helper()
		f, any := storingFails(m)
		require.Equal(t, [2]bool{full, fails}, [2]bool{f, any}, what)
	}
	check(false, false, "nothing has happened")
	m.grown("spool appended", 1)
	check(false, false, "stored")
	p.fake.Advance(time.Second)
	m.grown("spool failed", 1)
	check(false, true, "failed")
	p.fake.Advance(time.Second)
	m.grown("spool appended", 2)
	check(false, false, "stored again")
	m.grown("spool failed", 2)
	check(false, false, "within the same look")
	m.grown("spool disk full", 1)
	check(true, true, "within the same look, for lack of space")
	p.fake.Advance(time.Second)
	m.grown("spool appended", 3)
	check(false, false, "there is room again")
}

// A disk that refuses writes is critical until a commit succeeds.
func TestHealthSaysThatTheDiskRefuses(t *testing.T) {
	p := well(t)
	for _, step := range []struct {
		why              string
		failed, appended uint64
		want             bool
	}{
		{"a commit fails", 4, 5, true}, {"nothing is tried", 4, 5, true}, {"one works", 4, 6, false}, {"another fails", 9, 6, true},
	} {
		p.fake.Advance(time.Second)
		p.facts.Spool.Failed, p.facts.Spool.Appended = step.failed, step.appended
		if step.why == "a commit fails" { // what was stored is seen before
			p.memory.grown("spool appended", step.appended)
			p.fake.Advance(time.Second)
		}
		require.Equal(t, step.want, p.look().Severity("diskFull") == status.Critical, step.why)
	}
}

func TestCountsAreWrittenTheLargestFirst(t *testing.T) {
	require.Equal(t, "b 3, a 2, c 2", counted(map[string]uint64{"a": 2, "b": 3, "c": 2, "none": 0}))
	require.Empty(t, counted(nil))
	require.EqualValues(t, 7, status.Sum(map[string]uint64{"a": 2, "b": 3, "c": 2}))
}
