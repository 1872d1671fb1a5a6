package functions

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/offloadctl/ctl"
	"app-offload/functions/config"
	"app-offload/functions/decide"
	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/task"
)

// verdict is the result on which all deciders must agree.
type verdict struct {
	EventID, Class, Target, Policy, Reason string
	Chunk                                  int
	Score                                  float64
}

// Service, dry-run and task API decide alike: over random configurations, tasks and node states, and on every rule above the policies, each of which
// must have decided at least once.
func TestDryRunAndServiceDecideAlike(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	seen, advised := map[string]int{}, 0
	rules := []string{"linkDown", "backlog", "neverLeave", "noOperator", "cheaperLocal", "cheaperCloud", "localMeets", "fixed", "drawn"}
	unseen := func() []string {
		return slices.DeleteFunc(slices.Clone(rules), func(reason string) bool { return seen[reason] > 0 })
	}
	for round := 0; round < 40 || round < 400 && len(unseen()) > 0; round++ {
		c, yaml := drawnConfig(t, rng)
		s := open(t, c, &bin{})
		state := drawnState(rng)
		var feed bytes.Buffer
		var service []verdict
		var cases []decide.Case
		jobs, start := 0, int64(0)
		for n := range 12 {
			payload := drawnEvent(rng, n)
			fmt.Fprintf(&feed, `{"topic":"t","afterMs":%d,"payload":%s}`+"\n", 37*n, payload)
			ev, err := s.cfg.Intake.Limits().Parse(payload, "application/json")
			require.NoError(t, err)
			if n == 0 {
				start = ev.Received
			}
			ev.Received = start + int64(n)*int64(37*time.Millisecond)
			r := s.begin([]*task.Event{ev}, func(int, error) {})
			r.state = state
			r.state.Time = ev.Received
			s.split(r)
			s.decide(r)
			for i := range r.jobs {
				j := &r.jobs[i]
				d := &j.Decision
				service = append(service, verdict{j.Task.EventID, j.Task.Class.Name, d.Target.String(), j.Policy, d.Reason.String(), j.Task.Chunk, d.Score})
				seen[d.Reason.String()]++
				cases = append(cases, j.Case)
				j.event.conclude(nil)
			}
			jobs += len(r.jobs)
		}
		s.ledger.Leave(jobs) // they went nowhere
		require.Equal(t, service, dryRun(t, yaml, feed.Bytes(), &state), yaml)
		for i := range cases { // at last, as a question counts as an arrival
			advised += checkAdvice(t, s, &cases[i], &state)
		}
		require.NoError(t, s.Stop())
	}
	require.Empty(t, unseen(), "rules by which nothing was decided: %v", seen)
	require.Positive(t, advised)
}

// checkAdvice asks the API about a task like one of the service's, which differs only in its data. Policy defer also depends on arrivals in between.
func checkAdvice(t *testing.T, s *Service, c *decide.Case, state *host.State) int {
	if c.Policy == "defer" || c.Task.Class.Name != task.DefaultClass || c.Decision.Reason == decision.NoOperator || c.Decision.Reason == decision.Drawn {
		return 0
	}
	q := decide.Question{SizeKB: float64(c.Task.Size()) / 1024, Complexity: c.Task.Complexity, DeadlineMS: float64(c.Task.Deadline / time.Millisecond)}
	advice := s.rules.Load().Answer(q, state)
	require.Equal(t, c.Decision.Reason, advice.Decision.Reason)
	require.Equal(t, c.Decision.Target, advice.Decision.Target)
	return 1
}

