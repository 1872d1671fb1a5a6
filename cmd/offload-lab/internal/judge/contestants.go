package judge

import (
	"fmt"
	"strings"

	"app-offload/functions/policy"
)

// variants are contestants that are a policy with changed settings.
var variants = map[string]struct {
	policy string
	set    func(*policy.Config)
}{
	"article": {"weighted", func(c *policy.Config) { c.WeightedPreset = "article" }},
	"greedy":  {"cost", func(c *policy.Config) { c.CostShadow = false }},
}

// Default lists the default contestants: every policy and every variant.
func Default() string {
	names := []string{"article", "greedy"}
	for _, info := range policy.List() {
		names = append(names, info.Name)
	}
	return strings.Join(names, ",")
}

// Field creates contestants from comma-separated names: policies, the variants article and greedy, and trained results for policies ppo and defer
// from files, as ppo=FILE and defer=FILE.
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
			// As the default policy it must have its weights; otherwise it would silently decide as cost.
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
			mine.RandomSeed += episode // different draws in each episode
			v.set(&mine)
			return policy.New(v.policy, mine)
		}})
	}
	return field, nil
}
