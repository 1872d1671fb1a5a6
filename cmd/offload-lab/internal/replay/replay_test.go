package replay

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// world has a known truth: the time of a target is its prediction times a factor unknown to the predictions.
type world struct{ rng *rand.Rand }

// outcome is the true time of a target; its mean is known exactly.
func (w *world) outcome(predicted float64, cloud bool) float64 {
	return meanTime(predicted, cloud) * (0.5 + w.rng.Float64())
}

func meanTime(predicted float64, cloud bool) float64 {
	if cloud {
		return 0.2 + 1.7*predicted
	}
	return 0.8 * predicted * predicted // no line: the model must be wrong
}

// stubborn sends tasks larger than its limit, with a given certainty.
type stubborn struct {
	name    string
	limit   float64
	certain float64
}

func (s stubborn) Name() string   { return s.name }
func (s stubborn) String() string { return s.name }

func (s stubborn) Decide(_ *task.Task, e *score.Estimate, _ *host.State) decision.Decision {
	d := decision.Decision{Target: decision.Local, Propensity: s.certain, Reason: decision.Drawn}
	if e.LocalTime > s.limit {
		d.Target = decision.Cloud
	}
	return d
}

// log creates records of an exploring service, and the true mean of each policy on the same tasks.
func (w *world) log(n int, explore float64, policies ...policy.Policy) ([]decision.Record, []float64) {
	truth := make([]float64, len(policies))
	records := make([]decision.Record, n)
	behaviour := stubborn{"behaviour", 1, 1}
	for i := range records {
		e := score.Estimate{LocalTime: 0.1 + 2*w.rng.Float64(), CloudTime: 0.1 + 2*w.rng.Float64()}
		d := behaviour.Decide(nil, &e, nil)
		d.Propensity = 1 - explore/2
		if w.rng.Float64() < explore/2 {
			d.Target, d.Propensity = 1-d.Target, explore/2
		}
		predicted := e.LocalTime
		if d.Target == decision.Cloud {
			predicted = e.CloudTime
		}
		took := w.outcome(predicted, d.Target == decision.Cloud)
		records[i] = decision.Record{Format: decision.RecordFormat, Entry: decision.Entry{
			ID: uint64(i + 1), Class: "c", Policy: "behaviour", Size: 1000, Deadline: time.Second, Decision: d, Estimate: e,
			State: host.State{Link: host.Link{Up: true}}, Outcome: decision.Outcome{Known: true, Time: took, Met: took < 1},
		}}
		for k, p := range policies {
			c := cloudChance(p.Decide(nil, &e, nil))
			truth[k] += ((1-c)*meanTime(e.LocalTime, false) + c*meanTime(e.CloudTime, true)) / float64(n)
		}
	}
	return records, truth
}

func took(r *decision.Record) float64 { return r.Outcome.Time }

func evaluate(t require.TestingT, records []decision.Record, policies ...policy.Policy) []Result {
	l, err := NewLog(took, policies, policy.DefaultConfig())
	require.NoError(t, err)
	for i := range records {
		l.Add(&records[i])
	}
	results, err := l.Evaluate()
	require.NoError(t, err)
	return results
}

// Over many logs the means of both estimates equal the truth, the intervals have about their nominal coverage, and the doubly robust estimate varies
// less although its model is wrong.
func TestEstimatesAreUnbiased(t *testing.T) {
	const logs, records = 300, 1000
	other := stubborn{"other", 0.5, 0.9}
	w := world{rand.New(rand.NewPCG(4, 2))}
	var ips, dr, ipsSquares, drSquares float64
	covered := 0
	for range logs {
		log, truth := w.log(records, 0.4, other)
		r := evaluate(t, log, other)[1]
		a, b := r.IPS.Mean-truth[0], r.DR.Mean-truth[0]
		ips, dr, ipsSquares, drSquares = ips+a, dr+b, ipsSquares+a*a, drSquares+b*b
		if r.DR.CI95[0] <= truth[0] && truth[0] <= r.DR.CI95[1] {
			covered++
		}
		require.Empty(t, r.Warnings)
	}
	// Four standard errors of the mean over all logs.
	require.InDelta(t, 0, ips/logs, 4*math.Sqrt(ipsSquares)/logs)
	require.InDelta(t, 0, dr/logs, 4*math.Sqrt(drSquares)/logs)
	require.Less(t, math.Sqrt(ipsSquares/logs), 0.1, "an interval that wide would hide a bias")
	require.Less(t, drSquares, 0.5*ipsSquares, "the model should take off at least half of the variance")
	require.InDelta(t, 0.95, float64(covered)/logs, 0.05)
}

