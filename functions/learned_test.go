package functions

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/receive"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// taught returns the outcomes from which the bandit has learned, by target.
func taught(s *Service) status.TaughtCount { return s.Status().Policies.Learned.Outcomes["bandit"] }

func takeIn(t *testing.T, s *Service, device string, n int) {
	t.Helper()
	require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event(device, n).Raw}))
}

// jot records log lines.
type jot struct {
	mu    sync.Mutex
	lines []string
}

func (j *jot) add(format string, a ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, a...))
}
func (j *jot) Debugf(string, ...any)          {}
func (j *jot) Infof(format string, a ...any)  { j.add(format, a...) }
func (j *jot) Warnf(format string, a ...any)  { j.add(format, a...) }
func (j *jot) Errorf(format string, a ...any) { j.add(format, a...) }
func (j *jot) with(text string) (found []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, line := range j.lines {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// A restart continues with the learned state of the bandit and the predictions, also while another policy acts.
func TestRestartKeepsWhatWasLearned(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	s := open(t, cfg, &bin{})
	for n := range 30 {
		takeIn(t, s, "d", n)
	}
	require.Equal(t, status.TaughtCount{Local: 30}, taught(s))
	class := s.rules.Load().Class("default")
	local, _ := s.rules.Load().Model.Correction(class)
	require.NoError(t, s.Stop())

	again := open(t, cfg, &bin{})
	require.Equal(t, status.TaughtCount{Local: 30}, taught(again))
	kept, _ := again.rules.Load().Model.Correction(class)
	require.InEpsilon(t, local, kept, 1e-9)

	w := again.Config().Writable
	w.Policy.Default, w.Policy.BanditOptimism, w.Policy.LinkDown = "bandit", 0.2, "all"
	require.NoError(t, again.Reload(w))
	require.Equal(t, status.TaughtCount{Local: 30}, taught(again), "switching to it keeps what it knows")
	takeIn(t, again, "d", 31)
	require.Equal(t, status.TaughtCount{Local: 31}, taught(again))
}

// Learned state is saved while the service runs, not only at an orderly stop.
func TestLearnedStateIsSavedEverySoOften(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	cfg.LearnedDirectory, cfg.LearnedInterval = filepath.Join(t.TempDir(), "kept"), "1s"
	s := open(t, cfg, &bin{})
	s.Start()
	takeIn(t, s, "d", 1)
	eventually(t, time.Minute, "the file is there", func() bool {
		raw, err := os.ReadFile(filepath.Join(cfg.LearnedDirectory, "learned.json"))
		return err == nil && strings.Contains(string(raw), `"Count":1`)
	})
	require.NoFileExists(t, filepath.Join(cfg.Spool.Directory, "learned.json"))
}

// An unusable file is moved aside and logged, and learning starts from zero.
func TestDamagedLearnedStateIsSetAside(t *testing.T) {
	for name, harm := range map[string]func(raw string) string{
		"cut":            func(raw string) string { return raw[:len(raw)/2] },
		"a flipped bit":  func(raw string) string { return strings.Replace(raw, `"Count":3`, `"Count":7`, 1) },
		"another format": func(raw string) string { return strings.Replace(raw, "learned 1", "learned 9", 1) },
		"empty":          func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(t, nil, "edge")
			s := open(t, cfg, &bin{})
			for n := range 3 {
				takeIn(t, s, "d", n)
			}
			require.NoError(t, s.Stop())
			path := filepath.Join(cfg.Spool.Directory, "learned.json")
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			harmed := harm(string(raw))
			require.NotEqual(t, string(raw), harmed)
			require.NoError(t, os.WriteFile(path, []byte(harmed), 0o600))

			var log jot
			again, err := New(cfg, Deps{Name: "app-offload", Log: &log, Secrets: noSecrets{}, Publisher: &bin{}})
			require.NoError(t, err)
			t.Cleanup(func() { _ = again.Stop() })
			require.Len(t, log.with("learning starts from zero"), 1)
			require.Zero(t, taught(again))
			aside, err := os.ReadFile(filepath.Join(cfg.Spool.Directory, "learned.bad.json"))
			require.NoError(t, err)
			require.Equal(t, harmed, string(aside))
		})
	}
}

