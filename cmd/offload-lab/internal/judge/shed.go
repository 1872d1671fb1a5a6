package judge

import "app-offload/cmd/offload-lab/internal/sim"

// Shed is how one policy did with the tasks of one class value while both paths were overloaded.
type Shed struct {
	Value   int     `json:"value"`
	Gone    float64 `json:"gone"`    // share of the tasks that were given up
	Reduced float64 `json:"reduced"` // share that was processed in its reduced form
	tasks   float64
}

// give counts a task of that class value.
func (t *tally) give(value int, info sim.Info) {
	s := &t.shed[value]
	s.tasks++
	if info.Gone {
		s.Gone++
	}
	if info.Reduced {
		s.Reduced++
	}
}

// byValue divides the tasks of the k-th contestant, or is empty where none was given up or reduced.
func byValue(k int, rounds []round) (all []Shed) {
	shed := false
	for value := range (tally{}).shed {
		one := Shed{Value: value}
		for i := range rounds {
			s := &rounds[i].tallies[k].shed[value]
			one.tasks, one.Gone, one.Reduced = one.tasks+s.tasks, one.Gone+s.Gone, one.Reduced+s.Reduced
		}
		if one.tasks > 0 {
			shed = shed || one.Gone+one.Reduced > 0
			one.Gone, one.Reduced = one.Gone/one.tasks, one.Reduced/one.tasks
			all = append(all, one)
		}
	}
	if !shed {
		return nil
	}
	return all
}
