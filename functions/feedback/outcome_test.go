package feedback

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// An outcome meets its deadline if it arrives within it, the wait before the decision included. A clock that stepped back makes no outcome precede
// its decision.
func TestAnOutcomeMeetsItsDeadline(t *testing.T) {
	for _, row := range []struct {
		deadline, waited, took time.Duration
		met                    bool
	}{
		{0, time.Hour, time.Hour, true},
		{2 * time.Second, 0, 2 * time.Second, true},
		{2 * time.Second, 0, 2*time.Second + 1, false},
		{2 * time.Second, time.Second, time.Second, true},
		{2 * time.Second, time.Second + 1, time.Second, false},
		{2 * time.Second, 0, -time.Hour, true},
	} {
		e := decision.Entry{Time: 1e18, Deadline: row.deadline, Waited: row.waited}
		require.Equal(t, decision.Outcome{Time: max(row.took, 0).Seconds(), Met: row.met}, outcomeAt(&e, 1e18+int64(row.took)), "%+v", row)
	}
}

// caseOf returns the case of an added decision.
func caseOf(e *decision.Entry) *decide.Case { return &decide.Case{ID: e.ID, Decision: e.Decision} }

// The energy of local work is the measured one for its time, or else the predicted one; a second result teaches nothing.
func TestLocalWorkIsSettledOnce(t *testing.T) {
	for watts, joules := range map[float64]float64{0: 7, 4: 2} {
		f := open(t)
		f.watts = func() float64 { return watts }
		e := f.decided(func(e *decision.Entry) { e.Decision.Target, e.Estimate.LocalEnergy = decision.Local, 7 })
		c := caseOf(&e)
		c.Took, c.Sure = 500*time.Millisecond, 0.75
		f.Done(c)
		have, ok := f.Get(e.ID)
		require.True(t, ok)
		require.True(t, have.Outcome.Known)
		require.True(t, have.Outcome.Met)
		require.Equal(t, joules, have.Outcome.Energy)
		require.Equal(t, 0.75, have.Decision.Confidence)
		f.Done(c)
		st := f.Status()
		require.Equal(t, joules, st.Joules)
		require.Len(t, st.Prediction, 1)
		require.EqualValues(t, 1, st.Prediction[0].Count)
		require.Equal(t, "local", st.Prediction[0].Target)
		require.Equal(t, 1.0, st.Prediction[0].Predicted)
	}
	f := open(t)
	f.Done(&decide.Case{ID: 999})
	require.EqualValues(t, 1, f.Status().Forgotten)
}

// A receipt settles a decision, found by its tag or by the content of its record, unless the consumer sends results of the class: then the result
// does. A result that arrived first stands.
func TestReceiptsAndResultsSettleDecisions(t *testing.T) {
	f := open(t)
	event := func(id string) decision.Entry {
		return f.decided(func(e *decision.Entry) { e.EventID, e.Estimate.CloudEnergy = id, 3 })
	}
	record := func(id string) []byte {
		return (&task.Task{EventID: id, Of: 1, Encoding: task.JSON, Data: []byte("{}")}).Append(nil)
	}
	outcome := func(e decision.Entry) decision.Outcome {
		have, ok := f.Get(e.ID)
		require.True(t, ok)
		have.Outcome.Time = 0
		return have.Outcome
	}
	a, b := event("a"), event("b")
	f.Receipted([]spool.Record{{Tag: a.ID, Payload: make([]byte, 9)}, {Payload: record("b")}, {Payload: []byte("no task")}, {Payload: record("unknown")}})
	require.Equal(t, decision.Outcome{Known: true, Met: true, Energy: 3, Bytes: 9}, outcome(a))
	require.Equal(t, decision.Outcome{Known: true, Met: true, Energy: 3, Bytes: int64(len(record("b")))}, outcome(b))
	require.Zero(t, f.Status().Forgotten, "they are of an earlier life")

	c, d := event("c"), event("d")
	f.Resulted(seal.Result{EventID: "c", OK: true})
	require.Equal(t, decision.Outcome{Known: true, Met: true, Energy: 3}, outcome(c))
	f.Receipted([]spool.Record{{Tag: c.ID, Payload: make([]byte, 9)}, {Tag: d.ID, Payload: make([]byte, 9)}})
	require.Equal(t, decision.Outcome{Known: true, Met: true, Energy: 3}, outcome(c))
	require.Equal(t, decision.Outcome{Bytes: 9}, outcome(d), "its result is awaited")
	f.Resulted(seal.Result{EventID: "d"})
	require.Equal(t, decision.Outcome{Known: true, Energy: 3, Bytes: 9, Failed: true}, outcome(d))
	f.Resulted(seal.Result{EventID: "d", Chunk: 1, OK: true})
	require.EqualValues(t, 1, f.Status().Forgotten)
	st := f.Status()
	require.EqualValues(t, 3, st.Prediction[0].Count, "what failed says nothing of the time")
	require.Equal(t, 12.0, st.Joules)
}

