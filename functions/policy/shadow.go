package policy

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// MaxShadows bounds what deciding along may cost.
const MaxShadows = 8

// ShadowCount is what became of a policy that decides along.
type ShadowCount struct {
	Policy     string
	Decisions  uint64
	Agreed     uint64
	Cost       float64 // sum of the predicted cost of what it would have done
	ActingCost float64 // the same of what was done
}

// shadows are policies that decide along and do not act. They are instances of their own, so that no draw and no counter of
// an acting policy moves because somebody looks on; what they have learned they share with it. Safe for concurrent use.
type shadows struct {
	policies []Policy
	share    float64
	judge    *Judge
	seen     atomic.Uint64
	*shadowCounts
}

// shadowCounts outlive a change of the configuration that does not change decisions.
type shadowCounts struct {
	mu     sync.Mutex
	counts map[string]*ShadowCount
}

// newShadows is nil without any: looking whether there are some is all it then costs.
func newShadows(c Config, judge *Judge, made map[string]Policy) *shadows {
	names := words(c.Shadow)
	if len(names) == 0 {
		return nil
	}
	s := &shadows{share: c.ShadowShare, judge: judge, shadowCounts: &shadowCounts{counts: map[string]*ShadowCount{}}}
	for _, one := range list() {
		if slices.Contains(names, one.Name) {
			p := one.build(c)
			s.policies = append(s.policies, p)
			s.counts[one.Name] = &ShadowCount{Policy: one.Name}
		}
	}
	s.inherit(nil, made)
	return s
}

// inherit gives those that learn the memory of the one that acts, and the others what the shadow before them had.
func (s *shadows) inherit(old *shadows, acting map[string]Policy) {
	if s == nil {
		return
	}
	for _, p := range s.policies {
		if _, learns := p.(Learner); learns {
			inherit(p, acting[p.Name()])
		} else if old != nil {
			inherit(p, old.named(p.Name()))
		}
	}
}

// named is nil where no shadow has that name.
func (s *shadows) named(name string) Policy {
	for _, p := range s.policies {
		if p.Name() == name {
			return p
		}
	}
	return nil
}

// inherit lets p go on with what from has learned, where the two are of a kind that learns.
func inherit(p, from Policy) {
	if h, ok := p.(heir); ok && from != nil {
		h.inherit(from)
	}
}

// shadowSeed makes the sample another one than the draws of policy random.
const shadowSeed = 0x5ead0

// look lets each shadow decide on the same task. A guard's decision is not made by a policy, so there is nothing to compare.
func (s *shadows) look(t *task.Task, e *score.Estimate, st *host.State, acting *decision.Decision) {
	if acting.Reason.IsOverPolicies() || (s.share < 1 && decision.Uniform(shadowSeed, s.seen.Add(1)) >= s.share) {
		for _, p := range s.policies {
			if l, ok := p.(pacer); ok {
				l.arrived(t, st)
			}
		}
		return
	}
	var cost [2]float64
	cost[decision.Local], cost[decision.Cloud] = s.judge.Predicted(t, e, st)
	var said [MaxShadows]decision.Target
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

// list gives the counts in the order of the policies.
func (s *shadows) list() []ShadowCount {
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

// follow continues the previous counts, if they are of the same policies.
func (s *shadows) follow(old *shadows) {
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

// words are the words of a list separated by commas.
func words(text string) []string {
	var all []string
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word != "" {
			all = append(all, word)
		}
	}
	return all
}