// Receipts are outcomes, in time or late, from which learners learn; those forgotten by the ring are counted.
func TestReceiptsAreOutcomes(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Writable.Policy.LinkDown, cfg.Writable.Policy.Decisions = "deadline", 10
	s := open(t, cfg, &bin{})
	for n := range 12 {
		takeIn(t, s, "d", n)
	}
	entries := s.Decisions(20, nil)
	require.Len(t, entries, 10)
	records := []spool.Record{{Tag: entries[0].ID, Payload: make([]byte, 77)}, {Tag: entries[9].ID - 1}, {Payload: []byte("rubbish")}}
	s.receipted(records)
	e, _ := s.Decision(entries[0].ID)
	require.True(t, e.Outcome.Known && e.Outcome.Met)
	require.EqualValues(t, 77, e.Outcome.Bytes)
	require.Positive(t, e.Outcome.Energy)
	s.receipted(records[:1]) // once more
	p := s.Status().Policies
	require.EqualValues(t, 1, p.Forgotten)
	require.EqualValues(t, 2, p.Unsettled)
}

// A record read back from disk has lost its tag; its decision is found by its event.
func TestReceiptsOfABacklogAreOutcomes(t *testing.T) {
	s := open(t, testConfig(t, nil, "cloud"), &bin{})
	takeIn(t, s, "d", 7)
	sent := event("d", 7)
	class := s.rules.Load().Class("default")
	sent.ID = s.Decisions(1, nil)[0].EventID
	one := task.Split(sent, func(string) *task.Class { return class }, nil)[0]
	stranger := *one
	stranger.EventID = "of an earlier life"
	s.receipted([]spool.Record{{Payload: stranger.Append(nil)}, {Payload: []byte("rubbish")}, {Payload: one.Append(nil)}})
	require.True(t, s.Decisions(1, nil)[0].Outcome.Known)
	require.Zero(t, s.Status().Policies.Forgotten)
}

// A result of the consumer counts instead of its receipt, as long as results arrive for the class.
func TestResultsAreOutcomes(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Writable.Policy.LinkDown = "deadline"
	s := open(t, cfg, &bin{})
	sent := func(n int) decision.Entry {
		takeIn(t, s, "d", n)
		return s.Decisions(1, nil)[0]
	}
	receipt := func(e decision.Entry) { s.receipted([]spool.Record{{Tag: e.ID, Payload: make([]byte, 50)}}) }
	outcome := func(e decision.Entry) decision.Outcome { got, _ := s.Decision(e.ID); return got.Outcome }

	first := sent(1)
	s.feedback.Resulted(seal.Result{EventID: first.EventID, Chunk: first.Chunk, OK: false})
	require.True(t, outcome(first).Known && outcome(first).Failed)
	require.False(t, outcome(first).Met)
	receipt(first)
	require.True(t, outcome(first).Failed, "the receipt says less than the result")

	second := sent(2)
	receipt(second)
	require.False(t, outcome(second).Known, "its result will come")
	s.feedback.Resulted(seal.Result{EventID: second.EventID, Chunk: second.Chunk, OK: true})
	require.True(t, outcome(second).Known && outcome(second).Met && !outcome(second).Failed)
	require.EqualValues(t, 50, outcome(second).Bytes)

	for n := range 100 + 1 {
		receipt(sent(10 + n))
	}
	require.True(t, s.Decisions(1, nil)[0].Outcome.Known, "results have stopped coming, so receipts count again")
	s.feedback.Resulted(seal.Result{EventID: "unknown", OK: true})
	require.EqualValues(t, 1, s.Status().Policies.Forgotten)
}

