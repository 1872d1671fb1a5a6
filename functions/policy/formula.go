package policy

import (
	"fmt"
	"maps"
	"math"

	"app-offload/functions/decision"
)

// Formula is a policy's formula and constants, for code that decides outside of the service.
type Formula struct {
	Policy    string
	Constants map[string]float64
	Seed      uint64      // of the draws of policy bandit
	Learned   []Knowledge // of policy bandit, by Target
}

// Knowledge is the learned state of one target: the normal equations of a linear regression.
type Knowledge struct {
	Matrix   [dims * dims]float64
	Moments  [dims]float64
	Outcomes int64
}

// FormulaOf returns the formula of a policy, or an error if code outside of the service cannot decide by it.
func FormulaOf(p Policy) (*Formula, error) {
	f := &Formula{Policy: p.Name(), Constants: map[string]float64{"threshold": half}}
	switch p := p.(type) {
	case weighted:
		p.constants(f.Constants)
	case deadline:
		p.scarce.constants(f.Constants)
		f.Constants["patience"] = p.patience
	case *cost:
		p.constants(f.Constants)
	case *bandit:
		p.formula(f)
	case *ppo:
		return nil, fmt.Errorf("policy ppo decides by the network of a weights file: export that file, without -policy")
	case *deferring:
		return nil, fmt.Errorf("policy defer plans over all parked tasks, so it needs the service's durable queue; export cost or bandit, which decide on arrival")
	default:
		return nil, fmt.Errorf("there is nothing to export: %s", p)
	}
	f.Constants["below"] = math.Nextafter(f.Constants["threshold"], math.Inf(-1))
	return f, nil
}

func (w *weighted) constants(to map[string]float64) {
	for name, t := range map[string]term{"size": w.size, "complexity": w.complexity, "cpu": w.cpu} {
		to[name+"Weight"], to[name+"Scale"], to[name+"Falls"] = t.weight, t.scale, number(t.falls)
	}
	to["clamp"], to["threshold"], to["latest"], to["patience"] = number(w.clamp), w.threshold, w.latest, w.patience
}

func number(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

func (c *scarce) constants(to map[string]float64) {
	to["money"], to["price"], to["memory"], to["battery"] = c.money, c.price, c.memory, c.battery
}

func (k *cost) constants(to map[string]float64) {
	k.scarce.constants(to)
	maps.Copy(to, map[string]float64{
		"time": k.time, "miss": k.miss, "energy": k.energy, "unit": k.joules, "kappa": k.kappa, "patience": k.patience,
		"doubt": k.doubt, "tail": k.tail, "caution": k.caution,
		"edgePrice": k.edge.base, "edgeWait": k.edge.wait, "edgeEase": k.edge.ease, "linkPrice": k.link.base, "linkWait": k.link.wait, "linkEase": k.link.ease,
		"tempoTasks": tempoTasks, "fewTasks": fewTasks, "mostPulse": mostPulse, "leastUnit": leastUnit,
		"usualDeadline": usualDeadline, "usualPerDeadline": usualPerDeadline,
	})
}

func (b *bandit) formula(f *Formula) {
	b.cost.constants(f.Constants)
	maps.Copy(f.Constants, map[string]float64{
		"optimism": b.alpha, "forgetting": b.forget, "explore": b.explore, "closeBy": closeBy, "floorTime": floorTime, "unused": unused, "mostError": maxError,
		"localRidge": ridges[decision.Local], "cloudRidge": ridges[decision.Cloud], "eachMatters": eachMatters, "publishEach": publishEach,
	})
	f.Seed = b.seed
	b.learning.Lock()
	defer b.learning.Unlock()
	for i := range b.newest.Arms {
		a := &b.newest.Arms[i]
		k := Knowledge{Moments: a.Moments, Outcomes: a.Count}
		for j, v := range a.Matrix {
			copy(k.Matrix[j*dims:], v[:])
		}
		f.Learned = append(f.Learned, k)
	}
}