// A second receipt of a decision does not change its outcome; nor does one after the result.
func TestASecondReceiptChangesNothing(t *testing.T) {
	f := open(t)
	e := f.decided(func(e *decision.Entry) { e.Estimate.CloudEnergy = 3 })
	f.Receipted([]spool.Record{{Tag: e.ID, Payload: make([]byte, 9)}})
	first, ok := f.Get(e.ID)
	require.True(t, ok)
	require.True(t, first.Outcome.Known)
	f.Receipted([]spool.Record{{Tag: e.ID, Payload: make([]byte, 5)}})
	again, _ := f.Get(e.ID)
	require.Equal(t, first.Outcome, again.Outcome)
	require.EqualValues(t, 3, f.Status().Joules)
}

// A decision that the ring forgets before its outcome is still passed to the trial of the canary, with the time so far.
func TestForgottenDecisionsCountForTheTrial(t *testing.T) {
	f := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.9 })
	e := f.decided(func(e *decision.Entry) { e.Arm, e.Deadline = decision.Incumbent, time.Nanosecond })
	outcomes := func() uint64 {
		c, on := f.rules().Canary()
		require.True(t, on)
		return c.Incumbent.Outcomes
	}
	require.Zero(t, outcomes())
	for range 1 << 20 {
		if _, kept := f.Get(e.ID); !kept {
			break
		}
		f.decided(func(e *decision.Entry) { e.Arm = decision.NoArm })
	}
	_, kept := f.Get(e.ID)
	require.False(t, kept)
	require.EqualValues(t, 1, outcomes())
	c, _ := f.rules().Canary()
	require.EqualValues(t, 1, c.Incumbent.Misses, "it was late")
}

// Without decisions there is no regret.
func TestNoDecisionsHaveNoRegret(t *testing.T) {
	st := open(t).Status()
	require.Zero(t, st.Regret)
	raw, err := json.Marshal(st)
	require.NoError(t, err)
	require.NotContains(t, string(raw), "null,", "empty lists are [] in JSON")
	require.Equal(t, map[string]string{"": "cloud"}, st.Acting, "no class names another")
}

// A task without a result has failed; a dropped one teaches nothing at all.
func TestFailedAndShedTasks(t *testing.T) {
	f := open(t)
	failed, shed := f.decided(), f.decided()
	f.Failed(failed.ID)
	have, _ := f.Get(failed.ID)
	require.Equal(t, decision.Outcome{Known: true, Failed: true}, have.Outcome)
	c := caseOf(&shed)
	c.Decision.Target, c.Decision.Score = decision.Local, 0.5
	f.Shed(c)
	have, _ = f.Get(shed.ID)
	require.Equal(t, decision.Outcome{Known: true, Failed: true}, have.Outcome)
	require.Equal(t, c.Decision, have.Decision)
	st := f.Status()
	require.Empty(t, st.Prediction)
	require.Zero(t, st.Forgotten)
}

// After a result, receipts of its class wait for their results for a while; then receipts count by themselves again. The number of classes remembered
// is limited.
func TestResultsAreExpectedForAWhile(t *testing.T) {
	a := newAnswers()
	require.False(t, a.expected("c"))
	a.came("c")
	for range answerPatience {
		require.True(t, a.expected("c"))
		require.False(t, a.expected("d"))
	}
	require.False(t, a.expected("c"))
	for n := range maxAnswers - 1 {
		a.came(fmt.Sprint(n))
	}
	a.came("one more")
	require.False(t, a.expected("one more"))
	a.came("c")
	require.True(t, a.expected("c"), "it was known")
	require.Len(t, a.left, maxAnswers)
}

