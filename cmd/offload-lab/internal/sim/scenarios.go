package sim

import (
	"fmt"
	"strings"

	"app-offload/functions/task"
)

// Scenario is a world that differs from the usual one in one respect.
type Scenario struct {
	Name, About string
	change      func(*Config)
}

// Scenarios lists the scenarios.
func Scenarios() []Scenario {
	return []Scenario{
		{"usual", "the usual world", func(*Config) {}},
		{"unknown", "the work of a task is unknown before it is done: σ 0.5 per kind and 0.5 per task, of its logarithm", func(c *Config) { c.Unknown = Unknown{Kind: 0.5, Task: 0.5} }},
		{"edge-4", "the node's speed is overestimated 4 times", func(c *Config) { c.Beliefs.Edge = 4 }},
		{"edge-quarter", "the node's speed is underestimated 4 times", func(c *Config) { c.Beliefs.Edge = 0.25 }},
		{"link-4", "the link's rate is overestimated 4 times, and not measured at the start", func(c *Config) { c.Beliefs.Link = 4 }},
		{"link-quarter", "the link's rate is underestimated 4 times, and not measured at the start", func(c *Config) { c.Beliefs.Link = 0.25 }},
		{"cloud-20", "the cloud's speed is overestimated 20 times", func(c *Config) { c.Beliefs.Cloud = 20 }},
		{"scale-fifth", "all times are divided by five", func(c *Config) { c.Scale = 0.2 }},
		{"scale-5", "all times are multiplied by five", func(c *Config) { c.Scale = 5 }},
		{"outages", "three outages of 10 to 60 s", func(c *Config) { c.Trouble.Outages, c.Trouble.Outage = 3, [2]float64{10, 60} }},
		{"cloud-50", "the cloud takes 50 times as long as predicted", func(c *Config) { c.CloudMcycles, c.Beliefs.Cloud = c.CloudMcycles/50, 50 }},
		{"cpu-steps", "other processes take half of the node four times, for a tenth of the episode", func(c *Config) { c.Trouble.CPUSteps = 4 }},
		{"crowd", "ten times the arrivals in the middle fifth of the episode", func(c *Config) { c.Trouble.Crowd = 10 }},
		{"pareto", "bytes and work have a Pareto distribution with shape 1", func(c *Config) { c.Trouble.Pareto = 1 }},
		{"no-deadlines", "the gateway does not know the deadlines", func(c *Config) { c.NoDeadlines = true }},
		{"tight", "deadlines are 0.3 of the usual ones", func(c *Config) { c.deadlines(0.3) }},
		{"overload", "5,000 tasks at twice the usual rate, about 1.3 times the capacity of node and link", func(c *Config) {
			c.Tasks, c.Rates = 5000, [2]float64{2 * c.Rates[0], 2 * c.Rates[1]}
		}},
		{"shed", "as overload, with shedding by class: images first, telemetry last", func(c *Config) {
			c.Tasks, c.Rates, c.Overload = 5000, [2]float64{2 * c.Rates[0], 2 * c.Rates[1]}, task.OverloadDrop
		}},
	}
}

// ScenarioOf returns the configuration of the named scenario.
func ScenarioOf(name string) (Config, error) {
	c := DefaultConfig()
	var names []string
	for _, s := range Scenarios() {
		if s.Name == name {
			s.change(&c)
			return c, nil
		}
		names = append(names, s.Name)
	}
	return c, fmt.Errorf("scenario %q: must be one of %s", name, strings.Join(names, ", "))
}

// deadlines multiplies all deadlines.
func (c *Config) deadlines(by float64) {
	for i := range c.Mix {
		for k := range c.Mix[i].Deadline {
			c.Mix[i].Deadline[k] *= by
		}
	}
}
