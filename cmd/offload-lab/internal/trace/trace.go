// Package trace holds the recordings of the simulator: links, CPU loads and round trips, read from a folder or drawn from a seed.
//
// A folder is read completely: only files that are not recordings are skipped, and reported. The order of the recordings depends only on their names,
// so that equal folders and seeds give equal episodes.
package trace

import (
	"fmt"
	"math"
)

// Series is one recording: values that hold until the next one, the last for as long as the previous one.
type Series struct {
	Name   string
	Times  []float64 // s from the start, ascending
	Values []float64
}

// Period is the length of the recording in s.
func (s *Series) Period() float64 {
	n := len(s.Times)
	return 2*s.Times[n-1] - s.Times[n-2]
}

// Curve returns the recording with f applied to each value.
func (s *Series) Curve(f func(float64) float64) (*Curve, error) {
	rates := make([]float64, len(s.Values))
	for i, v := range s.Values {
		rates[i] = f(v)
	}
	c, err := NewCurve(s.Times, rates, s.Period())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return c, nil
}

// check returns an error for an unusable recording.
func (s *Series) check() error {
	if len(s.Times) < 2 {
		return fmt.Errorf("%s: %d samples are no recording", s.Name, len(s.Times))
	}
	sum := 0.0
	for i, v := range s.Values {
		if !(v >= 0) || math.IsInf(v, 1) {
			return fmt.Errorf("%s: sample %d is %g: needs a finite number of at least 0", s.Name, i+1, v)
		}
		if i > 0 && !(s.Times[i] > s.Times[i-1]) {
			return fmt.Errorf("%s: sample %d is not later than the one before it", s.Name, i+1)
		}
		sum += v
	}
	if sum == 0 {
		return fmt.Errorf("%s: zero all the time", s.Name)
	}
	begin := s.Times[0]
	for i := range s.Times {
		s.Times[i] -= begin
	}
	return nil
}

// Set is the source of episodes.
type Set struct {
	Links   []Series // Mbit/s
	CPUs    []Series // busy share in percent
	RTTs    []Series // s
	Skipped []string // files that are not recordings, each with the reason
}

// Validate returns an error if no episode can be drawn from the set.
func (s *Set) Validate() error {
	if len(s.Links) == 0 || len(s.CPUs) == 0 || len(s.RTTs) == 0 {
		return fmt.Errorf("%d links, %d CPU loads, %d round trips: needs at least one of each; skipped: %q",
			len(s.Links), len(s.CPUs), len(s.RTTs), s.Skipped)
	}
	return nil
}
