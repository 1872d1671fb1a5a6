package decide

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

func TestGuards(t *testing.T) {
	secret := &task.Class{NeverLeave: true}
	up := host.Link{Up: true}
	full := host.Link{Up: true, BacklogShare: 0.95}
	for _, c := range []struct {
		name     string
		linkDown string
		class    *task.Class
		deadline time.Duration
		link     host.Link
		want     decision.Reason // ReasonNone: the policy decides
	}{
		{"nothing to guard against", "all", nil, 0, up, decision.ReasonNone},
		{"down", "all", nil, 0, host.Link{}, decision.GuardLinkDown},
		{"down, and only deadlines count: it waits", "deadline", nil, 0, host.Link{}, decision.ReasonNone},
		{"down, and it cannot wait", "deadline", nil, time.Second, host.Link{}, decision.GuardLinkDown},
		{"spool nearly full", "all", nil, 0, full, decision.GuardBacklog},
		{"spool at its limit", "all", nil, 0, host.Link{Up: true, BacklogShare: 0.9}, decision.ReasonNone},
		{"down, it could wait, but the spool is nearly full", "deadline", nil, 0, host.Link{BacklogShare: 0.95}, decision.GuardBacklog},
		{"never leave", "all", secret, 0, up, decision.GuardNeverLeave},
		{"never leave is said before the link", "all", secret, 0, host.Link{}, decision.GuardNeverLeave},
	} {
		cfg := configured(func(cfg *policy.Config) { cfg.LinkDown, cfg.Default = c.linkDown, "cloud" })
		d, err := NewDecider(cfg)
		require.NoError(t, err)
		got, by := d.Decide(&task.Task{Class: c.class, Deadline: c.deadline}, &score.Estimate{}, &host.State{Link: c.link})
		require.Equal(t, "cloud", by, c.name)
		if c.want == decision.ReasonNone {
			require.Equal(t, decision.Cloud, got.Target, c.name)
			continue
		}
		require.Equal(t, decision.Local, got.Target, c.name)
		require.Equal(t, c.want, got.Reason, c.name)
		require.True(t, got.Reason.IsGuard())
		require.InDelta(t, 1, got.Propensity, 0)
	}
}

// A task that cannot finish locally in time either waits for the link: in the local queue it would make all tasks behind it late, also once the link
// is back.
func TestLateWorkDoesNotFillTheQueueWhileTheLinkIsDown(t *testing.T) {
	down := &host.State{Time: int64(time.Hour)}
	for _, c := range []struct {
		linkDown    string
		took        float64 // s here, of a task with a deadline of 2 s that has waited for 1 s
		backlog     float64
		want        decision.Target
		explanation string
	}{
		{"deadline", 0.5, 0, decision.Local, "predicted local"},
		{"deadline", 4.9, 0, decision.Local, "predicted local"}, // late, but within three deadlines
		{"deadline", 5.1, 0, decision.Cloud, "waits in the spool"},
		{"deadline", 5.1, 0.95, decision.Local, "predicted local"}, // where there is no room for it
		{"all", 5.1, 0, decision.Local, "predicted local"},
	} {
		d, err := NewDecider(configured(func(cfg *policy.Config) { cfg.LinkDown = c.linkDown }))
		require.NoError(t, err)
		s, e := *down, score.Estimate{LocalTime: c.took, CloudTime: math.Inf(1)}
		s.Link.BacklogShare = c.backlog
		tk := &task.Task{Deadline: 2 * time.Second, Received: s.Time - int64(time.Second)}
		got, by := d.Decide(tk, &e, &s)
		require.Equal(t, c.want, got.Target, "%+v", c)
		require.Equal(t, decision.GuardLinkDown, got.Reason)
		require.Equal(t, c.linkDown == "deadline", d.LeavesOpen(got.Reason))
		entry := decision.NewEntry(tk, &e, &s, got, by, "")
		require.Contains(t, decision.Explain(entry), c.explanation)
	}
}

// A task judged hard goes to the cloud immediately: parked and bound elsewhere it would waste its budget, and judged again it would use it twice.
func TestWhatIsJudgedHardDoesNotWait(t *testing.T) {
	d, err := NewDecider(policy.DefaultConfig())
	require.NoError(t, err)
	require.False(t, d.LeavesOpen(decision.JudgedHard))
	require.False(t, d.LeavesOpen(decision.NoOperator), "to ask again whether it is read counts it twice")
	require.True(t, d.LeavesOpen(decision.CheaperLocal))
}

func TestNoPolicyGetsPastTheGuards(t *testing.T) {
	d, err := NewDecider(policy.DefaultConfig())
	require.NoError(t, err)
	for _, info := range policy.List() {
		tk := &task.Task{Class: &task.Class{NeverLeave: true}, Complexity: 100}
		got, by := d.DecideBy(info.Name, tk, &score.Estimate{LocalTime: 9}, loaded(100))
		require.Equal(t, decision.Local, got.Target)
		require.Equal(t, info.Name, by)
	}
}

func TestDeciderPicksThePolicyOfTheClass(t *testing.T) {
	d, err := NewDecider(configured(func(c *policy.Config) { c.Default = "edge" }))
	require.NoError(t, err)
	for class, want := range map[*task.Class]string{
		nil: "edge", {}: "edge", {Policy: "cloud"}: "cloud", {Policy: "gone"}: "edge",
	} {
		_, by := d.Decide(&task.Task{Class: class}, &score.Estimate{}, loaded(0))
		require.Equal(t, want, by)
	}
	require.Equal(t, configured(func(c *policy.Config) { c.Default = "edge" }).Version(), d.Version())
	require.Empty(t, d.OnTrial(&decision.Entry{}), "there is no canary")
	require.Error(t, policy.Known("gone"))
	require.NoError(t, policy.Known("cloud"))
	_, err = NewDecider(policy.Config{})
	require.Error(t, err)
}

func configured(edits ...func(*policy.Config)) policy.Config {
	c := policy.DefaultConfig()
	for _, edit := range edits {
		edit(&c)
	}
	return c
}

func loaded(cpu float64) *host.State { return &host.State{CPU: cpu, Link: host.Link{Up: true}} }