// Decisions are counted by policy, class and target, with their predicted regret; a withdrawn one no longer counts. Above a limit they are counted
// without a line of their own.
func TestDecisionsAreCounted(t *testing.T) {
	f, s := open(t), &host.State{Cores: 2}
	r := f.rules()
	of := func(policy string, target decision.Target) *decide.Case {
		return &decide.Case{
			Task: &task.Task{Class: r.Class("default"), Of: 1, Deadline: time.Second}, Estimate: score.Estimate{LocalTime: 0.001, CloudTime: 5},
			Decision: decision.Decision{Target: target}, Policy: policy,
		}
	}
	bad := of("a", decision.Cloud)
	f.Decided(r, []*decide.Case{of("a", decision.Local), of("a", decision.Local), bad, of("a", decision.Local), of("b", decision.Cloud)}, s)
	f.Decided(r, nil, s)
	cost := regretOf(r.Judge(), bad, s)
	require.Positive(t, cost)
	st := f.Status()
	require.Equal(t, []status.DecidedCount{
		{Policy: "a", Target: "local", Class: "default", Count: 3},
		{Policy: "a", Target: "cloud", Class: "default", Count: 1},
		{Policy: "b", Target: "cloud", Class: "default", Count: 1},
	}, st.Decided)
	require.InDelta(t, 2*cost/5, st.Regret, 1e-9)
	bad.Decision.Target = decision.Local // which does not change the counts
	f.Withdraw(r, bad, s)
	st = f.Status()
	require.EqualValues(t, 0, st.Decided[1].Count)
	require.InDelta(t, cost/4, st.Regret, 1e-9)

	for n := range maxTally {
		f.tally.counts[countKey{policy: fmt.Sprint(n)}] = 1
	}
	f.Decided(r, []*decide.Case{of("c", decision.Local), of("c", decision.Local), of("a", decision.Local)}, s)
	require.EqualValues(t, 2, f.Status().Unlisted)
	last := of("c", decision.Local)
	last.Counted = decision.Local
	f.Withdraw(r, last, s)
	require.EqualValues(t, 1, f.Status().Unlisted)
	require.EqualValues(t, 4, f.tally.counts[countKey{"a", "default", decision.Local}])

	for n := range maxTally {
		f.tally.settled(&decision.Entry{Class: fmt.Sprint(n)})
	}
	f.tally.settled(&decision.Entry{Class: "7"})
	f.tally.settled(&decision.Entry{Class: "one more"})
	require.EqualValues(t, 2, f.Status().Unlisted)
	require.Len(t, f.tally.prediction, maxTally)
}

// Means cover all outcomes, and the latest ones once there are many.
func TestPredictionsAreHeldAgainstOutcomes(t *testing.T) {
	var p prediction
	for _, one := range [][2]float64{{1, 2}, {3, 1}, {2, 6}} {
		p.take(one[0], one[1])
	}
	require.InDeltaSlice(t, []float64{2, 3, 7.0 / 3}, []float64{p.predicted, p.actual, p.errors}, 1e-12)
	p.count = 10 * predictionMemory
	p.take(1002, 3)
	require.InDelta(t, 3, p.predicted, 1e-9)
	require.InDelta(t, 3, p.actual, 1e-9)

	f := open(t)
	f.tally.settled(&decision.Entry{Class: "c", Decision: decision.Decision{Target: decision.Cloud}, Estimate: score.Estimate{LocalTime: 9, CloudTime: 4}, Outcome: decision.Outcome{Time: 2}})
	require.Equal(t, []status.PredictionStatus{{Class: "c", Target: "cloud", Count: 1, Predicted: 4, Actual: 2, Error: 1}}, f.Status().Prediction)
}

// A decision made later than its task's arrival, or kept although its task was to be parked, is recorded and counted as it then is.
func TestLateDecisionsAreNotedAndCounted(t *testing.T) {
	f, s := open(t), &host.State{Cores: 2}
	r := f.rules()
	for name, note := range map[string]func(*decide.Case){
		"bound":  func(c *decide.Case) { f.Bound(r, c, s) },
		"stands": func(c *decide.Case) { f.Stands(r, c, s) },
	} {
		e := f.decided(func(e *decision.Entry) { e.EventID = name })
		c := &decide.Case{
			ID: e.ID, Task: &task.Task{EventID: name, Class: r.Class("default"), Of: 1}, Policy: name, Estimate: score.Estimate{LocalTime: 1, CloudTime: 2},
			Decision: decision.Decision{Target: decision.Local, Propensity: 1, Score: 0.25},
		}
		note(c)
		have, ok := f.Get(e.ID)
		require.True(t, ok)
		require.Equal(t, c.Decision, have.Decision)
		require.Contains(t, f.Status().Decided, status.DecidedCount{Policy: name, Target: "local", Class: "default", Count: 1})
	}
	list := f.Decisions(10, func(e *decision.Entry) bool { return e.Decision.Score == 0.25 })
	require.Len(t, list, 2)
	require.Greater(t, list[0].ID, list[1].ID)
}

