package decide

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
	"app-offload/functions/trial"
)

func onTrial(edits ...func(*policy.Config)) policy.Config {
	return configured(append([]func(*policy.Config){func(c *policy.Config) { c.Default, c.Canary = "cost", "edge" }}, edits...)...)
}

func decider(t testing.TB, c policy.Config) *Decider {
	t.Helper()
	d, err := NewDecider(c)
	require.NoError(t, err)
	return d
}

// world draws outcomes: a share of misses that drifts and comes in bursts, equal for both arms, and higher for the canary.
type world struct {
	rng     *rand.Rand
	version string
	devices int
	uneven  float64 // by how much devices differ in nature
	worse   float64 // share of misses that the canary adds
}

// nature is a number in [0,1) of the device.
func nature(device string) float64 {
	h := fnv.New64a()
	h.Write([]byte(device + "'s nature"))
	return decision.Uniform(h.Sum64(), 1)
}

func (w *world) outcome(d *Decider, i int) decision.Entry {
	device := fmt.Sprint("device-", w.rng.IntN(w.devices))
	arm := d.canary.Arm(device)
	chance := 0.1 + 0.3*float64(i%1000)/1000 + w.uneven*(nature(device)-0.5)
	if i/50%5 == 0 {
		chance += 0.4 // a burst, in which all are late
	}
	if arm == decision.Canary {
		chance += w.worse
	}
	e := decision.Entry{Arm: arm, Version: w.version, Class: fmt.Sprint(i % 3), Deadline: time.Second, Decision: decision.Decision{Reason: decision.CheaperLocal}}
	e.Outcome = decision.Outcome{Known: true, Time: w.rng.Float64()}
	if w.rng.Float64() < chance {
		e.Outcome.Time++
	}
	return e
}

// rollBacks returns the share of runs in which the canary was rolled back, and the mean number of outcomes until then.
func rollBacks(t *testing.T, c policy.Config, runs, outcomes int, draw world) (share, after float64) {
	t.Helper()
	rolled, sum := 0, 0
	for run := range runs {
		edge, err := policy.New("edge", c)
		require.NoError(t, err)
		d := &Decider{version: c.Version(), canary: trial.NewCanary(c, policy.NewJudge(c), map[string]policy.Policy{"edge": edge})}
		draw.rng, draw.version = rand.New(rand.NewPCG(7, uint64(run))), d.version
		for i := range outcomes {
			e := draw.outcome(d, i)
			if d.Observe(&e) != "" {
				rolled, sum = rolled+1, sum+i
				break
			}
		}
	}
	share, after = float64(rolled)/float64(runs), float64(sum)/float64(max(rolled, 1))
	t.Logf("%d devices, uneven by %v, canary worse by %v: rolled back in %.1f %% of %d runs, after %.0f outcomes", draw.devices, draw.uneven, draw.worse, 100*share, runs, after)
	return share, after
}

// A canary as good as the incumbent is rolled back in no more runs than the confidence allows, although the test is made after each outcome, without
// margin, and in a world that drifts.
func TestCanaryAsGoodAsTheIncumbentStays(t *testing.T) {
	c := onTrial(func(c *policy.Config) {
		c.CanaryShare, c.CanaryConfidence, c.CanaryMarginMiss, c.CanaryMarginCost = 0.3, 0.9, 0, 0
	})
	runs := 100
	if n, err := strconv.Atoi(os.Getenv("CANARY_RUNS")); err == nil {
		runs = n
	}
	share, _ := rollBacks(t, c, runs, 1500, world{devices: 1 << 20})
	require.LessOrEqual(t, share, 0.1+3*math.Sqrt(0.1*0.9/float64(runs)), "three deviations above one in ten")
	share, _ = rollBacks(t, onTrial(), runs/5, 3000, world{devices: 300, uneven: 0.2})
	require.LessOrEqual(t, share, 0.05, "with the default margins devices may differ")
}

func TestBadCanaryIsRolledBack(t *testing.T) {
	share, after := rollBacks(t, onTrial(func(c *policy.Config) { c.CanaryShare = 0.1 }), 20, 20_000, world{devices: 1 << 20, worse: 0.15})
	require.GreaterOrEqual(t, share, 0.95)
	require.Less(t, after, 8000.0)
}