// A policy evaluated on its own log gets the log's mean.
func TestItselfIsTheLog(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		w := world{rand.New(rand.NewPCG(rapid.Uint64().Draw(r, "seed"), 1))}
		log, _ := w.log(rapid.IntRange(100, 300).Draw(r, "n"), 0, stubborn{})
		all := evaluate(r, log, stubborn{"same", 1, 1})
		require.InDelta(r, all[0].IPS.Mean, all[1].IPS.Mean, 1e-9)
		require.InDelta(r, all[0].IPS.Mean, all[1].DR.Mean, 1e-9)
		require.InDelta(r, float64(len(log)), all[1].EffectiveSamples, 1e-9)
		require.Zero(r, all[1].Unsupported)
	})
}

// If the log was certain and the other policy disagrees, nothing is known, and the result must report it.
func TestCertainLogsAreWarnedOf(t *testing.T) {
	w := world{rand.New(rand.NewPCG(1, 1))}
	log, _ := w.log(2000, 0, stubborn{})
	r := evaluate(t, log, stubborn{"other", 0.1, 1})[1]
	require.InDelta(t, 0.45, r.Unsupported, 0.05)
	require.NotEmpty(t, r.Warnings)
	require.Contains(t, r.Warnings[0], "certain")
}

func TestFewEffectiveSamplesAreWarnedOf(t *testing.T) {
	w := world{rand.New(rand.NewPCG(1, 1))}
	log, _ := w.log(2000, 0.02, stubborn{})
	contrary := stubborn{"contrary", 1, 0} // always the way that the log hardly takes
	r := evaluate(t, log, contrary)[1]
	require.Less(t, r.EffectiveSamples, 60.0)
	require.InDelta(t, 100, r.MaxWeight, 1e-9)
	require.Len(t, r.Warnings, 2)
}

// Decisions of guards are the same under every policy; records without an outcome are counted and skipped.
func TestGuardsAndMissingOutcomes(t *testing.T) {
	w := world{rand.New(rand.NewPCG(1, 1))}
	log, _ := w.log(400, 0, stubborn{})
	for i := range log {
		switch i % 4 {
		case 0:
			log[i].Outcome = decision.Outcome{}
		case 1:
			log[i].Outcome = decision.Outcome{Failed: true}
		default:
			log[i].Decision = decision.Decision{Target: decision.Local, Propensity: 1, Reason: decision.GuardNeverLeave}
		}
	}
	l, err := NewLog(took, []policy.Policy{stubborn{"other", 0, 1}}, policy.DefaultConfig())
	require.NoError(t, err)
	for i := range log {
		l.Add(&log[i])
	}
	require.Equal(t, Skipped{Unknown: 100, Failed: 100}, l.Skipped())
	all, err := l.Evaluate()
	require.NoError(t, err)
	require.InDelta(t, all[0].IPS.Mean, all[1].IPS.Mean, 1e-9)
	require.InDelta(t, all[0].IPS.Mean, all[1].DR.Mean, 1e-9)
	require.Zero(t, all[1].CloudShare)
	require.Zero(t, all[1].Unsupported)
}

func TestNothingToEvaluateIsAnError(t *testing.T) {
	l, err := NewLog(took, nil, policy.DefaultConfig())
	require.NoError(t, err)
	w := world{rand.New(rand.NewPCG(1, 1))}
	log, _ := w.log(2, 0, stubborn{})
	for i := range log {
		_, err = l.Evaluate()
		require.ErrorIs(t, err, errEmpty, "%d records", i)
		l.Add(&log[i])
	}
	all, err := l.Evaluate()
	require.NoError(t, err)
	_, err = json.Marshal(all)
	require.NoError(t, err, "an interval that is infinite is no JSON")
}

// pupil decides as stubborn and counts what it learns from.
type pupil struct {
	stubborn
	policy.Learner
	learned *int
}

func (p pupil) Name() string   { return "pupil" }
func (p pupil) String() string { return "pupil" }

func (p pupil) Decide(t *task.Task, e *score.Estimate, s *host.State) decision.Decision {
	return p.stubborn.Decide(t, e, s)
}

func (p pupil) Observe(*decision.Entry) { *p.learned++ }

// A policy that learns does so from every record with an outcome.
func TestAPolicyLearnsFromTheLog(t *testing.T) {
	w, learned := world{rand.New(rand.NewPCG(1, 1))}, 0
	log, _ := w.log(30, 0.5, stubborn{})
	evaluate(t, log, pupil{stubborn: stubborn{"", 1, 1}, learned: &learned})
	require.Equal(t, 30, learned)
}

// Rows of a known line reproduce the line.
func TestRegression(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var r regression
	var want linear
	for i := range want {
		want[i] = rng.NormFloat64()
	}
	for range 200_000 {
		var x [inputs]float64
		for i := range x {
			x[i] = rng.NormFloat64()
		}
		r.add(&x, want.at(&x))
	}
	got := r.solve()
	for i := range want {
		require.InDelta(t, want[i], got[i], 1e-4)
	}
}
