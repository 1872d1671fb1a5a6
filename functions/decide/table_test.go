package decide

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// parts are rules of policy edge with a class for each of some policies, and one for a model. No operator reads tasks named "unread", and tasks named
// "hard" are judged hard.
func parts(t *testing.T, edits ...func(*Parts)) Parts {
	t.Helper()
	p := Parts{Classes: map[string]task.ClassConfig{}, Largest: 1 << 20, Policy: policy.DefaultConfig(), Configuration: "c1"}
	p.Policy.Default = "edge"
	for name, edit := range map[string]func(*task.ClassConfig){
		"default": nil, "cloudy": func(c *task.ClassConfig) { c.Policy = "cloud" }, "stays": func(c *task.ClassConfig) { c.NeverLeave = true },
		"seen": func(c *task.ClassConfig) { c.Model = "kws" },
	} {
		c := task.DefaultClassConfig()
		c.MatchSource = name
		if name == "default" {
			c.MatchSource = ""
		}
		if edit != nil {
			edit(&c)
		}
		p.Classes[name] = c
	}
	m, err := score.New(score.DefaultConfig())
	require.NoError(t, err)
	p.Model = m
	p.Local = Local{Reads: func(t *task.Task) bool { return t.EventID != "unread" }, Hard: func(t *task.Task) bool { return t.EventID == "hard" }}
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func rules(t *testing.T, edits ...func(*Parts)) *Rules {
	t.Helper()
	r, err := New(parts(t, edits...), nil)
	require.NoError(t, err)
	return r
}

func linked() *host.State {
	return &host.State{Time: 1e9, Cores: 2, Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.02}}
}

func (r *Rules) a(class, id string) *Case {
	return &Case{Task: &task.Task{EventID: id, Of: 1, Class: r.Class(class), Complexity: 10, Nominal: 1000, Received: 1e9}}
}

// Decide, DecideBy and DecideAgain set the estimate, the decision and the policy of a case; Decide sets them in the task as well.
func TestAllThatDecidesFillsInTheCase(t *testing.T) {
	r := rules(t)
	for _, row := range []struct {
		class, id string
		want      decision.Target
		policy    string
		reason    decision.Reason
	}{
		{"default", "e", decision.Local, "edge", decision.Fixed},
		{"cloudy", "e", decision.Cloud, "cloud", decision.Fixed},
		{"default", "unread", decision.Cloud, "edge", decision.NoOperator},
		{"stays", "unread", decision.Local, "edge", decision.GuardNeverLeave},
		{"seen", "e", decision.Local, "edge", decision.Fixed},
		{"seen", "hard", decision.Cloud, "edge", decision.JudgedHard},
		{"default", "hard", decision.Local, "edge", decision.Fixed}, // without a model nothing is hard
	} {
		c, again, by := r.a(row.class, row.id), r.a(row.class, row.id), r.a(row.class, row.id)
		r.Decide(c, linked())
		r.DecideAgain(again, linked())
		r.DecideBy(r.Class(row.class).Policy, by, linked())
		for how, one := range map[string]*Case{"Decide": c, "DecideAgain": again, "DecideBy": by} {
			require.Equal(t, row.want, one.Decision.Target, "%s %+v", how, row)
			require.Equal(t, row.policy, one.Policy, "%s %+v", how, row)
			require.Equal(t, row.reason, one.Decision.Reason, "%s %+v", how, row)
			require.InDelta(t, 1, one.Decision.Propensity, 0)
			require.Positive(t, one.Estimate.LocalTime, how)
			require.Positive(t, one.Estimate.CloudTime, how)
		}
		require.Equal(t, row.policy, c.Task.Policy)
		require.InDelta(t, c.Decision.Score, c.Task.Score, 0)
		require.Empty(t, again.Task.Policy)
	}
	c := r.a("cloudy", "e")
	r.Decide(c, linked())
	require.InDelta(t, 1, c.Task.Score, 0)
	soft := rules(t, func(p *Parts) { p.Local.Hard = nil })
	h := soft.a("seen", "hard")
	soft.Decide(h, linked())
	require.Equal(t, decision.Local, h.Decision.Target, "no judge is needed")
}

