package functions

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decide"
	"app-offload/functions/policy"
	"app-offload/functions/receive"
	"app-offload/functions/task"
)

// shippedWeights are the weights in the repository.
const shippedWeights = "../res/policies/ppo.json"

// While events flow the policy is switched repeatedly, for all and for one class: no event is refused or lost, and each policy decides in its turn.
func TestPolicyIsSwitchedWhileEventsFlow(t *testing.T) {
	b := startBroker(t)
	c := startCloud(t, b, "n1", nil)
	cfg := testConfig(t, b, "edge")
	cfg.Writable.Policy.PPOWeights, cfg.Writable.Policy.Decisions = shippedWeights, 100_000
	own := task.DefaultClassConfig()
	own.MatchDevice = "device-0"
	cfg.Writable.Classes["own"] = own
	s := open(t, cfg, &bin{})
	s.Start()

	ctx, stop := context.WithCancel(t.Context())
	var taken atomic.Int64
	var flow sync.WaitGroup
	for caller := range 4 {
		flow.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				err := s.Receive(receive.Message{ContentType: "application/json", Payload: event(fmt.Sprint("device-", caller), caller*1_000_000+n).Raw})
				if err != nil {
					t.Errorf("event refused: %v", err)
					return
				}
				taken.Add(1)
			}
		})
	}
	for _, info := range policy.List() {
		w := s.Config().Writable
		w.Policy.Default = info.Name
		classes := map[string]task.ClassConfig{}
		for name, class := range w.Classes {
			classes[name] = class
		}
		class := classes["own"]
		class.Policy = "deadline"
		if info.Name == "deadline" {
			class.Policy = "ppo"
		}
		classes["own"] = class
		w.Classes = classes
		require.NoError(t, s.Reload(w))
		from := taken.Load()
		eventually(t, time.Minute, "events under policy "+info.Name, func() bool { return taken.Load() > from+40 })
	}
	stop()
	flow.Wait()
	eventually(t, 2*time.Minute, "all is done or receipted", func() bool {
		n := s.Counts()
		return n.Local+n.Receipted == taken.Load()
	})
	require.Zero(t, s.Counts().Balance)
	decided, own0 := map[string]bool{}, map[string]bool{}
	for _, d := range s.Status().Policies.Decided {
		if d.Class == "own" {
			own0[d.Policy] = true
			continue
		}
		decided[d.Policy] = true
	}
	for _, info := range policy.List() {
		require.True(t, decided[info.Name], "policy %s has decided", info.Name)
	}
	require.Equal(t, map[string]bool{"edge": true, "deadline": true, "ppo": true}, merge(own0, map[string]bool{"edge": true}))
	require.Zero(t, c.doubled)
}

func merge(a, b map[string]bool) map[string]bool {
	for k := range b {
		a[k] = true
	}
	return a
}

// An unreadable file of weights keeps the previous configuration, whichever policy names it; the error names file and reason.
func TestWrongWeightsKeepTheConfiguration(t *testing.T) {
	s := open(t, testConfig(t, nil, "edge"), &bin{})
	dir := t.TempDir()
	rubbish := filepath.Join(dir, "rubbish.json")
	require.NoError(t, os.WriteFile(rubbish, []byte(`{"format":"something else"}`), 0o600))
	for _, file := range []string{filepath.Join(dir, "none.json"), rubbish, ""} {
		for key, name := range map[string]func(w *policy.Config, class *task.ClassConfig){
			"Writable.Policy.PPOWeights":             func(w *policy.Config, _ *task.ClassConfig) { w.Default = "ppo" },
			"Writable.Policy.PPOWeights =":           func(w *policy.Config, _ *task.ClassConfig) { w.Shadow = "cost, ppo" },
			"Writable.Policy.PPOWeights = ":          func(w *policy.Config, _ *task.ClassConfig) { w.Canary = "ppo" },
			"Writable.Classes.default.Policy = \"pp": func(_ *policy.Config, c *task.ClassConfig) { c.Policy = "ppo" },
		} {
			w := s.Config().Writable
			class := w.Classes["default"]
			w.Policy.PPOWeights = file
			name(&w.Policy, &class)
			w.Classes = map[string]task.ClassConfig{"default": class}
			err := s.Reload(w)
			require.ErrorContains(t, err, key)
			require.ErrorContains(t, err, "weights")
			require.Contains(t, s.Status().Configuration.Problem, file)
			e, err := s.Advise(decide.Question{SizeKB: 1})
			require.NoError(t, err)
			require.Equal(t, "edge", e.Policy, "the old configuration is in force")
		}
	}
	w := s.Config().Writable
	w.Policy.PPOWeights, w.Policy.Default, w.Policy.LinkDown = shippedWeights, "ppo", "deadline"
	require.NoError(t, s.Reload(w))
	require.Contains(t, s.Status().Policy, "network")
}

