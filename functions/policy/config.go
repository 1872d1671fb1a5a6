package policy

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"app-offload/functions/check"
)

// Config selects and tunes the policies and their guards. Only the keys of the policies in use have an effect.
type Config struct {
	// Default is the policy that decides for classes which name none: weighted, deadline, edge, cloud, random, cost,
	// bandit, ppo or defer.
	// Policy defer costs least in every world of the simulator, also where the rates under Score are wrong, as the service corrects them by what
	// tasks really took.
	Default string

	// WeightedPreset is the formula of policy weighted: "default"; "article", the published formula to the letter; or "custom",
	// for which alone the keys Size…, Complexity… and CPU… count.
	WeightedPreset string `within:"default|article|custom"`
	// WeightedThreshold is the score, 0–1, at and above which policy weighted sends a task to the cloud. 0 sends all of them.
	WeightedThreshold float64 `within:"0 1"`
	// SizeWeight is the share of the data's size in the score, 0–1. 0 leaves the size out.
	SizeWeight float64
	// SizeDirection says whether the score "rises" or "falls" as the data gets larger.
	SizeDirection string
	// SizeScaleKB is the size in KB (1,024 bytes) at which the term of the size is at its end.
	SizeScaleKB float64 `within:"0.001 1e6"`
	// ComplexityWeight is the share of the task's complexity in the score, 0–1. 0 leaves the complexity out.
	ComplexityWeight float64
	// ComplexityDirection says whether the score "rises" or "falls" as the task gets more complex.
	ComplexityDirection string
	// ComplexityScale is the complexity, up to 100, at which its term is at its end.
	ComplexityScale float64 `within:"0.001 100"`
	// CPUWeight is the share of the node's CPU load in the score, 0–1. 0 leaves the load out.
	CPUWeight float64
	// CPUDirection says whether the score "rises" or "falls" as the CPU gets busier.
	CPUDirection string
	// CPUScale is the CPU load in percent at which its term is at its end.
	CPUScale float64 `within:"0.001 100"`

	// RandomShare is the share of tasks, 0.01–0.99, that policy random sends to the cloud.
	RandomShare float64 `within:"0.01 0.99"`
	// RandomSeed is where the draws of policies random and bandit start; the same seed draws the same sequence.
	RandomSeed int

	// CostTime is the cost of using up one deadline, in the unit that all costs of policies cost and bandit share.
	CostTime float64 `within:"0 1e6"`
	// CostKappa is the multiple of its deadline, 1–100, beyond which a task costs no more time: late is late. Policy weighted leaves a target
	// that takes longer than that to the other one, if that is sooner.
	CostKappa float64 `within:"1 100"`
	// CostMiss is the cost of missing a deadline, on top of the time. 0 leaves it at the time.
	CostMiss float64 `within:"0 1e6"`
	// CostEnergy is the cost of CostJoules. 0 leaves energy out.
	CostEnergy float64 `within:"0 1e6"`
	// CostJoules is the unit of energy, J.
	CostJoules float64 `within:"1e-6 1e6"`
	// CostMoney is the cost of letting the cloud compute one task. 0 leaves money out.
	CostMoney float64 `within:"0 1e6"`
	// CostPrice is the cost of one unit of the currency of Score.MoneyPerMB. 0 leaves the price of bytes out.
	CostPrice float64 `within:"0 1e6"`
	// CostMemory is the cost of processing a task locally while all tasks of the node wait for memory all the time, less in proportion to the
	// stall that the kernel reports (PSI, memoryStall). 0 leaves memory out.
	CostMemory float64 `within:"0 1e6"`
	// CostBattery is by how many times energy costs more on an empty battery, less in proportion to its charge. 0 counts a battery as mains.
	CostBattery float64 `within:"0 1000"`
	// CostPatience is what counts as the deadline of a task that has none, s. Such a task misses nothing.
	CostPatience float64 `within:"0.001 1e6"`
	// CostShadow makes policies cost and bandit consider what a task costs those after it, and the doubt in predictions. With
	// false they are greedy, and none of the keys CostDoubt to CostLinkEase has an effect. The seconds in those keys are of a node whose
	// tasks have deadlines of about 1.4 s; where those that arrive have others, they are changed in proportion. The prices are of a node on which
	// about 2.9 tasks arrive in a deadline; where more or fewer do, they follow the square root of the arrivals.
	CostShadow bool
	// CostDoubt is the width of the doubt about a predicted lateness, as a share of the deadline, 0–10: the cost of a miss
	// rises from none to all between (1 − CostDoubt) and (1 + CostDoubt) deadlines. 0 takes predictions at their word.
	CostDoubt float64 `within:"0 10"`
	// CostTail is the cost of each further deadline beyond CostKappa of them: 0 gives up on what is late anyway, which is
	// cheapest on the whole; more bounds how late the latest become.
	CostTail float64 `within:"0 1e6"`
	// CostCaution is the factor on the predicted time of the link, 0.1–10: above 1 as goodput drops more often than it rises.
	CostCaution float64 `within:"0.1 10"`
	// CostEdgePrice is what one second of this node's time costs other tasks while none waits.
	CostEdgePrice float64 `within:"0 1e6"`
	// CostEdgeWait is by how much that price rises with each second of work that waits here.
	CostEdgeWait float64 `within:"0 1e6"`
	// CostEdgeEase is the wait in seconds, 0.001–1000000, at which the price has fallen to half, as those in a longer queue are
	// late anyway; and half of the time of a single task at which it has.
	CostEdgeEase float64 `within:"0.001 1e6"`
	// CostLinkPrice is what one second of the link's time costs other tasks while none waits.
	CostLinkPrice float64 `within:"0 1e6"`
	// CostLinkWait is by how much that price rises with each second that the link's backlog takes.
	CostLinkWait float64 `within:"0 1e6"`
	// CostLinkEase is the wait in seconds, 0.001–1000000, at which the price has fallen to half.
	CostLinkEase float64 `within:"0.001 1e6"`

	// BanditOptimism is how many widths of its confidence policy bandit takes off an uncertain time, 0–10. 0 only believes.
	BanditOptimism float64 `within:"0 10"`
	// BanditForgetting is the weight, 0.9–1, that all earlier outcomes keep with each further one. 1 never forgets.
	BanditForgetting float64 `within:"0.9 1"`
	// BanditExplore is the share, 0–0.5, of close decisions that policy bandit takes the other way in order to learn while it
	// knows nothing of that way; the more outcomes it had from there lately, the fewer. Critical tasks, and those that would
	// be late on the other way alone, are never tried with. 0 tries nothing.
	BanditExplore float64 `within:"0 0.5"`

	// PPOWeights is the file with the network of policy ppo, as offload-lab train writes it. Empty leaves its decisions to cost.
	PPOWeights string
	// PPOMargin is how far, 0–1 as a share of the range that training has seen, an input may lie outside of it before policy
	// ppo leaves the decision to cost.
	PPOMargin float64 `within:"0 1"`

	// DeferRule is the file with the rule of policy defer, as offload-lab train -env defer writes it. "" is the one that this program
	// brings along.
	DeferRule string
	// DeferTasks is how many tasks, 1–10000, may wait undecided at once under policy defer; those beyond are decided when they come.
	// However many there are, choosing one of them takes about as long.
	DeferTasks int `within:"1 10000"`
	// DeferMiB is how many MiB of data, 1–4096, they may have together; they are in memory and in the spool. However much
	// that is, a task that would let them fill more than a quarter of the spool is decided when it comes: no other may drop them.
	DeferMiB int `within:"1 4096"`
	// DeferLongest is how long a task may wait before it goes to the cloud in its turn, or stays here if a guard says so, a Go duration
	// of "1s" to "24h".
	DeferLongest string `within:"1s 24h"`
	// DeferAhead is how much predicted work may be before a task on its way for the way to count as free, a Go duration of "0s" to
	// "10s". More keeps node and link busy, less lets more be decided late. Before the link there may be up to a round trip more, for short tasks. It
	// is meant for tasks with deadlines of about 1.4 s; where those that arrive have others, it is changed in proportion.
	DeferAhead string `within:"0s 10s"`

	// DeferOrder keeps the order in which a device's tasks of a class came: a task does not leave before an earlier one that is parked, nor is it
	// processed locally before that, where an operator remembers what it has seen, as all but burn do; a model alone does not. The cloud may have
	// a task while an earlier one is still being computed here; if that fails, or its answer is hard, it leaves after the later one. With
	// false a task that gains more by a server overtakes those before it.
	DeferOrder bool

	// LinkDown is what the guard does while the link is down: "deadline" keeps tasks with a deadline here whose result is predicted within
	// CostKappa deadlines, lets later ones wait in the spool for the link, and the policy decides which of those without a deadline
	// do; "all" keeps every task here. Under a policy that binds late, tasks that "deadline" keeps are parked while the node is busy.
	LinkDown string `within:"all|deadline"`
	// BacklogLimit is the share of the spool's quota, 0–1, above which the guard keeps every task here. 1 never does.
	BacklogLimit float64 `within:"0 1"`

	// MemoryLimit is the share of time in percent, 0–100, in which tasks wait for memory (PSI, memoryStall) above which the guard sends every
	// task to the cloud while the link is up. 0 never does.
	MemoryLimit float64 `within:"0 100"`
	// BatteryLimit is the charge in percent, 0–100, below which the guard gives every task to the target that takes less energy while
	// the node runs on its battery. 0 never does.
	BatteryLimit float64 `within:"0 100"`
	// PriceLimit is the price of a MB (Score.MoneyPerMB) above which the guard keeps every task here whose result is predicted within CostKappa
	// deadlines, or CostKappa × CostPatience seconds where it has none. 0 never does.
	PriceLimit float64 `within:"0 1e9"`

	// Shadow names policies, separated by commas and at most 8, that decide along without acting; how often they agree with the
	// acting policy, and at what predicted cost, is in the status. "" runs no shadow.
	Shadow string
	// ShadowShare is the share of decisions, 0.001–1, that the shadows are shown: less costs less.
	ShadowShare float64 `within:"0.001 1"`

	// Canary is a policy that acts for a share of the devices in the place of Default; classes that name their own policy
	// keep it. It is rolled back by itself when it is worse, until something under Policy changes. "" runs no canary.
	Canary string
	// CanaryShare is the share of devices, 0.001–0.9, that the canary acts for: always the same ones, by a hash of their name.
	CanaryShare float64 `within:"0.001 0.9"`
	// CanaryMarginMiss is by how much the share of missed deadlines, 0–1, may be above the incumbent's before the canary is
	// rolled back; 0.02 is two in a hundred.
	CanaryMarginMiss float64 `within:"0 1"`
	// CanaryMarginCost is by how much the mean cost of an outcome, in the unit of the costs, may be above the incumbent's.
	CanaryMarginCost float64 `within:"0 1e6"`
	// CanaryConfidence is one less the chance, 0.5–0.9999, of ever rolling back a canary that is within both margins.
	CanaryConfidence float64 `within:"0.5 0.9999"`

	// Decisions is how many of the latest decisions are kept, 1–1000000, at about 0.6 KiB each: for the API, and until their
	// outcomes come; an outcome that comes later than that teaches nothing. A change needs a restart.
	Decisions int `within:"1 1000000"`
}