// A task that no operator reads leaves in spite of a draw, so its propensity is 1. Tasks that stay, and certain decisions, are unchanged, and so is
// the task of another program, whose data are not on this node.
func TestWhatOverrulesAPolicy(t *testing.T) {
	r := rules(t)
	drawn := func(target decision.Target) decision.Decision {
		return decision.Decision{Target: target, Reason: decision.Drawn, Propensity: 0.4}
	}
	for name, row := range map[string]struct {
		class, id  string
		decided    decision.Decision
		target     decision.Target
		reason     decision.Reason
		propensity float64
	}{
		"read, local":         {"default", "e", drawn(decision.Local), decision.Local, decision.Drawn, 0.4},
		"read, cloud":         {"default", "e", drawn(decision.Cloud), decision.Cloud, decision.Drawn, 0.4},
		"unread, local":       {"default", "unread", drawn(decision.Local), decision.Cloud, decision.NoOperator, 1},
		"unread, cloud":       {"default", "unread", drawn(decision.Cloud), decision.Cloud, decision.Drawn, 1},
		"unread, stays":       {"stays", "unread", drawn(decision.Local), decision.Local, decision.Drawn, 0.4},
		"hard, local":         {"seen", "hard", drawn(decision.Local), decision.Cloud, decision.JudgedHard, 1},
		"hard, cloud":         {"seen", "hard", drawn(decision.Cloud), decision.Cloud, decision.Drawn, 0.4},
		"another's":           {"", "unread", drawn(decision.Local), decision.Local, decision.Drawn, 0.4},
		"certainly the cloud": {"default", "unread", decision.Decision{Target: decision.Cloud, Reason: decision.Fixed, Propensity: 1}, decision.Cloud, decision.Fixed, 1},
	} {
		c := r.a(row.class, row.id)
		c.Decision = row.decided
		r.overrule(c)
		require.Equal(t, decision.Decision{Target: row.target, Reason: row.reason, Propensity: row.propensity}, c.Decision, name)
	}
}

// The guards decide the tasks that they apply to, and leave all others unchanged.
func TestTheGuardsAlone(t *testing.T) {
	r := rules(t, func(p *Parts) { p.Policy.LinkDown = "all" })
	was := decision.Decision{Target: decision.Cloud, Reason: decision.Drawn, Propensity: 0.4}
	c := r.a("default", "e")
	c.Decision = was
	r.Guard(c, linked())
	require.Equal(t, was, c.Decision)
	r.Guard(c, &host.State{})
	require.Equal(t, [2]any{decision.Local, decision.GuardLinkDown}, [2]any{c.Decision.Target, c.Decision.Reason})
	u := r.a("default", "unread")
	u.Decision = was
	r.Guard(u, &host.State{})
	require.Equal(t, [2]any{decision.Cloud, decision.NoOperator}, [2]any{u.Decision.Target, u.Decision.Reason}, "what no operator reads waits for the link")
}

