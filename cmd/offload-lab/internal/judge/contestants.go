package judge

import (
	"fmt"
	"strings"

	"app-offload/functions/policy"
)

// variants are the names of the leaderboard that are not just a policy's: a policy, and what is set otherwise.
var variants = map[string]struct {
	policy string
	set    func(*policy.Config)
}{
	"article": {"weighted", func(c *policy.Config) { c.WeightedPreset = "article" }},
	"greedy":  {"cost", func(c *policy.Config) { c.CostShadow = false }},
}

// Default lists the contestants when none are named: every policy and every variant.
func Default() string {
	names := []string{"article", "greedy"}
	for _, info := range policy.List() {
		names = append(names, info.Name)
	}
	return strings.Join(names, ",")
}

// Field makes contestants of names separated by commas: policies, the variants article and greedy, and what was learned for
// policies ppo and defer by its file, as ppo=FILE and defer=FILE.
func Field(names string, c policy.Config) ([]Contestant, error) {
	var field []Contestant
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		v, ok := variants[name]
		if file, named := strings.CutPrefix(name, "defer="); named {
			ok, v.policy = true, "defer"
			v.set = func(c *policy.Config) { c.DeferRule = file }
		}
		if file, named := strings.CutPrefix(name, "ppo="); named {
			ok, v.policy = true, "ppo"
			// As the default it must have its weights, where it would else decide as cost without a word.
			v.set = func(c *policy.Config) { c.PPOWeights, c.Default = file, "ppo" }
		}
		if !ok {
			v.policy, v.set = name, func(*policy.Config) {}
			if err := policy.Known(name); err != nil {
				return nil, fmt.Errorf("%w, article (of weighted) or greedy (of cost)", err)
			}
		}
		field = append(field, Contestant{Name: name, Make: func(episode int) (policy.Policy, error) {
			mine := c
			mine.RandomSeed += episode // each episode has draws of its own
			v.set(&mine)
			return policy.New(v.policy, mine)
		}})
	}
	return field, nil
}
