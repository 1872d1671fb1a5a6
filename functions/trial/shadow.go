package trial

import (
	"slices"
	"sync"
	"sync/atomic"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// ShadowCount counts the decisions of a shadow.
type ShadowCount struct {
	Policy     string
	Decisions  uint64
	Agreed     uint64
	Cost       float64 // sum of the predicted cost of its decisions
	ActingCost float64 // the same of the acting decisions
}

// Shadows are policies that decide alongside and do not act. They are separate instances, so that they do not move the draws and counters of the
// acting policies; they share the learned state with them. Safe for concurrent use.
type Shadows struct {
	policies []policy.Policy
	share    float64
	judge    *policy.Judge
	seen     atomic.Uint64
	*shadowCounts
}

// shadowCounts outlive a change of the configuration that does not affect decisions.
type shadowCounts struct {
	mu     sync.Mutex
	counts map[string]*ShadowCount
}

// NewShadows returns nil if the configuration names no shadow; the cost of none is then one comparison.
func NewShadows(c policy.Config, judge *policy.Judge, made map[string]policy.Policy) *Shadows {
	names := c.Shadows()
	if len(names) == 0 {
		return nil
	}
	s := &Shadows{share: c.ShadowShare, judge: judge, shadowCounts: &shadowCounts{counts: map[string]*ShadowCount{}}}
	for _, p := range policy.All(c) {
		if slices.Contains(names, p.Name()) {
			s.policies = append(s.policies, p)
			s.counts[p.Name()] = &ShadowCount{Policy: p.Name()}
		}
	}
	s.Inherit(nil, made)
	return s
}

// Inherit gives learning shadows the memory of the acting policy, and other shadows the state of the previous shadow.
func (s *Shadows) Inherit(old *Shadows, acting map[string]policy.Policy) {
	if s == nil {
		return
	}
	for _, p := range s.policies {
		if _, learns := p.(policy.Learner); learns {
			policy.Inherit(p, acting[p.Name()])
		} else if old != nil {
			policy.Inherit(p, old.Named(p.Name()))
		}
	}
}

// Named returns the shadow of that name, or nil.
func (s *Shadows) Named(name string) policy.Policy {
	for _, p := range s.policies {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// shadowSeed separates the sample from the draws of policy random.
const shadowSeed = 0x5ead0

// Look lets each shadow decide on the same task. A guard's decision is skipped: no policy made it, so there is nothing to compare.
func (s *Shadows) Look(t *task.Task, e *score.Estimate, st *host.State, acting *decision.Decision) {
	if acting.Reason.IsOverPolicies() || (s.share < 1 && decision.Uniform(shadowSeed, s.seen.Add(1)) >= s.share) {
		for _, p := range s.policies {
			if l, ok := p.(policy.Pacer); ok {
				l.Arrived(t, st)
			}
		}
		return
	}
	var cost [2]float64
	cost[decision.Local], cost[decision.Cloud] = s.judge.Predicted(t, e, st)
	var said [policy.MaxShadows]decision.Target
	for i, p := range s.policies {
		said[i] = p.Decide(t, e, st).Target
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.policies {
		c := s.counts[p.Name()]
		c.Decisions++
		if said[i] == acting.Target {
			c.Agreed++
		}
		c.Cost += cost[said[i]]
		c.ActingCost += cost[acting.Target]
	}
}

// List returns the counts in the order of the policies.
func (s *Shadows) List() []ShadowCount {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]ShadowCount, len(s.policies))
	for i, p := range s.policies {
		all[i] = *s.counts[p.Name()]
	}
	return all
}

// Follow continues the previous counts, if they are of the same policies.
func (s *Shadows) Follow(old *Shadows) {
	if s == nil || old == nil || len(s.policies) != len(old.policies) {
		return
	}
	for i, p := range s.policies {
		if old.policies[i].Name() != p.Name() {
			return
		}
	}
	s.shadowCounts = old.shadowCounts
}
