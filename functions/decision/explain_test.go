package decision

import (
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/host"
	"app-offload/functions/score"
)

var update = flag.Bool("update", false, "write the golden files")

// Each row is one reason as the reader sees it; the sentences are in testdata/explain.golden.
func TestExplain(t *testing.T) {
	const ms = time.Millisecond
	times := func(local, cloud float64) score.Estimate { return score.Estimate{LocalTime: local, CloudTime: cloud} }
	article := Decision{Target: Cloud, Score: 0.69, Threshold: 0.5, Terms: Terms{0.15, 0.4, 0.14}, Reason: AboveThreshold}
	low := Decision{Score: 0.3149, Threshold: 0.5, Terms: Terms{0.2949, 0.01, 0.01}, Reason: BelowThreshold}
	late := Decision{Target: Cloud, Reason: LocalMisses}
	var out strings.Builder
	for _, c := range []struct {
		name string
		e    Entry
	}{
		{"above", Entry{Size: 512 << 10, Complexity: 80, State: host.State{CPU: 30}, Decision: article, Estimate: times(1.2, 0.4)}},
		{"above, outcome known", Entry{Size: 512 << 10, Complexity: 80, Decision: article, Estimate: times(1.2, 0.4), Outcome: Outcome{Known: true, Time: 0.52}}},
		{"at the threshold", Entry{Decision: Decision{Target: Cloud, Score: 0.5, Threshold: 0.5, Reason: AboveThreshold}, Estimate: times(0, 0.07)}},
		{"below", Entry{Size: 17_300, Complexity: 2.25, State: host.State{CPU: 4.6}, Decision: low, Estimate: times(0.0032, 0.0873)}},
		{"below, link down", Entry{Size: 300, Decision: low, Estimate: times(0.5, math.Inf(1))}},
		{"in time here", Entry{Deadline: time.Second, Waited: 20 * ms, Decision: Decision{Reason: LocalMeets}, Estimate: times(0.4, 0.1)}},
		{"no deadline", Entry{Decision: Decision{Reason: LocalMeets}, Estimate: times(150, 0.1)}},
		{"late here", Entry{Deadline: time.Second, Decision: late, Estimate: times(3.14, 0.4), Outcome: Outcome{Known: true, Time: 0.7, Met: true}}},
		{"late both, cloud no later", Entry{Deadline: time.Second, Decision: late, Estimate: times(3.14, 2), Outcome: Outcome{Known: true, Time: 2.5}}},
		{"deadline passed", Entry{Deadline: time.Second, Waited: 3 * time.Second, Decision: late, Estimate: times(3.14, 2)}},
		{"deadline passes now", Entry{Deadline: time.Second, Waited: time.Second, Decision: late, Estimate: times(3.14, 2)}},
		{"late here, the cloud just in time", Entry{Deadline: time.Second, Decision: late, Estimate: times(3.14, 1)}},
		{"no deadline below 0", Entry{Deadline: -time.Second, Decision: Decision{Reason: LocalMeets}, Estimate: times(3.14, 1)}},
		{"a deadline of a nanosecond", Entry{Deadline: 1, Decision: Decision{Reason: BothMissLocal}, Estimate: times(3.14, 5)}},
		{"late both, sooner here", Entry{Deadline: 500 * ms, Decision: Decision{Reason: BothMissLocal}, Estimate: times(0.9, 7.25)}},
		{"late and no cloud", Entry{Deadline: 500 * ms, Decision: Decision{Reason: BothMissLocal}, Estimate: times(0.9, math.Inf(1))}},
		{"guard: link", Entry{Decision: Decision{Reason: GuardLinkDown}, Estimate: times(0.25, math.Inf(1))}},
		{"guard: backlog", Entry{Decision: Decision{Reason: GuardBacklog, Threshold: 0.9}, State: host.State{Link: host.Link{BacklogShare: 0.953, BacklogTasks: 18345}}, Estimate: times(0.25, 30000)}},
		{"guard: never leave", Entry{Class: "camera", Decision: Decision{Reason: GuardNeverLeave}, Estimate: times(0.25, 1)}},
		{"guard: outside", Entry{Policy: "ppo", Decision: Decision{Reason: GuardOutside}, Estimate: times(0.25, 1)}},
		{"spool full", Entry{Policy: "weighted", Decision: Decision{Reason: SpoolFull}, Estimate: times(0.25, 1)}},
		{"cheaper", Entry{Policy: "cost", Decision: Decision{Target: Cloud, Reason: CheaperCloud}, Estimate: times(2, 1)}},
		{"cheaper, by a policy that learns", Entry{Policy: "bandit", Decision: Decision{Reason: CheaperLocal}, Estimate: times(2, 1)}},
		{"fixed", Entry{Policy: "edge", Decision: Decision{Reason: Fixed}, Estimate: times(20_000, 400)}},
		{"drawn", Entry{Policy: "random", Decision: Decision{Target: Cloud, Reason: Drawn, Propensity: 0.25}, Estimate: times(2, 1)}},
		{"explored", Entry{Policy: "bandit", Decision: Decision{Reason: Explored, Propensity: 0.05}, Estimate: times(2, 1)}},
		{"explored, hardly ever", Entry{Policy: "bandit", Decision: Decision{Target: Cloud, Reason: Explored, Propensity: 0.0021}, Estimate: times(2, 1)}},
		{"waited for this node", Entry{Policy: "defer", Waited: 1400 * ms, Decision: Decision{Reason: BoundLocal}, Estimate: times(0.3, 4)}},
		{"waited for the link", Entry{Policy: "defer", Waited: 200 * ms, Decision: Decision{Target: Cloud, Reason: BoundCloud}, Estimate: times(2, 0.4)}},
		{"waited as long as any may", Entry{Policy: "defer", Waited: time.Minute, Decision: Decision{Target: Cloud, Reason: LongestWait}, Estimate: times(2, 40)}},
		{"waits", Entry{Policy: "defer", Decision: Decision{Target: Cloud, Reason: Undecided}, Estimate: times(2, 4)}},
		{"waited until the stop", Entry{Policy: "defer", Waited: 3 * time.Second, Decision: Decision{Target: Cloud, Reason: LetGo}, Estimate: times(2, 4)}},
		{"failed", Entry{Policy: "cloud", Decision: Decision{Target: Cloud, Reason: Fixed}, Estimate: times(2, 1), Outcome: Outcome{Known: true, Failed: true}}},
		{"no reason", Entry{Estimate: times(2, 1)}},
	} {
		said := Explain(c.e)
		out.WriteString(c.name + ": " + said + "\n")
		require.Equal(t, 1, strings.Count(said+" ", ". "), "one sentence: %s", said)
	}
	const golden = "testdata/explain.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(out.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), out.String(), "if the new sentences are better: go test -update")
}