// A task may be parked if its policy parks tasks and the decision leaves it open, and is parked while its target is busy; a task kept because the
// link is down waits for the node.
func TestWhoMayWait(t *testing.T) {
	r := rules(t, func(p *Parts) { p.Policy.Default, p.Policy.LinkDown = "defer", "deadline" })
	busy := linked()
	busy.QueueCycles, busy.Link.BacklogBytes = 1e6, 1e9
	busyNode, busyLink := linked(), linked()
	busyNode.QueueCycles, busyLink.Link.BacklogBytes = 1e6, 1e9
	at := func(target decision.Target, why decision.Reason) decision.Decision {
		return decision.Decision{Target: target, Reason: why, Propensity: 1}
	}
	for name, row := range map[string]struct {
		class, id, policy string
		decided           decision.Decision
		may               bool
		waits             [4]bool // idle, busy, busy node, busy link
	}{
		"local":               {"default", "e", "defer", at(decision.Local, decision.CheaperLocal), true, [4]bool{false, true, true, false}},
		"cloud":               {"default", "e", "defer", at(decision.Cloud, decision.CheaperCloud), true, [4]bool{false, true, false, true}},
		"kept, the link down": {"default", "e", "defer", at(decision.Cloud, decision.GuardLinkDown), true, [4]bool{false, true, true, false}},
		"another policy":      {"default", "e", "edge", at(decision.Local, decision.CheaperLocal), false, [4]bool{}},
		"stays":               {"stays", "e", "defer", at(decision.Local, decision.CheaperLocal), false, [4]bool{}},
		"unread":              {"default", "unread", "defer", at(decision.Cloud, decision.CheaperCloud), false, [4]bool{}},
		"hard":                {"default", "e", "defer", at(decision.Cloud, decision.JudgedHard), false, [4]bool{}},
		"reduced":             {"default", "e", "defer", at(decision.Local, decision.Reduced), false, [4]bool{}},
	} {
		c := r.a(row.class, row.id)
		c.Policy, c.Decision = row.policy, row.decided
		require.Equal(t, row.may, r.MayWait(c), name)
		for i, s := range []*host.State{linked(), busy, busyNode, busyLink} {
			require.Equal(t, row.waits[i], r.Waits(c, s), "%s, state %d", name, i)
		}
		require.Equal(t, row.decided, c.Decision, "asking changes nothing")
	}
	busyModels := linked()
	busyModels.ModelSeconds = 1e6
	for class, want := range map[string]bool{"seen": true, "default": false} {
		c := r.a(class, "e")
		c.Policy, c.Decision = "defer", at(decision.Local, decision.CheaperLocal)
		require.Equal(t, want, r.Waits(c, busyModels), "class %s, the models are busy", class)
	}
	none := rules(t, func(p *Parts) { p.Only = policy.All(p.Policy)[0] })
	c := none.a("default", "e")
	none.Decide(c, linked())
	require.False(t, none.MayWait(c), "no policy binds late")
}

// A task for a model waits in the queue of the models, others in that of the operators.
func TestWhichQueueATaskSees(t *testing.T) {
	r := rules(t)
	s := linked()
	s.QueueTasks, s.QueueCycles, s.ModelTasks, s.ModelSeconds = 3, 500, 7, 9
	require.Same(t, s, r.Seen(&task.Task{}, s))
	require.Same(t, s, r.Seen(&task.Task{Class: r.Class("default")}, s))
	seen := r.Seen(&task.Task{Class: r.Class("seen")}, s)
	require.Equal(t, 7, seen.QueueTasks)
	require.NotEqual(t, s.QueueCycles, seen.QueueCycles)
	require.Equal(t, 3, s.QueueTasks, "the state itself stays")
}

