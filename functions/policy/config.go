package policy

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"app-offload/functions/check"
)

// Config selects and configures the policies and the guards. Only the keys of the policies in use have an effect.
type Config struct {
	// Default is the policy for classes that name none: weighted, deadline, edge, cloud, random, cost, bandit, ppo or defer. Policy defer costs least in
	// every world of the simulator, also where the rates under Score are wrong, as the service corrects them by measured times.
	Default string

	// WeightedPreset is the formula of policy weighted: "default"; "article", exactly the published formula; or "custom", which uses the keys Size…,
	// Complexity… and CPU…. The other presets ignore these keys.
	WeightedPreset string `within:"default|article|custom"`
	// WeightedThreshold is the score, 0–1, at and above which policy weighted sends a task to the cloud. 0 sends every task.
	WeightedThreshold float64 `within:"0 1"`
	// SizeWeight is the weight of the data's size in the score, 0–1. 0 ignores the size.
	SizeWeight float64
	// SizeDirection is whether the score "rises" or "falls" as the data gets larger.
	SizeDirection string
	// SizeScaleKB is the size in KB (1,024 bytes) at which the size term reaches its end.
	SizeScaleKB float64 `within:"0.001 1e6"`
	// ComplexityWeight is the weight of the task's complexity in the score, 0–1. 0 ignores the complexity.
	ComplexityWeight float64
	// ComplexityDirection is whether the score "rises" or "falls" as the task gets more complex.
	ComplexityDirection string
	// ComplexityScale is the complexity, up to 100, at which the complexity term reaches its end.
	ComplexityScale float64 `within:"0.001 100"`
	// CPUWeight is the weight of the node's CPU load in the score, 0–1. 0 ignores the load.
	CPUWeight float64
	// CPUDirection is whether the score "rises" or "falls" as the CPU gets busier.
	CPUDirection string
	// CPUScale is the CPU load in percent at which the CPU term reaches its end.
	CPUScale float64 `within:"0.001 100"`

	// RandomShare is the share of tasks, 0.01–0.99, that policy random sends to the cloud.
	RandomShare float64 `within:"0.01 0.99"`
	// RandomSeed is the seed of the draws of policies random and bandit. The same seed draws the same sequence.
	RandomSeed int

	// CostTime is the cost of using up one deadline, in the unit of all costs of policies cost and bandit.
	CostTime float64 `within:"0 1e6"`
	// CostKappa is the multiple of its deadline, 1–100, beyond which a task costs no more time. Policy weighted moves a task from a target that takes
	// longer than that to the other one, if that is sooner.
	CostKappa float64 `within:"1 100"`
	// CostMiss is the cost of a missed deadline, in addition to the time. 0 counts the time only.
	CostMiss float64 `within:"0 1e6"`
	// CostEnergy is the cost of CostJoules. 0 ignores energy.
	CostEnergy float64 `within:"0 1e6"`
	// CostJoules is the unit of energy, J.
	CostJoules float64 `within:"1e-6 1e6"`
	// CostMoney is the cost of one task computed in the cloud. 0 ignores money.
	CostMoney float64 `within:"0 1e6"`
	// CostPrice is the cost of one unit of the currency of Score.MoneyPerMB. 0 ignores the price of bytes.
	CostPrice float64 `within:"0 1e6"`
	// CostMemory is the cost of processing a task locally while all tasks of the node wait for memory all the time. It is lower in proportion to the
	// stall that the kernel reports (PSI, memoryStall). 0 ignores memory.
	CostMemory float64 `within:"0 1e6"`
	// CostBattery is the additional cost of energy on an empty battery, as a multiple of the normal cost; it falls in proportion to the charge. 0 treats a
	// battery like mains power.
	CostBattery float64 `within:"0 1000"`
	// CostPatience is the deadline assumed for a task without one, s. Such a task cannot miss a deadline.
	CostPatience float64 `within:"0.001 1e6"`
	// CostShadow lets policies cost and bandit consider the delay that a task causes to later ones, and the uncertainty of predictions. With false they
	// are greedy, and none of the keys CostDoubt to CostLinkEase has an effect. The seconds in those keys are of a node whose tasks have deadlines of
	// about 1.4 s; with other deadlines they are scaled in proportion. The prices are of a node on which about 2.9 tasks arrive within a deadline; with
	// another arrival rate they scale with its square root.
	CostShadow bool
	// CostDoubt is the uncertainty of a predicted lateness, as a share of the deadline, 0–10: the cost of a miss rises from zero to full between (1 −
	// CostDoubt) and (1 + CostDoubt) deadlines. 0 trusts predictions.
	CostDoubt float64 `within:"0 10"`
	// CostTail is the cost of each further deadline beyond CostKappa of them. 0 gives no priority to tasks that are late anyway, which is cheapest
	// overall; a larger value bounds how late the latest tasks become.
	CostTail float64 `within:"0 1e6"`
	// CostCaution is the factor on the predicted link time, 0.1–10: above 1, as goodput drops more often than it rises.
	CostCaution float64 `within:"0.1 10"`
	// CostEdgePrice is the cost to other tasks of one second of this node's time while its queue is empty.
	CostEdgePrice float64 `within:"0 1e6"`
	// CostEdgeWait is the increase of that price with each second of work in the local queue.
	CostEdgeWait float64 `within:"0 1e6"`
	// CostEdgeEase is the wait in seconds, 0.001–1000000, at which the price has fallen to half, as the tasks in a longer queue are late anyway. It is
	// also half of the time of a single task at which the price has fallen to half.
	CostEdgeEase float64 `within:"0.001 1e6"`
	// CostLinkPrice is the cost to other tasks of one second of the link's time while it has no backlog.
	CostLinkPrice float64 `within:"0 1e6"`
	// CostLinkWait is the increase of that price with each second that the link's backlog takes.
	CostLinkWait float64 `within:"0 1e6"`
	// CostLinkEase is the wait in seconds, 0.001–1000000, at which the price has fallen to half.
	CostLinkEase float64 `within:"0.001 1e6"`

	// BanditOptimism is the number of confidence widths that policy bandit subtracts from an uncertain time, 0–10. 0 subtracts nothing.
	BanditOptimism float64 `within:"0 10"`
	// BanditForgetting is the weight, 0.9–1, that all earlier outcomes keep with each further one. 1 never forgets.
	BanditForgetting float64 `within:"0.9 1"`
	// BanditExplore is the largest share, 0–0.5, of close decisions for which policy bandit takes the other target in order to learn. The share falls
	// with the number of recent outcomes of that target. Critical tasks, and tasks that would be late on the other target only, are never used to
	// explore. 0 never explores.
	BanditExplore float64 `within:"0 0.5"`

	// PPOWeights is the file with the network of policy ppo, as offload-lab train writes it. Empty leaves its decisions to cost.
	PPOWeights string
	// PPOMargin is how far an input may be outside of the range seen in training, 0–1 as a share of that range, before policy ppo leaves the decision to
	// cost.
	PPOMargin float64 `within:"0 1"`

	// DeferRule is the file with the rule of policy defer, as offload-lab train -env defer writes it. "" is the built-in rule.
	DeferRule string
	// DeferTasks is the maximum number of parked tasks, 1–10000, under policy defer. Further tasks are decided on arrival. The time it takes to choose a
	// parked task hardly depends on their number.
	DeferTasks int `within:"1 10000"`
	// DeferMiB is the maximum size of the data of all parked tasks in MiB, 1–4096, both in memory and in the spool. In any case a task that would let
	// parked tasks fill more than a quarter of the spool is decided on arrival: no other task may displace them.
	DeferMiB int `within:"1 4096"`
	// DeferLongest is the longest time a task may be parked before it goes to the cloud in its turn, or stays local if a guard says so, a Go duration of
	// "1s" to "24h".
	DeferLongest string `within:"1s 24h"`
	// DeferAhead is the predicted work ahead of a task up to which its target counts as free, a Go duration of "0s" to "10s". A larger value keeps node
	// and link busy, a smaller one lets more tasks be decided late. The link counts as free up to a round trip earlier, for short tasks. The value is
	// for tasks with deadlines of about 1.4 s; with other deadlines it is scaled in proportion.
	DeferAhead string `within:"0s 10s"`

	// DeferOrder keeps the order in which a device's tasks of a class arrived: a task does not leave before an earlier one that is parked. Nor is it
	// processed locally before that one, where an operator keeps state, as all but burn do; a model alone does not. The cloud may receive a task while
	// an earlier one is still being computed locally; if that one fails, or its answer is hard, it leaves after the later one. With false a task
	// that gains more by a server overtakes earlier ones.
	DeferOrder bool

	// LinkDown is the guard's rule while the link is down. "deadline" keeps a task with a deadline local if its result is predicted within CostKappa
	// deadlines, spools later ones for the link, and leaves tasks without a deadline to the policy. "all" keeps every task local. Under a policy that
	// parks tasks, those that "deadline" keeps are parked while the node is busy.
	LinkDown string `within:"all|deadline"`
	// BacklogLimit is the share of the spool's quota, 0–1, above which the guard keeps every task local. 1 disables it.
	BacklogLimit float64 `within:"0 1"`

	// MemoryLimit is the share of time in percent, 0–100, that tasks wait for memory (PSI, memoryStall) above which the guard sends every task to the
	// cloud while the link is up. 0 disables it.
	MemoryLimit float64 `within:"0 100"`
	// BatteryLimit is the charge in percent, 0–100, below which the guard gives every task to the target that takes less energy while the node runs on
	// battery. 0 disables it.
	BatteryLimit float64 `within:"0 100"`
	// PriceLimit is the price of a MB (Score.MoneyPerMB) above which the guard keeps a task local if its result is predicted within CostKappa deadlines,
	// or within CostKappa × CostPatience seconds if it has no deadline. 0 disables it.
	PriceLimit float64 `within:"0 1e9"`

	// Shadow names policies, separated by commas and at most 8, that decide alongside without effect. The status shows how often they agree with the
	// acting policy, and at what predicted cost. "" runs no shadow.
	Shadow string
	// ShadowShare is the share of decisions, 0.001–1, that the shadows also make. A smaller share costs less.
	ShadowShare float64 `within:"0.001 1"`

	// Canary is a policy that acts for a share of the devices in place of Default; classes that name their own policy keep it. It is rolled back
	// automatically when it is worse, until something under Policy changes. "" runs no canary.
	Canary string
	// CanaryShare is the share of devices, 0.001–0.9, that the canary acts for: always the same ones, by a hash of their name.
	CanaryShare float64 `within:"0.001 0.9"`
	// CanaryMarginMiss is the difference to the incumbent's share of missed deadlines, 0–1, up to which the canary is not rolled back; 0.02 is two in a
	// hundred.
	CanaryMarginMiss float64 `within:"0 1"`
	// CanaryMarginCost is the same for the mean cost of an outcome, in the unit of the costs.
	CanaryMarginCost float64 `within:"0 1e6"`
	// CanaryConfidence is one minus the probability, 0.5–0.9999, of ever rolling back a canary that is within both margins.
	CanaryConfidence float64 `within:"0.5 0.9999"`

	// Decisions is the number of latest decisions kept, 1–1000000, at about 0.6 KiB each: for the API, and until their outcomes arrive. An outcome that
	// arrives later teaches nothing. A change needs a restart.
	Decisions int `within:"1 1000000"`
}

