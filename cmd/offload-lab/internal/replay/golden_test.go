package replay

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/golden"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
)

// nine rounds all figures of a result to nine digits.
func nine(r *Result) {
	for _, v := range []*float64{
		&r.IPS.Mean, &r.IPS.CI95[0], &r.IPS.CI95[1], &r.DR.Mean, &r.DR.CI95[0], &r.DR.CI95[1], &r.SNIPS,
		&r.EffectiveSamples, &r.MaxWeight, &r.Agreement, &r.CloudShare, &r.Unsupported,
	} {
		_, _ = fmt.Sscan(fmt.Sprintf("%.9g", *v), v)
	}
}

// The estimates of a log never change, in every figure of each policy.
func TestALogIsWorthWhatItAlwaysWas(t *testing.T) {
	var b strings.Builder
	for _, c := range []struct {
		records int
		explore float64
	}{{90, 0.4}, {403, 0.2}, {2000, 0.02}, {60, 0}} {
		w := world{rand.New(rand.NewPCG(8, 1))}
		policies := []policy.Policy{stubborn{"other", 0.5, 0.9}, stubborn{"contrary", 1, 0}, stubborn{"same", 1, 1}}
		log, _ := w.log(c.records, c.explore, policies...)
		for i := range log {
			if i%9 == 0 {
				log[i].Decision.Reason = decision.GuardNeverLeave
			}
			if i%11 == 0 {
				log[i].State.Link.Up = false // guards hold it now
			}
		}
		for _, r := range evaluate(t, log, policies...) {
			nine(&r)
			line, err := json.Marshal(r)
			require.NoError(t, err)
			fmt.Fprintf(&b, "%s\n", line)
		}
	}
	golden.Require(t, "results.golden", b.String())
}

func TestAnIntervalByHand(t *testing.T) {
	two := interval([]float64{1, 4})
	require.Equal(t, 2.5, two.Mean)
	require.InDelta(t, 2.5-student(1)*1.5, two.CI95[0], 1e-9)
	require.InDelta(t, 2.5+student(1)*1.5, two.CI95[1], 1e-9)
	terms := make([]float64, 2*blocks) // pairs of equal mean: neighbours that differ leave no doubt
	for i := range terms {
		terms[i] = float64(i % 2)
	}
	require.Equal(t, Interval{0.5, [2]float64{0.5, 0.5}}, interval(terms))
}

func TestInputsAreBounded(t *testing.T) {
	require.Equal(t, 0.5, lateness(1, 2))
	require.Equal(t, latest, lateness(100, 2))
	require.Equal(t, latest, lateness(1, 0), "what is late already")
	require.Equal(t, latest, lateness(1, -1))
	require.Equal(t, 0.5, lateness(1800, math.Inf(1)), "without a deadline by the hour")
	require.Equal(t, latest, lateness(math.Inf(1), math.Inf(1)))
	require.Equal(t, 0.0, step(1))
	require.Equal(t, 1.0, step(1.01))
	for _, times := range [][2]float64{{math.Inf(1), 1}, {1, math.Inf(1)}, {math.Inf(1), math.Inf(1)}} {
		var r decision.Record
		r.Estimate = score.Estimate{LocalTime: times[0], CloudTime: times[1]}
		for i, v := range inputsOf(&r) {
			require.LessOrEqual(t, math.Abs(v), math.Log1p(longest), "input %d of %v", i, times)
		}
	}
}

// Exactly the reasons above the policies are shared by all policies.
func TestForcedDecisionsAreEverybodys(t *testing.T) {
	for _, why := range []decision.Reason{
		decision.GuardLinkDown, decision.GuardBacklog, decision.GuardNeverLeave, decision.SpoolFull, decision.NoOperator, decision.LocalFailed,
	} {
		require.True(t, forced(why), "%v", why)
	}
	require.False(t, forced(decision.Drawn))
	require.False(t, forced(decision.Explored))
}

// The warnings begin beyond their bounds, not at them.
func TestWarningsKeepToTheirBounds(t *testing.T) {
	fine := Result{Records: 2 * blocks, EffectiveSamples: fewSamples, MaxWeight: largeWeight}
	require.Empty(t, fine.warnings())
	for _, c := range []struct {
		change func(*Result)
		want   string
	}{
		{func(r *Result) { r.Records-- }, "too few for intervals"},
		{func(r *Result) { r.MaxWeight++ }, "has the weight of"},
		{func(r *Result) { r.EffectiveSamples-- }, "the estimate rests on only"},
		{func(r *Result) { r.Records = fewSamples/smallShare + 1 }, "the estimate rests on only"},
		{func(r *Result) { r.Unsupported = 0.001 }, "0.1 % of the decisions were certain"},
	} {
		r := fine
		c.change(&r)
		require.Len(t, r.warnings(), 1)
		require.Contains(t, r.warnings()[0], c.want)
	}
}