// A file with unexpected content is moved aside with a line in the log, and learning starts from zero; a valid one is restored.
func TestWhatWasLearnedIsReadOrSetAside(t *testing.T) {
	good := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.5 })
	good.Observe(&task.Task{Class: good.rules().Class("default"), Of: 1, Nominal: 100, Complexity: 20}, 2)
	good.Observe(&task.Task{Class: &task.Class{Name: "m", Model: "x"}, Of: 1, Nominal: 100, Complexity: 20}, 2)
	raw, err := good.learned.encode()
	require.NoError(t, err)
	require.NotContains(t, string(raw), `"m":`, "the run of a model is what counts for it")
	sealed := func(state string) string {
		return fmt.Sprintf(`{"format":%q,"crc32":%d,"state":%s}`, learnedFormat, crc32.ChecksumIEEE([]byte(state)), state)
	}
	for name, row := range map[string]struct{ file, problem string }{
		"good":            {string(raw), ""},
		"nothing learned": {sealed(`{}`), ""},
		"no JSON":         {"{", "reading the file"},
		"another format":  {`{"format":"other","state":{}}`, `its format is \"other\"`},
		"a flipped bit":   {`{"format":"` + learnedFormat + `","crc32":1,"state":{}}`, "checksum mismatch: stored 00000001, computed"},
		"no state":        {sealed(`[]`), "reading the state"},
		"refused":         {sealed(`{"estimates":{"local":{"value":-1,"count":3}}}`), "invalid numbers"},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.5 }), t.TempDir()
			path := filepath.Join(dir, learnedFile)
			require.NoError(t, os.WriteFile(path, []byte(row.file), 0o600))
			require.NoError(t, f.OpenLearned(dir, time.Hour))
			log := f.logger.(*jot)
			if row.problem == "" {
				require.FileExists(t, path)
				require.Empty(t, log.lines)
				return
			}
			require.NoFileExists(t, path)
			aside, err := os.ReadFile(filepath.Join(dir, badLearnedFile))
			require.NoError(t, err)
			require.Equal(t, row.file, string(aside))
			require.Len(t, log.lines, 1)
			require.Contains(t, log.lines[0], row.problem)
		})
	}
	other := open(t)
	var state learnedState
	require.NoError(t, unseal(raw, &state))
	require.NotNil(t, state.Canary)
	require.NoError(t, other.learned.restore(&state))
	want, _ := good.rules().Model.Correction(good.rules().Class("default"))
	have, _ := other.rules().Model.Correction(other.rules().Class("default"))
	require.Greater(t, want, 1.0)
	require.Equal(t, want, have)
}

// Learned state is saved at intervals and at the stop, and a problem is logged once until it is over. After the stop nothing is written.
func TestLearnedIsSavedEverySoOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, dir := open(t), t.TempDir()
		log := f.logger.(*jot)
		require.NoError(t, f.OpenLearned(dir, time.Minute))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.SaveLearned(ctx)
		}()
		path := filepath.Join(dir, learnedFile)
		time.Sleep(time.Minute - 1)
		require.NoFileExists(t, path)
		require.Zero(t, f.Status().Learned.Age)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		require.FileExists(t, path)
		time.Sleep(30 * time.Second)
		require.InDelta(t, 30, f.Status().Learned.Age, 0.001)
		require.NoError(t, os.RemoveAll(dir))
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		require.Len(t, log.lines, 1)
		require.Contains(t, log.lines[0], "retryEvery=1m0s")
		require.NotEmpty(t, f.LearnedProblem())
		require.NoError(t, os.MkdirAll(dir, 0o700))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, f.LearnedProblem())
		cancel()
		<-ended
		require.NoError(t, os.Remove(path))
		require.NoError(t, f.CloseLearned())
		var s sealed
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, &s))
		require.NoError(t, os.Remove(path))
		require.NoError(t, f.learned.save())
		require.NoFileExists(t, path, "the folder may be another process's by now")
	})
}