// DefaultConfig selects policy defer. See Config.Default.
func DefaultConfig() Config {
	return Config{
		Default:        deferInfo.Name,
		WeightedPreset: "default", WeightedThreshold: 0.5,
		SizeWeight: 0.3, SizeDirection: falls, SizeScaleKB: 1024,
		ComplexityWeight: 0.5, ComplexityDirection: rises, ComplexityScale: 100,
		CPUWeight: 0.2, CPUDirection: rises, CPUScale: 100,
		RandomShare: 0.5, RandomSeed: 1,
		CostTime: 1, CostKappa: 3, CostMiss: 1, CostEnergy: 0.1, CostJoules: 2, CostMoney: 0.05, CostPrice: 1, CostMemory: 1, CostBattery: 2, CostPatience: 10,
		CostShadow: true, CostDoubt: 9, CostTail: 0.003, CostCaution: 3.26,
		CostEdgePrice: 2.3, CostEdgeWait: 3.1, CostEdgeEase: 3.4,
		CostLinkPrice: 1.2, CostLinkWait: 0.14, CostLinkEase: 3.9,
		BanditOptimism: 0.1, BanditForgetting: 0.995, BanditExplore: 0.01,
		PPOWeights: "res/policies/ppo.json", PPOMargin: 0.1,
		DeferTasks: 1000, DeferMiB: 32, DeferLongest: "10m", DeferAhead: "20ms", DeferOrder: true,
		LinkDown: "deadline", BacklogLimit: 0.9,
		ShadowShare: 0.1, CanaryShare: 0.1, CanaryMarginMiss: 0.02, CanaryMarginCost: 0.05, CanaryConfidence: 0.99,
		Decisions: 4096,
	}
}

