package trial

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// Canary is a policy that acts for a share of the devices, in place of the default one; classes that name a policy keep it. A hash of the device's
// name selects it: the same devices after a restart, and those of a smaller share are among those of a larger one. The propensity is that of the
// acting policy: given the device, nothing else is drawn.
type Canary struct {
	policy policy.Policy
	share  float64
	*trial
}

// CanaryCount is the state of the comparison.
type CanaryCount struct {
	Policy     string   `json:"policy"`
	Share      float64  `json:"share"`   // of the devices
	Version    string   `json:"version"` // of the configuration on trial
	RolledBack bool     `json:"rolledBack"`
	Reason     string   `json:"reason"`
	Canary     ArmCount `json:"canary"`
	Incumbent  ArmCount `json:"incumbent"`
}

// ArmCount is one side of the comparison.
type ArmCount struct {
	Outcomes uint64  `json:"outcomes"`
	Misses   uint64  `json:"misses"`
	Cost     float64 `json:"cost"` // sum
}

// trial compares the canary with the incumbent, and rolls it back when it is worse.
//
// Outcomes are compared in pairs: as soon as both arms have outcomes of the same class, the difference of their means is one observation, so that
// differences between hours or classes are in both. Each observation is a bet in [−1, 1] against the hypothesis that the canary is no worse than the
// margin allows; see wager. A device's own characteristics are drawn with its arm, which the margin has to allow for.
type trial struct {
	rolled atomic.Bool
	worst  float64 // cost that counts as 1
	judge  *policy.Judge

	mu      sync.Mutex
	count   CanaryCount
	waiting map[string]*pair // by class
	miss    wager
	cost    wager
}

// pair collects outcomes of a class until both arms have some; by Arm.
type pair struct{ n, misses, cost [3]float64 }

func NewCanary(c policy.Config, judge *policy.Judge, made map[string]policy.Policy) *Canary {
	if c.Canary == "" {
		return nil
	}
	p := made[c.Canary]
	t := &trial{worst: judge.Worst(), judge: judge, waiting: map[string]*pair{}, count: CanaryCount{Policy: p.Name(), Share: c.CanaryShare, Version: c.Version()}}
	alpha := (1 - c.CanaryConfidence) / 2 // half for each of the two tests
	t.miss, t.cost = newWager(c.CanaryMarginMiss, alpha), newWager(c.CanaryMarginCost/t.worst, alpha)
	return &Canary{policy: p, share: c.CanaryShare, trial: t}
}

// Name is the name of the policy on trial.
func (c *Canary) Name() string { return c.policy.Name() }

// Arm returns the side of a device. After a roll-back it is NoArm.
func (c *Canary) Arm(device string) decision.Arm {
	switch {
	case c == nil || c.rolled.Load():
		return decision.NoArm
	case place(device) < c.share:
		return decision.Canary
	}
	return decision.Incumbent
}

// place maps a name onto [0,1): FNV-1a, whose bits the finalizer of SplitMix64 then mixes.
func place(device string) float64 {
	h := uint64(14695981039346656037)
	for i := range len(device) {
		h = (h ^ uint64(device[i])) * 1099511628211
	}
	return decision.Uniform(h, 1)
}

// foreign reports whether no policy chose the target of a task.
func foreign(why decision.Reason) bool {
	return why.IsOverPolicies() || why == decision.NoOperator || why == decision.JudgedHard
}

// Observe adds an outcome. If it rolls the canary back, it returns the reason, once.
func (t *trial) Observe(e *decision.Entry) (verdict string) {
	if e.Arm == decision.NoArm || e.Overdue || foreign(e.Decision.Reason) || t.rolled.Load() || e.Version != t.count.Version {
		return ""
	}
	cost, missed := t.judge.Actual(e)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.count.RolledBack {
		return "" // by another outcome, meanwhile
	}
	a := t.side(e.Arm)
	a.Outcomes++
	a.Cost += cost
	if missed {
		a.Misses++
	}
	return t.compare(e.Class, e.Arm, min(cost/t.worst, 1), missed)
}

func (t *trial) side(arm decision.Arm) *ArmCount {
	if arm == decision.Canary {
		return &t.count.Canary
	}
	return &t.count.Incumbent
}

