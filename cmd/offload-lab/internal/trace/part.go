package trace

import (
	"fmt"
	"slices"
)

// Part is which recordings of a set are played.
type Part string

// The parts. What is learned on one is judged on the other: every third recording of a kind, by the order of the names, is kept back.
const (
	All    Part = ""
	Learn  Part = "learn"
	Judged Part = "judge"
)

// Parts lists the words by which a part is chosen.
var Parts = []Part{All, Learn, Judged}

// keptBack of every keepEvery recordings of a kind, counted from 0, is judged on.
const (
	keepEvery = 3
	keptBack  = 1
)

// Only is the set of one part's recordings. A kind of which the set has a single recording is in both.
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
