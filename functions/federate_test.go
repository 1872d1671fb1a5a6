package functions

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/fleet"
	"app-offload/functions/host"
	"app-offload/functions/seal"
)

// startFleet answers all nodes at a broker, in rounds of no length, and records their statements.
func startFleet(t *testing.T, b *broker) (said func() []string) {
	t.Helper()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	opener := seal.NewOpener(nil, seal.Limits{})
	terms := fleet.DefaultTerms()
	terms.Every = 0
	f := fleet.New(terms, sealer, opener)
	var mu sync.Mutex
	var all []string
	require.NoError(t, b.Subscribe(seal.LearnedTopic("+"), 9, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) {
		note, err := opener.OpenNote(seal.Learned, p.Payload)
		if err != nil {
			t.Errorf("opening a statement: %v", err)
			return
		}
		mu.Lock()
		all = append(all, string(note.Body))
		mu.Unlock()
		answer, err := f.Handle(note.Node, p.Payload, time.Now())
		if err == nil {
			err = b.Publish(seal.FleetTopic(note.Node), answer, false, 1)
		}
		if err != nil {
			t.Errorf("answering a node: %v", err)
		}
	}))
	return func() []string { mu.Lock(); defer mu.Unlock(); return append([]string(nil), all...) }
}

// Three nodes learn that work takes twice as long as predicted and the cloud three times. A fourth joins while it runs, and predicts and believes as
// they do, until it leaves. Their statements contain no reading and no device.
func TestANodeStartsFromWhatOthersHaveLearned(t *testing.T) {
	b := startBroker(t)
	said := startFleet(t, b)
	rng := rand.New(rand.NewPCG(1, 2))
	joins := func(node string, on bool, outcomes int) *Service {
		c := testConfig(t, b, "bandit")
		c.Node = node
		if on {
			c.Writable.Federate.Interval = "10s"
		}
		s := linkedTo(t, c, &bin{})
		r, class := s.rules.Load(), s.rules.Load().Class("default")
		state := &host.State{Cores: 1, Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.05}}
		for range outcomes {
			bytes := 1000 + rng.IntN(100_000)
			e := r.Model.EstimateWork(nil, bytes, r.Model.Cycles(bytes, 50), state)
			r.Model.ObserveLocal(class, bytes, 50, 2*e.LocalTime)
			r.Model.ObserveCloud(class, bytes, 50, 3*e.CloudTime)
			for _, l := range r.Learners() {
				l.Observe(&decision.Entry{Device: "pump-1", Estimate: e, State: *state, Decision: decision.Decision{Target: decision.Local}, Outcome: decision.Outcome{Known: true, Time: 2 * e.LocalTime}})
			}
		}
		return s
	}
	var a *Service
	for _, node := range []string{"b", "c", "a"} {
		s := joins(node, false, 60)
		a = s
		w := s.Config().Writable
		w.Federate.Interval = "10s" // with the outcomes there already
		require.NoError(t, s.Reload(w))
		eventually(t, time.Minute, "node "+node+" is answered", func() bool { return s.Status().Policies.Learned.Fleet.Models > 0 })
	}
	d := joins("d", false, 0)
	require.Nil(t, d.Status().Policies.Learned.Fleet)
	w := d.Config().Writable
	w.Federate.Interval = "10s"
	require.NoError(t, d.Reload(w))
	class := d.rules.Load().Class("default")
	eventually(t, time.Minute, "the new node believes the others", func() bool { return d.Status().Policies.Learned.Fleet.Believed > 0 })
	local, cloud := d.rules.Load().Model.Correction(class)
	require.InDelta(t, 2, local, 0.1)
	require.InDelta(t, 3, cloud, 0.1)
	require.Equal(t, 5, d.Status().Policies.Learned.Fleet.Believed, "class and all, local and cloud; the bandit's local arm")
	statements := len(said())
	w.Score.CloudMcycles *= 2 // the others' ratios are of other predictions
	require.NoError(t, d.Reload(w))
	local, cloud = d.rules.Load().Model.Correction(class)
	require.InDelta(t, 1, local, 0)
	require.InDelta(t, 1, cloud, 0)
	eventually(t, time.Minute, "it asks for what others with its predictions have learned", func() bool { return len(said()) > statements })
	for _, text := range said() {
		require.NotContains(t, text, "pump")
	}
	statements = len(said())
	w = a.Config().Writable
	w.Score.CloudMcycles *= 2
	require.NoError(t, a.Reload(w))
	eventually(t, time.Minute, "a node with outcomes asks, too", func() bool { return len(said()) > statements })
	require.NotContains(t, said()[statements], "parts", "its outcomes were compared with other predictions")
	w = d.Config().Writable
	w.Federate.Interval = ""
	require.NoError(t, d.Reload(w))
	local, cloud = d.rules.Load().Model.Correction(class)
	require.InDelta(t, 1, local, 0)
	require.InDelta(t, 1, cloud, 0)
}
