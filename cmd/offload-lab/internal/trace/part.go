package trace

import (
	"fmt"
	"slices"
)

// Part selects recordings of a set.
type Part string

// The parts. Training on one is judged on the other: every third recording of a kind, in order of names, is held out.
const (
	All    Part = ""
	Learn  Part = "learn"
	Judged Part = "judge"
)

// Parts lists the names of the parts.
var Parts = []Part{All, Learn, Judged}

// Of every keepEvery recordings of a kind, the one with index keptBack is held out.
const (
	keepEvery = 3
	keptBack  = 1
)

// Only returns the recordings of one part. A kind with a single recording is in both.
func (set *Set) Only(p Part) (*Set, error) {
	if !slices.Contains(Parts, p) {
		return nil, fmt.Errorf("part %q of the recordings: must be one of %q", p, Parts)
	}
	if p == All {
		return set, nil
	}
	return &Set{Links: part(set.Links, p), CPUs: part(set.CPUs, p), RTTs: part(set.RTTs, p), Skipped: set.Skipped}, nil
}

func part(all []Series, p Part) (some []Series) {
	if len(all) == 1 {
		return all
	}
	for i, s := range all {
		if (i%keepEvery == keptBack) == (p == Judged) {
			some = append(some, s)
		}
	}
	return some
}