// A task that took another path than decided has a propensity of 1: the policy's draw had no influence.
func TestPropensityOfWhatIsOverruled(t *testing.T) {
	cfg := testConfig(t, nil, "random")
	cfg.Writable.Policy.LinkDown = "deadline"
	cfg.Local.Operators = "none" // nothing can be done here
	s := open(t, cfg, &bin{})
	for n := range 50 {
		takeIn(t, s, "d", n)
	}
	reasons := map[decision.Reason]int{}
	for _, e := range s.Decisions(100, nil) {
		require.Equal(t, decision.Cloud, e.Decision.Target)
		require.InDelta(t, 1, e.Decision.Propensity, 0)
		reasons[e.Decision.Reason]++
	}
	require.Positive(t, reasons[decision.NoOperator])
	require.Positive(t, reasons[decision.Drawn])
}

// Failed local work that was then sent is a decision for the cloud: its receipt says nothing about this node.
func TestFailedLocalWorkBecomesACloudDecision(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	cfg.Local.Retries = 0
	class := cfg.Writable.Classes["default"]
	class.Operators = "deadband band=0.1"
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{err: os.ErrClosed})
	takeIn(t, s, "d", 1)
	e := s.Decisions(1, nil)[0]
	require.Equal(t, decision.Cloud, e.Decision.Target)
	require.Equal(t, decision.LocalFailed, e.Decision.Reason)
	s.feedback.Resulted(seal.Result{EventID: e.EventID, Chunk: e.Chunk, OK: true})
	e, _ = s.Decision(e.ID)
	require.True(t, e.Outcome.Known, "found by its event")
}

// The decision log holds decisions with their outcomes, continues after a restart, and rotates within its limit.
func TestDecisionLog(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	cfg.DecisionLog = filepath.Join(t.TempDir(), "log")
	for life := range 2 {
		s := open(t, cfg, &bin{})
		for n := range 20 {
			takeIn(t, s, "d", life*100+n)
		}
		require.NoError(t, s.Stop())
		got := s.Status().Policies.DecisionLog
		require.EqualValues(t, 20, got.Written)
		require.Zero(t, got.Dropped)
		f, err := os.OpenFile(filepath.Join(cfg.DecisionLog, "decisions.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteString(`{"format":1,"id":17`) // as a crash leaves it
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	n := 0
	for r := range records(t, cfg.DecisionLog, "decisions.jsonl") {
		require.True(t, r.Outcome.Known)
		require.Equal(t, "edge", r.Policy)
		require.Equal(t, "d", r.Device)
		n++
	}
	require.Equal(t, 40, n)
}

func records(t *testing.T, dir, file string) func(func(*decision.Record) bool) {
	return func(yield func(*decision.Record) bool) {
		f, err := os.Open(filepath.Join(dir, file))
		require.NoError(t, err)
		defer f.Close() //nolint:errcheck // it was only read
		for r, err := range decision.ReadRecords(f) {
			require.NoError(t, err)
			if !yield(r) {
				return
			}
		}
	}
}

func TestStatusOfPolicies(t *testing.T) {
	cfg := testConfig(t, nil, "edge")
	cfg.Writable.Policy.Shadow, cfg.Writable.Policy.ShadowShare = "cloud, cost", 1
	hurry := task.DefaultClassConfig()
	hurry.MatchDevice, hurry.Policy = "hurry", "random"
	cfg.Writable.Classes["hurry"] = hurry
	s := open(t, cfg, &bin{})
	for n := range 10 {
		takeIn(t, s, "d", n)
	}
	p := s.Status().Policies
	require.Equal(t, map[string]string{"": "edge", "hurry": "random"}, p.Acting)
	require.Equal(t, []status.DecidedCount{{Policy: "edge", Target: "local", Class: "default", Count: 10}}, p.Decided)
	require.Len(t, p.Prediction, 1)
	require.EqualValues(t, 10, p.Prediction[0].Count)
	require.Positive(t, p.Prediction[0].Actual)
	require.Positive(t, p.Joules)
	require.Len(t, p.Shadows, 2)
	require.Equal(t, "cloud", p.Shadows[0].Policy)
	require.EqualValues(t, 10, p.Shadows[0].Decisions)
	require.Zero(t, p.Shadows[0].Agreement)
	require.Nil(t, p.Canary)
}
