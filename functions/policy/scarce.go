package policy

import (
	"fmt"

	"app-offload/functions/host"
	"app-offload/functions/score"
)

// scarce holds the costs of resources other than time. Policies cost, bandit and defer, the judge and the comparison of targets share its terms:
//
//	local: memory·(share of time that tasks wait for memory)     both: energy·(1 + battery·(1 − charge)) while on battery
//	cloud: money + price·(price of a MB at this hour)·MB
type scarce struct {
	money   float64 // cost of one task computed in the cloud
	price   float64 // cost of a unit of the currency of Score.MoneyPerMB
	memory  float64 // cost of processing a task locally while all tasks wait for memory
	battery float64 // additional cost of energy on an empty battery, as a multiple
}

// paid returns the monetary cost of the cloud.
func (c *scarce) paid(e *score.Estimate) float64 { return c.money + c.price*bounded(e.Money) }

// stall returns the cost of more local work while memory is short.
func (c *scarce) stall(s *host.State) float64 {
	return c.memory * min(bounded(s.MemoryStall), 100) / 100
}

// strain returns the factor on energy.
func (c *scarce) strain(s *host.State) float64 {
	if !s.OnBattery {
		return 1
	}
	return 1 + c.battery*(1-min(bounded(s.Battery), 100)/100) // an unknown charge counts as empty
}

func (c *scarce) String() (text string) {
	if c.price > 0 {
		text += fmt.Sprintf(" + %.4g·price of its MB in the cloud", c.price)
	}
	if c.memory > 0 {
		text += fmt.Sprintf(" + %.4g·local memory stall", c.memory)
	}
	if c.battery > 0 {
		text += fmt.Sprintf("; on battery, J counts up to %.4g times", 1+c.battery)
	}
	return text
}