// DefaultConfig is policy bandit. Measured in the simulator it loses next to nothing against the best where predictions are
// right, and is the only one that does well where they are wrong, as they are on any gateway that is not calibrated.
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

// Validate reports every problem at once.
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
		p.Addf("Shadow", c.Shadow, "names %d policies; at most %d may decide along", n, MaxShadows)
	}
	if c.Canary != "" {
		p.OneOf("Canary", c.Canary, names()...)
		if c.Canary == c.Default {
			p.Addf("Canary", c.Canary, "is the policy in Default itself; name another one, or \"\" for none")
		}
		named = append(named, c.Canary)
	}
	if slices.Contains(named, ppoInfo.Name) {
		if err := c.Ready(ppoInfo.Name); err != nil {
			p.Addf("PPOWeights", c.PPOWeights, "%v", err)
		}
	}
}

// Ready reports in an error why a policy that exists could not decide as itself under this configuration: policy ppo without
// weights would decide as cost, and its user wants to know.
func (c Config) Ready(name string) error {
	if name != ppoInfo.Name {
		return nil
	}
	_, err := loadNetwork(c.PPOWeights)
	return err
}

// Version is a short fingerprint of everything in the configuration that a decision depends on: equal versions decide alike.
func (c Config) Version() string {
	c.Decisions, c.Shadow, c.ShadowShare = 0, "", 0
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%+v", c)))[:8]
}

// names are those of all policies.
func names() []string {
	var all []string
	for _, one := range List() {
		all = append(all, one.Name)
	}
	return all
}

// Known reports in an error whether a policy of that name exists; classes are checked with it.
func Known(name string) error {
	for _, one := range List() {
		if one.Name == name {
			return nil
		}
	}
	return fmt.Errorf("policy %q does not exist; use one of %s", name, strings.Join(names(), ", "))
}

// MaxShadows bounds what deciding along may cost.
const MaxShadows = 8

// Shadows are the names of the policies that decide along.
func (c Config) Shadows() []string {
	var all []string
	for word := range strings.SplitSeq(c.Shadow, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}
