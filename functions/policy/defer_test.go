package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func TestARuleIsReadAsItWasWritten(t *testing.T) {
	var file bytes.Buffer
	require.NoError(t, WriteRule(&file, DefaultRule(), "by hand"))
	r, err := ReadRule(&file)
	require.NoError(t, err)
	require.Equal(t, DefaultRule(), r)
}

func TestAWrongRuleSaysWhatIsWrong(t *testing.T) {
	for want, text := range map[string]string{
		"reading a rule":                         `{`,
		"unknown field":                          `{"format":"app-offload rule 1","edgeprice2":1}`,
		`"app-offload rule 2"`:                   `{"format":"app-offload rule 2"}`,
		"exponent = -1 is not within 0.05 and 8": `{"format":"app-offload rule 1","exponent":-1}`,
		"doubt = 0 is not within":                `{"format":"app-offload rule 1"}`,
	} {
		_, err := ReadRule(bytes.NewBufferString(text))
		require.ErrorContains(t, err, want)
		file := filepath.Join(t.TempDir(), "rule.json")
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		err = config(func(c *Config) { c.DeferRule = file }).Validate()
		require.ErrorContains(t, err, "DeferRule")
		require.ErrorContains(t, err, want)
	}
}

// What this program brings along is what was learned, to the digits that matter.
func TestTheDefaultRuleIsTheShippedOne(t *testing.T) {
	f, err := os.Open("../../res/policies/defer.json")
	require.NoError(t, err)
	defer f.Close()
	shipped, err := ReadRule(f)
	require.NoError(t, err)
	built := DefaultRule()
	for i, field := range shipped.Fields() {
		require.InEpsilon(t, *field.At, *built.Fields()[i].At, 0.01, field.Name)
	}
}

// Without any work allowed ahead, a server with nothing before it is still free.
func TestAheadZeroLetsIdleServersWork(t *testing.T) {
	r := newRoom(t, func(c *Config) { c.DeferAhead = "0s" })
	one := &task.Task{Of: 1, Received: r.state.Time, Data: make([]byte, 1000), Complexity: 50}
	for _, target := range []decision.Target{decision.Local, decision.Cloud} {
		e := r.model.Estimate(one, &r.state)
		require.False(t, r.binder.Waits(one, &e, &r.state, &decision.Decision{Target: target}), "%v", target)
	}
	r.busyNode()
	r.busyLink()
	for _, target := range []decision.Target{decision.Local, decision.Cloud} {
		e := r.model.Estimate(one, &r.state)
		require.True(t, r.binder.Waits(one, &e, &r.state, &decision.Decision{Target: target}), "%v", target)
	}
}

// A bid grows with the age from AgingFrom on, and is not smaller before that.
func TestABidGrowsFromAgingFromOn(t *testing.T) {
	rule := DefaultRule()
	rule.AgingFrom, rule.Residual = 5, 0.1
	bid := func(aging float64, waited time.Duration) float64 {
		b, err := DeferBy(rule, config())
		require.NoError(t, err)
		b.(*deferring).rule.Aging = aging
		r := newRoom(t)
		one := &task.Task{Of: 1, Received: r.state.Time - int64(waited), Data: make([]byte, 1000), Complexity: 50} // no deadline, so that age changes nothing else
		e := r.model.Estimate(one, &r.state)
		return b.Bid(one, &e, &r.state, decision.Local)
	}
	for waited, older := range map[time.Duration]bool{0: false, 4 * time.Second: false, 5 * time.Second: false, 6 * time.Second: true, time.Minute: true} {
		if older {
			require.Greater(t, bid(0.5, waited), bid(0, waited), "%v", waited)
		} else {
			require.InDelta(t, bid(0, waited), bid(0.5, waited), 1e-12, "%v", waited)
		}
	}
}

// A task that takes next to nothing bids high, but within bounds: other parked tasks have their turn.
func TestNoBidIsWithoutBounds(t *testing.T) {
	r := newRoom(t)
	for _, own := range []float64{0, shortest / 10, shortest} {
		e := score.Estimate{LocalTime: own, CloudTime: 1}
		bid := r.binder.Bid(&task.Task{Of: 1, Received: r.state.Time}, &e, &r.state, decision.Local)
		least := score.Estimate{LocalTime: shortest, CloudTime: 1}
		require.InEpsilon(t, r.binder.Bid(&task.Task{Of: 1, Received: r.state.Time}, &least, &r.state, decision.Local), bid, 0.01, "%v s", own)
	}
}