// Rules know their classes and the policies in charge, and continue with the counts of the previous rules.
func TestRules(t *testing.T) {
	shadowed := func(p *Parts) {
		p.Policy.Shadow, p.Policy.ShadowShare, p.Policy.Canary, p.Policy.CanaryShare = "cloud", 1, "cost", 0.5
	}
	r := rules(t, shadowed, func(p *Parts) { p.Largest = 4321 })
	for name, want := range map[string]bool{"edge": true, "cloud": true, "cost": true, "bandit": false, "defer": false} {
		require.Equal(t, want, r.InCharge(name), name)
	}
	require.Nil(t, r.Class("unknown"))
	require.Equal(t, 4321, r.Class("default").Largest)
	require.Equal(t, "c1", r.Configuration)
	for range 3 {
		r.Decide(r.a("default", "e"), linked())
	}
	r.DecideAgain(r.a("default", "e"), linked())
	r.DecideBy("edge", r.a("default", "e"), linked())
	require.EqualValues(t, 3, r.Shadows()[0].Decisions, "shadows look at arrivals alone")
	next, err := New(parts(t, shadowed), r)
	require.NoError(t, err)
	require.EqualValues(t, 3, next.Shadows()[0].Decisions)
	require.Zero(t, rules(t, shadowed).Shadows()[0].Decisions)

	sides := map[decision.Arm]map[string]bool{}
	for i := range 100 {
		c := r.a("default", "e")
		c.Task.Device = fmt.Sprint(i)
		r.Decide(c, linked())
		again := r.a("default", "e")
		again.Task.Device = c.Task.Device
		r.DecideAgain(again, linked())
		require.Equal(t, [2]any{c.Policy, c.Decision.Arm}, [2]any{again.Policy, again.Decision.Arm})
		if sides[c.Decision.Arm] == nil {
			sides[c.Decision.Arm] = map[string]bool{}
		}
		sides[c.Decision.Arm][c.Policy] = true
		own := r.a("cloudy", "e")
		own.Task.Device = c.Task.Device
		r.Decide(own, linked())
		require.Equal(t, [2]any{"cloud", decision.NoArm}, [2]any{own.Policy, own.Decision.Arm}, "a class with a policy of its own is in no comparison")
	}
	require.Equal(t, map[decision.Arm]map[string]bool{decision.Canary: {"cost": true}, decision.Incumbent: {"edge": true}}, sides)

	only := rules(t, func(p *Parts) { p.Only = policy.All(p.Policy)[0] })
	o := only.a("cloudy", "e")
	only.Decide(o, linked())
	require.Equal(t, policy.All(policy.DefaultConfig())[0].Name(), o.Policy, "it decides in the place of all")
	_, on := only.Canary()
	require.False(t, on)
	require.Empty(t, only.Shadows())

	for want, edit := range map[string]func(*Parts){
		"building the classes":  func(p *Parts) { p.Classes["a"] = task.ClassConfig{MatchDevice: "[", Priority: 99} },
		"building the policies": func(p *Parts) { p.Policy.LinkDown = "never" },
	} {
		_, err := New(parts(t, edit), nil)
		require.ErrorContains(t, err, want)
		_, err = New(parts(t, edit, func(p *Parts) { p.Only = policy.All(policy.DefaultConfig())[0] }), nil)
		require.ErrorContains(t, err, want)
	}
}

// A question is checked up to its bounds, and decided by the policy it names for a task that arrives now.
func TestQuestions(t *testing.T) {
	day := float64(24 * time.Hour / time.Millisecond)
	for _, row := range []struct {
		q    Question
		want string
	}{
		{Question{}, ""},
		{Question{SizeKB: maxQuestionKB, Complexity: 100, DeadlineMS: day, Policy: "cost"}, ""},
		{Question{SizeKB: -0.001}, "dataSize"},
		{Question{SizeKB: maxQuestionKB + 1}, "dataSize"},
		{Question{Complexity: -0.001}, "complexity"},
		{Question{Complexity: 100.001}, "complexity"},
		{Question{DeadlineMS: -1}, "deadline"},
		{Question{DeadlineMS: day + 1}, "deadline"},
		{Question{Policy: "luck"}, "luck"},
	} {
		if err := row.q.Check(); row.want == "" {
			require.NoError(t, err, "%+v", row.q)
		} else {
			require.ErrorContains(t, err, row.want, "%+v", row.q)
		}
	}
	r := rules(t)
	for name, want := range map[string]string{"": "edge", " cloud ": "cloud"} {
		c := r.Answer(Question{SizeKB: 2, Complexity: 7, DeadlineMS: 1500, Policy: name}, linked())
		require.Equal(t, want, c.Policy)
		require.Equal(t, [2]int{2048, 1}, [2]int{c.Task.Size(), c.Task.Of})
		require.Equal(t, 1500*time.Millisecond, c.Task.Deadline)
		require.InDelta(t, 7, c.Task.Complexity, 0)
		require.EqualValues(t, 1e9, c.Task.Received)
		require.NotEqual(t, c.Task.EventID, r.Answer(Question{}, linked()).Task.EventID)
		require.Positive(t, c.Estimate.LocalTime)
	}
}