// Validate reports every problem, not only the first.
func (c Config) Validate() error {
	p := check.Fields("Policy", c)
	p.OneOf("Default", c.Default, names()...)
	for _, t := range []struct {
		name, direction string
		weight          float64
	}{{"Size", c.SizeDirection, c.SizeWeight}, {"Complexity", c.ComplexityDirection, c.ComplexityWeight}, {"CPU", c.CPUDirection, c.CPUWeight}} {
		check.Range(p, t.name+"Weight", t.weight, 0, 1)
		p.OneOf(t.name+"Direction", t.direction, rises, falls)
	}
	if _, err := loadRule(c.DeferRule); err != nil {
		p.Addf("DeferRule", c.DeferRule, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	c.validateCompany(p)
	return p.Err()
}

// validateCompany checks the acting policy, the shadows and the canary: each must exist and be ready to decide.
func (c Config) validateCompany(p *check.Problems) {
	named := append(c.Shadows(), c.Default)
	for _, name := range c.Shadows() {
		p.OneOf("Shadow", name, names()...)
	}
	if n := len(c.Shadows()); n > MaxShadows {
		p.Addf("Shadow", c.Shadow, "names %d policies; the maximum is %d", n, MaxShadows)
	}
	if c.Canary != "" {
		p.OneOf("Canary", c.Canary, names()...)
		if c.Canary == c.Default {
			p.Addf("Canary", c.Canary, "is the same as Default; name another policy, or \"\" for none")
		}
		named = append(named, c.Canary)
	}
	if slices.Contains(named, ppoInfo.Name) {
		if err := c.Ready(ppoInfo.Name); err != nil {
			p.Addf("PPOWeights", c.PPOWeights, "%v", err)
		}
	}
}

// Ready returns an error if an existing policy could not decide as itself under this configuration: policy ppo without weights would silently decide
// as cost.
func (c Config) Ready(name string) error {
	if name != ppoInfo.Name {
		return nil
	}
	_, err := loadNetwork(c.PPOWeights)
	return err
}

// Version is a short fingerprint of every setting that a decision depends on: equal versions decide alike.
func (c Config) Version() string {
	c.Decisions, c.Shadow, c.ShadowShare = 0, "", 0
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%+v", c)))[:8]
}

// names returns the names of all policies.
func names() []string {
	var all []string
	for _, one := range List() {
		all = append(all, one.Name)
	}
	return all
}

// Known returns an error if no policy of that name exists. The check of classes uses it.
func Known(name string) error {
	for _, one := range List() {
		if one.Name == name {
			return nil
		}
	}
	return fmt.Errorf("policy %q does not exist; use one of %s", name, strings.Join(names(), ", "))
}

// MaxShadows bounds the cost of shadows.
const MaxShadows = 8

// Shadows returns the names of the shadow policies.
func (c Config) Shadows() []string {
	var all []string
	for word := range strings.SplitSeq(c.Shadow, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}