// drawnConfig returns a configuration and the same one as a file.
func drawnConfig(t *testing.T, rng *rand.Rand) (config.Config, string) {
	c := testConfig(t, nil, []string{"weighted", "deadline", "cost", "bandit", "edge", "cloud", "random", "defer"}[rng.IntN(8)])
	w := &c.Writable.Policy
	w.LinkDown, w.BacklogLimit = []string{"all", "deadline"}[rng.IntN(2)], float64(1+rng.IntN(9))/10
	w.PPOWeights = ""
	c.Local.MaxKeys = []int{100, 100_000}[rng.IntN(2)]
	secret := task.DefaultClassConfig()
	secret.MatchDevice, secret.NeverLeave = "secret-*", true
	narrow := task.DefaultClassConfig()
	narrow.MatchDevice, narrow.Operators, narrow.Deadline, narrow.Policy = "narrow-*", "summary window=10s resource=Pressure*", "500ms", "deadline"
	c.Writable.Classes = map[string]task.ClassConfig{"default": task.DefaultClassConfig(), "secret": secret, "narrow": narrow}
	yaml := fmt.Sprintf(`Offload:
  Node: n1
  Spool: {Directory: %q, QuotaMiB: 64}
  Export: {Broker: %q}
  Local: {MaxKeys: %d}
  Writable:
    Policy: {Default: %s, LinkDown: %s, BacklogLimit: %g, PPOWeights: ""}
    Classes:
      secret: {MatchDevice: "secret-*", NeverLeave: true}
      narrow: {MatchDevice: "narrow-*", Operators: "summary window=10s resource=Pressure*", Deadline: 500ms, Policy: deadline}
`, t.TempDir(), c.Export.Broker, c.Local.MaxKeys, w.Default, w.LinkDown, w.BacklogLimit)
	file := filepath.Join(t.TempDir(), "configuration.yaml")
	require.NoError(t, os.WriteFile(file, []byte(yaml), 0o600))
	return c, file
}

// drawnState returns a state that the flags of a dry-run can describe.
func drawnState(rng *rand.Rand) host.State {
	return host.State{
		CPU: float64(rng.IntN(101)), QueueCycles: float64(rng.IntN(2) * rng.IntN(5000)),
		Link: host.Link{Up: rng.IntN(4) > 0, Goodput: float64(1+rng.IntN(400)) / 10 * 1e6 / 8, RTT: float64(rng.IntN(200)) / 1000, BacklogShare: float64(rng.IntN(101)) / 100},
	}
}

// drawnEvent returns an event whose readings have operators, and sometimes one without.
func drawnEvent(rng *rand.Rand, n int) []byte {
	device := fmt.Sprintf("%s-%d", []string{"pump", "secret", "narrow"}[rng.IntN(3)], rng.IntN(200))
	var readings []string
	for range 1 + rng.IntN(20) {
		resource, typ, value := []string{"Pressure", "Flow", "Level"}[rng.IntN(3)], "Float64", fmt.Sprint(rng.Float64())
		if rng.IntN(20) == 0 {
			resource, typ, value = "Note", "String", strings.Repeat("x", 1+rng.IntN(2000))
		}
		readings = append(readings, fmt.Sprintf(`{"id":"%08d-0000-4000-8000-%012d","origin":1,"deviceName":%q,"resourceName":"%s%d","profileName":"P","valueType":%q,"value":%q}`,
			n, len(readings), device, resource, rng.IntN(9), typ, value))
	}
	return fmt.Appendf(nil, `{"apiVersion":"v3","requestId":"%08d-0000-4000-8000-000000000000","event":{"apiVersion":"v3","id":"%08d-0000-4000-8000-000000000000","deviceName":%q,"profileName":"P","sourceName":"S","origin":1,"readings":[%s]}}`,
		n, n, device, strings.Join(readings, ","))
}

// dryRun returns the tool's verdicts on the feed.
func dryRun(t *testing.T, file string, feed []byte, s *host.State) []verdict {
	link := map[bool]string{true: "up", false: "down"}[s.Link.Up]
	var out, errs bytes.Buffer
	code := ctl.Run(context.Background(), []string{
		"config", "dry-run", file, "-feed", "-", "-each", "-json", "-no-env", "-link", link, "-cpu", fmt.Sprint(s.CPU), "-queue", fmt.Sprint(s.QueueCycles),
		"-full", fmt.Sprint(s.Link.BacklogShare * 100), "-mbit", fmt.Sprint(math.Round(s.Link.Goodput*8/1e5) / 10), "-rtt", time.Duration(s.Link.RTT * 1e9).String(),
	}, bytes.NewReader(feed), &out, &errs)
	require.Zero(t, code, errs.String())
	var all []verdict
	for dec := json.NewDecoder(&out); dec.More(); {
		var v verdict
		require.NoError(t, dec.Decode(&v))
		all = append(all, v)
	}
	return all
}