func TestSecondsReadWell(t *testing.T) {
	for s, want := range map[float64]string{
		0: "0 ms", 0.0000123: "12.3 µs", 0.00042: "420 µs", 0.000059: "59 µs", 0.9999: "1 s", 0.149: "0.15 s", 0.0032: "3.2 ms", 0.0873: "87 ms", 0.4: "0.4 s", 1: "1 s", 12.34: "12.3 s", 99: "99 s", 100: "1.7 min", 0.01: "10 ms", 0.1: "0.1 s", 7199: "120 min", 7200: "2 h", 150: "2.5 min", 20_000: "5.6 h",
	} {
		require.Equal(t, want, seconds(s))
	}
}

// If a resource is scarce, the explanation shows each term beside time; otherwise it is as short as ever.
func TestExplainScarceThings(t *testing.T) {
	e := Entry{Policy: "cost", Decision: Decision{Target: Cloud, Reason: CheaperCloud}, Estimate: score.Estimate{LocalTime: 1, CloudTime: 2, LocalEnergy: 1.23, CloudEnergy: 0.456, Bytes: 300_000}}
	require.NotContains(t, Explain(e), "J")
	e.Estimate.Money, e.State = 0.03, host.State{OnBattery: true, Battery: 35, MemoryStall: 12}
	require.Equal(t, "Cloud: policy cost predicts a lower cost; predicted local 1 s, cloud 2 s; the cloud costs 0.03 for 293 KB; on battery at 35 %, "+
		"local takes 1.2 J, cloud 0.46 J; tasks of the node wait for memory for 12 % of the time.", Explain(e))
	e.State.Link.Price = 0.1
	for why, want := range map[Reason]string{
		GuardMemory:  "Cloud: tasks of the node wait for memory for 12 % of the time, above the limit of 10 %; predicted local 1 s, cloud 2 s.",
		GuardBattery: "Cloud: the battery is at 35 %, below the limit of 10 %, and this takes less energy: local 1.2 J, cloud 0.46 J; predicted local 1 s, cloud 2 s.",
		GuardPrice:   "Cloud: a MB costs 0.1 at this hour, above the limit of 10; predicted local 1 s.",
	} {
		e.Decision.Reason, e.Decision.Threshold = why, 10
		require.Equal(t, want, Explain(e))
	}
	e.State.OnBattery, e.State.Battery = true, math.NaN()
	e.Decision.Reason = CheaperCloud
	require.NotContains(t, Explain(e), "NaN")
}

// A task may be dropped because of the parked tasks that it would wait for, which no prediction includes.
func TestExplainNamesTheParkedTasksOfAnOverload(t *testing.T) {
	e := Entry{Class: "a", Decision: Decision{Reason: Overload}, Estimate: score.Estimate{LocalTime: 0.01, CloudTime: 0.02}}
	require.Equal(t, `Dropped: both paths are overloaded, and class "a" gives way; predicted local 10 ms, cloud 20 ms.`, Explain(e))
	e.State.ParkedBytes = 3 << 20
	require.Equal(t, `Dropped: both paths are overloaded, and class "a" gives way; predicted local 10 ms, cloud 20 ms, besides waiting for parked tasks, of which there are 3 MB.`, Explain(e))
}
