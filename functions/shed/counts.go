package shed

import (
	"maps"
	"slices"

	"app-offload/functions/decision"
)

// Effects counts the tasks of a class changed by overload, since the start.
type Effects struct {
	Dropped  uint64 `json:"dropped"`  // as both paths were overloaded
	TooLate  uint64 `json:"tooLate"`  // dropped, as no path could finish them within their bound
	Rerouted uint64 `json:"rerouted"` // sent to the other path, as the one chosen by their policy was overloaded
	Reduced  uint64 `json:"reduced"`  // processed locally in their reduced form
}

// Flow is the load by the tasks of a class that counts for overload.
type Flow struct {
	Class    string  `json:"class"`
	Value    int     `json:"value"`
	Pressure float64 `json:"pressure"` // predicted age of its latest results by the sooner path, over its bound; above 1 is overload
	Effects
}

// Overload is the state of the gate at one moment. Flows is empty while no class has Overload reduce, expire or drop.
type Overload struct {
	Local int    `json:"local"` // tasks of this value or less give way on this path; 0 if no task does
	Cloud int    `json:"cloud"` // the same of the other path
	Flows []Flow `json:"flows"`
}

// Count counts a task of a class by its decision's reason.
func (g *Gate) Count(class string, why decision.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.counts == nil {
		g.counts = map[string]*Effects{}
	}
	c := g.counts[class]
	if c == nil {
		c = &Effects{}
		g.counts[class] = c
	}
	switch why {
	case decision.Overload:
		c.Dropped++
	case decision.TooLate:
		c.TooLate++
	case decision.Rerouted:
		c.Rerouted++
	case decision.Reduced:
		c.Reduced++
	}
}

// Status returns the state of the gate at now, a stamp of the clock of host states.
func (g *Gate) Status(now int64) Overload {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := Overload{Flows: []Flow{}}
	for v := 1; g.plan != nil && g.plan.sheds && v <= maxValue; v++ {
		if g.overloaded(int(decision.Local), v, now) {
			st.Local = v
		}
		if g.overloaded(int(decision.Cloud), v, now) {
			st.Cloud = v
		}
	}
	names := map[string]struct{}{}
	for of := range g.flows {
		names[of.class] = struct{}{}
	}
	for name := range g.counts {
		names[name] = struct{}{}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		one := Flow{Class: name}
		for of, f := range g.flows {
			if of.class == name {
				one.Value, one.Pressure = f.value, max(one.Pressure, f.now(now))
			}
		}
		if c := g.counts[name]; c != nil {
			one.Effects = *c
		}
		st.Flows = append(st.Flows, one)
	}
	return st
}
