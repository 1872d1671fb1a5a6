package rl

import (
	"cmp"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"app-offload/functions/check"
)

// SearchConfig configures a search for a few numbers by the cross-entropy method: candidates are drawn from a normal distribution, all play the same
// episodes, and the distribution moves to the best of them. After Rubinstein, "The cross-entropy method for combinatorial and continuous
// optimization", Methodol. Comput. Appl. Probab. 1 (1999), with the added noise of Szita and Lőrincz, "Learning Tetris using the noisy cross-entropy
// method", Neural Comput. 18 (2006).
type SearchConfig struct {
	Seed       uint64
	Steps      int     `within:"1 1000000000"` // episodes, of all candidates together
	Candidates int     // per generation
	Elite      int     `within:"1 1000000000"` // number of best candidates that determine the next generation
	Episodes   int     `within:"1 1000000000"` // per candidate
	Spread     float64 `within:"1e-9 10"`      // initial standard deviation
	Noise      float64 `within:"0 10"`         // initial addition to it, falling to zero at the end
}

// DefaultSearch learns a dozen numbers in a few minutes.
func DefaultSearch() SearchConfig {
	return SearchConfig{Seed: 1, Steps: 72_000, Candidates: 40, Elite: 10, Episodes: 60, Spread: 0.5, Noise: 0.1}
}

// Validate reports every problem.
func (c SearchConfig) Validate() error {
	p := check.Fields("", c)
	if c.Candidates <= c.Elite {
		p.Addf("Candidates", c.Candidates, "must be above Elite, %d", c.Elite)
	}
	return p.Err()
}

// Player plays the episode of a seed with the numbers x and returns its cost. It is used by one goroutine.
type Player func(x []float64, seed uint64) (cost float64)

// Search searches for the numbers with the lowest cost.
type Search struct {
	config  SearchConfig
	players []Player
	source  *rand.PCG
	rng     *rand.Rand
	state   searchState
}

// searchState is the state of a search.
type searchState struct {
	Steps        int
	Mean, Spread []float64
	Sum          []float64 // of the means of the last third of the generations, whose average is the result
	Summed       int
}

// NewSearch begins around start. It creates a player for each core.
func NewSearch(c SearchConfig, start []float64, newPlayer func() (Player, error)) (*Search, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Search{config: c, source: rand.NewPCG(mix(c.Seed), 0x63656d)}
	s.rng = rand.New(s.source)
	s.state = searchState{Mean: slices.Clone(start), Spread: slices.Repeat([]float64{c.Spread}, len(start)), Sum: make([]float64, len(start))}
	for range runtime.GOMAXPROCS(0) {
		p, err := newPlayer()
		if err != nil {
			return nil, err
		}
		s.players = append(s.players, p)
	}
	return s, nil
}

// Finished reports whether all steps are done.
func (s *Search) Finished() bool { return s.state.Steps >= s.config.Steps }

// Taken is the number of steps done.
func (s *Search) Taken() int { return s.state.Steps }

// Found returns the numbers found so far.
func (s *Search) Found() []float64 {
	if s.state.Summed == 0 {
		return slices.Clone(s.state.Mean)
	}
	found := make([]float64, len(s.state.Sum))
	for d := range found {
		found[d] = s.state.Sum[d] / float64(s.state.Summed)
	}
	return found
}

// Update plays one generation and moves to its best. Return in the result is that of the centre of the distribution.
func (s *Search) Update() Progress {
	c, st := &s.config, &s.state
	first := mix(c.Seed) + uint64(st.Steps) // counts up from 0
	candidates := s.draw()
	costs := s.play(candidates, first)
	order := make([]int, len(costs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(costs[a], costs[b]) })
	st.Steps += c.Candidates * c.Episodes
	s.move(candidates, order[:c.Elite])
	return Progress{Steps: st.Steps, Episodes: c.Episodes, Return: -costs[0]}
}

// draw draws a generation; its first candidate is the centre itself.
func (s *Search) draw() [][]float64 {
	all := make([][]float64, s.config.Candidates)
	for i := range all {
		all[i] = slices.Clone(s.state.Mean)
		for d := range all[i] {
			if i > 0 {
				all[i][d] += s.state.Spread[d] * s.rng.NormFloat64()
			}
		}
	}
	return all
}

// play returns each candidate's mean cost over the same episodes, computed on all cores but summed in a fixed order.
func (s *Search) play(candidates [][]float64, first uint64) []float64 {
	n := s.config.Episodes
	costs := make([]float64, len(candidates)*n)
	var next atomic.Int64
	var wg sync.WaitGroup
	for _, p := range s.players {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(costs); i = int(next.Add(1)) - 1 {
				costs[i] = p(candidates[i/n], first+uint64(i%n)) // counts up from 0
			}
		})
	}
	wg.Wait()
	means := make([]float64, len(candidates))
	for i := range costs {
		means[i/n] += costs[i] / float64(n)
	}
	return means
}

// move moves the distribution to the elite.
func (s *Search) move(candidates [][]float64, elite []int) {
	st, done := &s.state, float64(s.state.Steps)/float64(s.config.Steps)
	noise := s.config.Noise * max(1-done, 0)
	for d := range st.Mean {
		sum, squares := 0.0, 0.0
		for _, i := range elite {
			sum += candidates[i][d]
			squares += candidates[i][d] * candidates[i][d]
		}
		st.Mean[d] = sum / float64(len(elite))
		st.Spread[d] = math.Sqrt(max(squares/float64(len(elite))-st.Mean[d]*st.Mean[d], 0)) + noise
	}
	if done <= 2.0/3 {
		return
	}
	for d := range st.Sum {
		st.Sum[d] += st.Mean[d]
	}
	st.Summed++
}

// savedSearch is a search between two generations.
type savedSearch struct {
	Config SearchConfig
	State  searchState
	Random []byte
}

// Save writes the complete state of the search.
func (s *Search) Save(w io.Writer) error {
	random, _ := s.source.MarshalBinary() // never fails
	return save(w, savedSearch{s.config, s.state, random})
}

// Resume continues a saved search under the same configuration; only Steps may differ.
func (s *Search) Resume(r io.Reader) error {
	var saved savedSearch
	if err := load(r, &saved, func() error {
		if saved.Config.Steps = s.config.Steps; !reflect.DeepEqual(saved.Config, s.config) || len(saved.State.Mean) != len(s.state.Mean) {
			return errors.New("it is of a search with other settings")
		}
		return s.source.UnmarshalBinary(saved.Random)
	}); err != nil {
		return err
	}
	s.state = saved.State
	return nil
}
