package policy

import (
	"fmt"

	"app-offload/functions/host"
	"app-offload/functions/score"
)

// scarce is what either target uses up of what the node has little of, beside time: the terms that policies cost, bandit and defer, the judge
// and the comparison of targets share.
//
//	local: memory·(share of time that tasks wait for memory)     both: energy·(1 + battery·(1 − charge)) while on battery
//	cloud: money + price·(price of a MB at this hour)·MB
type scarce struct {
	money   float64 // cost of letting the cloud compute one task
	price   float64 // cost of a unit of the currency of Score.MoneyPerMB
	memory  float64 // cost of processing a task locally while all tasks wait for memory
	battery float64 // by how many times energy is dearer on an empty battery
}

// paid is the cost of the cloud in money.
func (c *scarce) paid(e *score.Estimate) float64 { return c.money + c.price*bounded(e.Money) }

// stall is the cost of more local work while memory is short.
func (c *scarce) stall(s *host.State) float64 {
	return c.memory * min(bounded(s.MemoryStall), 100) / 100
}

// strain is the factor on energy.
func (c *scarce) strain(s *host.State) float64 {
	if !s.OnBattery {
		return 1
	}
	return 1 + c.battery*(1-min(bounded(s.Battery), 100)/100) // one of unknown charge counts as empty
}

func (c *scarce) String() (text string) {
	if c.price > 0 {
		text += fmt.Sprintf(" + %.4g·price of its MB in the cloud", c.price)
	}
	if c.memory > 0 {
		text += fmt.Sprintf(" + %.4g·memory stall here", c.memory)
	}
	if c.battery > 0 {
		text += fmt.Sprintf("; on battery, J counts up to %.4g times", 1+c.battery)
	}
	return text
}