// Without deadlines the cost decides.
func TestDearCanaryIsRolledBack(t *testing.T) {
	d := decider(t, onTrial())
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; ; i++ {
		require.Less(t, i, 50_000)
		arm := decision.Arm(1 + rng.IntN(2))
		e := decision.Entry{Arm: arm, Version: d.version, Decision: decision.Decision{Reason: decision.CheaperLocal}}
		e.Outcome = decision.Outcome{Known: true, Time: 5 + 5*rng.Float64()}
		if arm == decision.Canary {
			e.Outcome.Time += 2 // a fifth of the patience: 0.2 in costs
		}
		if why := d.Observe(&e); why != "" {
			require.Contains(t, why, "mean cost")
			t.Logf("after %d outcomes: %s", i, why)
			return
		}
	}
}

func TestCanaryActsForItsShareOfDevices(t *testing.T) {
	d := decider(t, onTrial(func(c *policy.Config) { c.CanaryShare, c.Default = 0.2, "cloud" }))
	more := decider(t, onTrial(func(c *policy.Config) { c.CanaryShare, c.Default = 0.4, "cloud" }))
	s, e := loaded(10), &score.Estimate{LocalTime: 1, CloudTime: 1}
	n := 0
	for i := range 10_000 {
		tk := &task.Task{Device: fmt.Sprint("press-", i)}
		got, by := d.Decide(tk, e, s)
		if got.Arm == decision.Canary {
			n++
			require.Equal(t, "edge", by)
			wider, _ := more.Decide(tk, e, s)
			require.Equal(t, decision.Canary, wider.Arm, "who was in at a smaller share is in at a larger one")
		} else {
			require.Equal(t, "cloud", by)
			require.Equal(t, decision.Incumbent, got.Arm)
		}
		tk.Class = &task.Class{Name: "own", Policy: "deadline"}
		got, by = d.Decide(tk, e, s)
		require.Equal(t, "deadline", by, "a class with a policy of its own keeps it")
		require.Equal(t, decision.NoArm, got.Arm)
		tk.Class = &task.Class{NeverLeave: true}
		got, _ = d.Decide(tk, e, s)
		require.Equal(t, decision.GuardNeverLeave, got.Reason, "guards stand above the canary")
	}
	require.InDelta(t, 2000, n, 200)
}

func TestRollBackStaysUntilDecisionsAreConfiguredAnew(t *testing.T) {
	c := onTrial()
	d := decider(t, c)
	w := world{rng: rand.New(rand.NewPCG(1, 1)), version: d.version, devices: 1 << 20, worse: 0.5}
	told := 0
	for i := range 20_000 {
		e := w.outcome(d, i)
		if d.Observe(&e) != "" {
			told++
		}
	}
	require.Equal(t, 1, told, "said once")
	state, on := d.Canary()
	require.True(t, on && state.RolledBack)
	require.NotEmpty(t, state.Reason)
	acts := func(d *Decider) bool {
		for i := range 1000 {
			if got, _ := d.Decide(&task.Task{Device: fmt.Sprint(i)}, &score.Estimate{}, loaded(1)); got.Arm == decision.Canary {
				return true
			}
		}
		return false
	}
	require.False(t, acts(d))

	same := decider(t, configured(func(n *policy.Config) { *n = c; n.Decisions, n.Shadow = 9, "edge" }))
	same.Follow(d)
	require.False(t, acts(same), "nothing that decides has changed")
	restarted := decider(t, c)
	require.True(t, acts(restarted))
	restarted.Restore(state)
	require.False(t, acts(restarted), "a restart changes nothing either")
	changed := decider(t, configured(func(n *policy.Config) { *n = c; n.CanaryShare = 0.2 }))
	changed.Follow(d)
	changed.Restore(state)
	require.True(t, acts(changed))
}

// A target that no policy chose counts as an outcome of neither side.
func TestATrialLeavesOutWhatNoPolicyChose(t *testing.T) {
	d := decider(t, onTrial())
	for why, counts := range map[decision.Reason]uint64{
		decision.NoOperator: 0, decision.JudgedHard: 0, decision.GuardLinkDown: 0, decision.GuardOutside: 1, decision.HardExample: 1, decision.CheaperCloud: 1,
	} {
		before, _ := d.Canary()
		d.Observe(&decision.Entry{Arm: decision.Canary, Version: d.version, Decision: decision.Decision{Target: decision.Cloud, Reason: why}, Outcome: decision.Outcome{Known: true, Time: 1}})
		after, _ := d.Canary()
		require.Equal(t, counts, after.Canary.Outcomes-before.Canary.Outcomes, why)
	}
}