// submit submits events of as many devices, and waits until each is done or durable.
func submit(t *testing.T, s *Service, from, count int) {
	t.Helper()
	events := make([]*task.Event, count)
	for i := range events {
		events[i] = event(fmt.Sprint("press-", from+i), from+i)
	}
	var left sync.WaitGroup
	left.Add(count)
	s.Submit(events, func(_ int, err error) {
		defer left.Done()
		if err != nil {
			t.Errorf("an event is refused: %v", err)
		}
	})
	left.Wait()
}

// onTrial has edge as the incumbent and cloud as the canary, with a deadline that the cloud must meet.
func onTrial(t *testing.T, b *broker) (*Service, *jot) {
	t.Helper()
	cfg := testConfig(t, b, "edge")
	cfg.StopGrace = "1s" // no consumer sends receipts
	p := &cfg.Writable.Policy
	p.Canary, p.CanaryShare, p.CostPatience, p.Decisions = "cloud", 0.5, 0.01, 1000
	class := cfg.Writable.Classes["default"]
	class.Deadline = "300ms"
	cfg.Writable.Classes["default"] = class
	log := &jot{}
	s, err := New(cfg, Deps{Name: "app-offload", Log: log, Secrets: noSecrets{}, Publisher: &bin{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Stop() })
	s.Start()
	eventually(t, time.Minute, "the link is up", func() bool { return s.host.State().Link.Up })
	return s, log
}

// A canary that sends its share of the devices to a cloud that never answers is rolled back, because its decisions have no outcome; that is logged
// once, and survives a restart until Policy is configured again.
func TestBadCanaryIsRolledBack(t *testing.T) {
	b := startBroker(t)
	startCloud(t, b, "n1", nil).silent = true
	s, log := onTrial(t, b)
	n := 0
	eventually(t, 2*time.Minute, "the canary is rolled back", func() bool {
		submit(t, s, n, 50)
		n += 50
		return s.Status().Policies.Canary.State == "rolledBack"
	})
	c := s.Status().Policies.Canary
	require.NotEmpty(t, c.Reason, "its misses or its cost, whichever was certain first")
	require.Greater(t, c.Canary.Cost, c.Incumbent.Cost)
	require.Len(t, log.with("canary of a policy rolled back"), 1)
	acts := func(s *Service) bool {
		submit(t, s, n, 50)
		n += 50
		for _, e := range s.Decisions(50, nil) {
			if e.Policy == "cloud" {
				return true
			}
		}
		return false
	}
	require.False(t, acts(s))
	w := s.Config().Writable
	w.Batch.MaxCount = 7
	require.NoError(t, s.Reload(w))
	require.False(t, acts(s), "that was no change of Policy")
	_ = s.Stop() // what the silent cloud has not receipted stays in the spool

	again := open(t, s.Config(), &bin{})
	require.False(t, acts(again), "nor is a restart")
	require.Equal(t, c.Reason, again.Status().Policies.Canary.Reason)
	w = again.Config().Writable
	w.Policy.CanaryShare = 0.4
	require.NoError(t, again.Reload(w))
	require.Equal(t, "running", again.Status().Policies.Canary.State)
}

// A canary that does no worse continues.
func TestGoodCanaryGoesOn(t *testing.T) {
	b := startBroker(t)
	startCloud(t, b, "n1", nil)
	cfg := testConfig(t, b, "edge")
	cfg.Writable.Policy.Canary, cfg.Writable.Policy.CanaryShare, cfg.Writable.Policy.Decisions = "deadline", 0.5, 10_000
	s := open(t, cfg, &bin{})
	s.Start()
	for n := 0; n < 2000; n += 100 {
		submit(t, s, n, 100)
	}
	eventually(t, time.Minute, "both arms have outcomes", func() bool {
		c := s.Status().Policies.Canary
		return c.Canary.Outcomes > 500 && c.Incumbent.Outcomes > 500
	})
	require.Equal(t, "running", s.Status().Policies.Canary.State)
}