// compare makes a bet when a pair is complete. The caller holds mu.
func (t *trial) compare(class string, arm decision.Arm, cost float64, missed bool) string {
	p := t.waiting[class]
	if p == nil {
		if len(t.waiting) >= maxPairs {
			return ""
		}
		p = &pair{}
		t.waiting[class] = p
	}
	p.n[arm]++
	p.cost[arm] += cost
	if missed {
		p.misses[arm]++
	}
	if p.n[decision.Canary] == 0 || p.n[decision.Incumbent] == 0 {
		return ""
	}
	missMore := p.misses[decision.Canary]/p.n[decision.Canary] - p.misses[decision.Incumbent]/p.n[decision.Incumbent]
	costMore := p.cost[decision.Canary]/p.n[decision.Canary] - p.cost[decision.Incumbent]/p.n[decision.Incumbent]
	*p = pair{}
	late, dear := t.miss.bet(missMore), t.cost.bet(costMore)
	if late || dear {
		t.count.RolledBack, t.count.Reason = true, t.because(late)
		t.rolled.Store(true)
	}
	return t.count.Reason
}

// maxPairs bounds the number of classes whose outcomes are compared.
const maxPairs = 4096

func (t *trial) because(late bool) string {
	c, i := &t.count.Canary, &t.count.Incumbent
	if late {
		return fmt.Sprintf("it misses %.1f %% of its deadlines after %d outcomes, the incumbent %.1f %% after %d", 100*c.missShare(), c.Outcomes, 100*i.missShare(), i.Outcomes)
	}
	return fmt.Sprintf("its mean cost is %.4g after %d outcomes, the incumbent's %.4g after %d", c.MeanCost(), c.Outcomes, i.MeanCost(), i.Outcomes)
}

func (a *ArmCount) missShare() float64 { return float64(a.Misses) / float64(max(a.Outcomes, 1)) }

// MissShare is the share of outcomes that missed their deadline.
func (a ArmCount) MissShare() float64 { return a.missShare() }

// MeanCost is the mean cost of the outcomes.
func (a ArmCount) MeanCost() float64 { return a.Cost / float64(max(a.Outcomes, 1)) }

func (t *trial) Load() CanaryCount {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

// Follow continues the previous trial: a roll-back persists, also over a restart, until something under Policy changes.
func (c *Canary) Follow(old *Canary) {
	if c != nil && old != nil && c.count.Version == old.Load().Version {
		c.trial = old.trial
	}
}

// Restore restores a saved roll-back. A comparison that was in progress begins anew.
func (c *Canary) Restore(saved CanaryCount) {
	if c == nil || !saved.RolledBack || saved.Version != c.Load().Version {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count = saved
	c.rolled.Store(true)
}

// wager is a sequential test: it may be evaluated after every single observation, and its probability of ever rejecting a true hypothesis is at most
// alpha.
//
// The hypothesis is that observations in [−1, 1], with any dependence, are on average no more than the margin. A gambler who bets a share of their
// capital against it, chosen before each observation, cannot expect to gain if it holds: by Ville's inequality the capital ever reaches 1/alpha with
// a probability of at most alpha. This is testing by betting, after Waudby-Smith and Ramdas, "Estimating means of bounded random variables by
// betting", J. R. Stat. Soc. B 86 (2024). The size of the bet is their approximate growth rate adaptive one, on a mean and a variance that forget, so
// that the test also rejects a canary that turns bad after months as soon as the latest observations show it.
type wager struct {
	margin, limit  float64 // limit is ln(1/alpha)
	capital        float64 // natural logarithm
	mean, variance float64
	n              float64
	lost           bool // the hypothesis is rejected
}

const (
	wagerMemory = 500  // observations that the size of the bet is learned from
	wagerMost   = 0.75 // largest share of the capital lost in one bet
)

func newWager(margin, alpha float64) wager {
	return wager{margin: margin, limit: math.Log(1 / alpha), variance: 0.25}
}

// bet adds one observation and reports whether the hypothesis is rejected. A rejection is final.
func (w *wager) bet(x float64) bool {
	x = min(max(x, -1), 1)
	over := w.mean - w.margin
	stake := over / (w.variance + over*over)
	stake = min(max(stake, 0), wagerMost/(1+w.margin)) // the worst x is −1
	w.capital += math.Log1p(stake * (x - w.margin))
	w.learn(x)
	w.lost = w.lost || w.capital >= w.limit
	return w.lost
}

// learn moves mean and variance towards x, from a prior that counts as one observation.
func (w *wager) learn(x float64) {
	w.n = min(w.n+1, wagerMemory)
	weight := 1 / (w.n + 1)
	off := x - w.mean
	w.mean += weight * off
	w.variance += weight * (off*(x-w.mean) - w.variance)
	w.variance = max(w.variance, 1e-6)
}
