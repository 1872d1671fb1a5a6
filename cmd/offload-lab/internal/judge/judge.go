// Package judge compares policies with each other and with clairvoyant planners, on the same episodes.
//
// Regret is the extra cost per task over the optimum: (J − J*)/tasks, averaged over the episodes, where J* is the oracle's cost of the same episode.
// In an episode too overloaded for the exact search, its lower bound replaces J*, so that no regret is underestimated. The oracle binds each task on
// arrival. A planner that may also delay tasks costs less: regretToPlan is relative to the best known plan of that kind, and the inevitable part of
// the regret is between that and regretToBound.
package judge

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"app-offload/cmd/offload-lab/internal/clairvoyant"
	"app-offload/cmd/offload-lab/internal/oracle"
	"app-offload/cmd/offload-lab/internal/sim"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// Contestant is a named policy of the leaderboard. Each episode gets its own policy, created for its number.
type Contestant struct {
	Name string
	Make func(episode int) (policy.Policy, error)
}

// Score is one policy's line of the leaderboard.
type Score struct {
	Policy         string     `json:"policy"`
	Regret         float64    `json:"regret"`         // mean extra cost per task over the oracle
	RegretCI95     [2]float64 `json:"regretCI95"`     // of the mean over episodes
	MeanCost       float64    `json:"meanCost"`       // J per task
	RelativeRegret float64    `json:"relativeRegret"` // (J − J*)/J*, mean over episodes
	RegretToPlan   float64    `json:"regretToPlan"`   // over the plan with waiting, reordering and idling
	RegretToBound  float64    `json:"regretToBound"`  // over the lower bound of all plans
	InTime         float64    `json:"inTime"`         // share of episodes in which 99 of 100 tasks take at most PromptT
	Loads          []Load     `json:"loads,omitempty"`
	Shed           []Shed     `json:"shed,omitempty"`
	MeanT          float64    `json:"meanT"` // s
	P95T           float64    `json:"p95T"`
	P99T           float64    `json:"p99T"` // over all tasks; dominated by a few overloaded episodes
	MissShare      float64    `json:"missShare"`
	CloudShare     float64    `json:"cloudShare"`
	BytesPerTask   float64    `json:"bytesPerTask"`
	JoulesPerTask  float64    `json:"joulesPerTask"`
	DecisionMicros float64    `json:"decisionMicros"`
	Episodes       int        `json:"episodes"`
	ExactEpisodes  int        `json:"exactEpisodes"` // with a proven optimum of the oracle
}

// Options configure a comparison.
type Options struct {
	Episodes int
	Seed     uint64
	Search   oracle.Search      // for the optimum of immediate decisions, also with a tail; Limit = 0 disables both
	Plan     clairvoyant.Search // for plans with waiting; Moves = 0 disables them
	Tail     sim.Tail           // if it costs anything, an additional line shows the oracle with this cost
	Done     func(episodes int) // called after each episode, for a progress bar
}

// EpisodeSeed is the seed of the i-th episode of a comparison.
func EpisodeSeed(seed uint64, i int) uint64 { return seed*1_000_003 + uint64(i) } // i counts up from 0

// tally is one contestant's episode.
type tally struct {
	cost, joules, bytes float64
	missed, cloud, gone int
	took                []float64 // of the tasks that were not dropped
	shed                [10]Shed  // by value of the class, with counts instead of shares
}

func (t *tally) tasks() float64 { return float64(len(t.took) + t.gone) }

// round is one episode with all contestants and, after them, the oracle, without and with a tail, and the plan with waiting.
type round struct {
	tallies []tally
	best    float64
	exact   bool
	plan    float64 // cost of the best plan with waiting
	bound   float64 // of all plans
	load    float64
	scale   float64 // time scale of the world
	err     error
}

// Compare runs every contestant through the same episodes and appends the oracle's own line.
func Compare(ctx context.Context, w *sim.World, contestants []Contestant, o Options) ([]Score, error) {
	rounds := make([]round, o.Episodes)
	var wg sync.WaitGroup
	var mu sync.Mutex
	next, done := 0, 0
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				i := next
				next++
				mu.Unlock()
				if i >= o.Episodes {
					return
				}
				rounds[i] = play(w, contestants, o, i)
				mu.Lock()
				done++
				if o.Done != nil {
					o.Done(done)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	for i := range rounds {
		if rounds[i].err != nil {
			return nil, fmt.Errorf("playing episode %d of seed %d: %w", i, o.Seed, rounds[i].err)
		}
	}
	return board(w, contestants, o, rounds)
}

func play(w *sim.World, contestants []Contestant, o Options, i int) (r round) {
	env, err := sim.NewEnv(w)
	if err != nil {
		return round{err: err}
	}
	e := w.Draw(EpisodeSeed(o.Seed, i))
	for _, c := range contestants {
		p, err := c.Make(i)
		if err != nil {
			return round{err: fmt.Errorf("creating policy %s: %w", c.Name, err)}
		}
		r.tallies = append(r.tallies, tally{})
		t := &r.tallies[len(r.tallies)-1]
		sim.Play(env, e, p, func(_ *sim.Situation, _ decision.Decision, info sim.Info) {
			t.add(info)
			t.give(e.Config.Mix[e.Jobs[info.Job].Kind].Value, info)
		})
	}
	if o.Search.Limit > 0 {
		plan := o.Search.Solve(e)
		r.best, r.exact = plan.Bound, plan.Exact()
		r.tallies = append(r.tallies, follow(env, e, plan))
	}
	if o.Tail.PerSecond > 0 {
		r.tallies = append(r.tallies, follow(env, e, o.Search.Solve(e.With(o.Tail))))
	}
	r.load, r.scale = clairvoyant.Load(e), e.Config.Scale
	if o.Plan.Moves > 0 {
		r.await(env, e, o.Plan)
	}
	return r
}

// await adds the plan with waiting, run in the simulator.
func (r *round) await(env *sim.Env, e *sim.Episode, search clairvoyant.Search) {
	var t tally
	plan := search.Solve(e)
	plan.Play(env, e, t.add)
	r.plan, r.bound = t.cost, plan.Bound
	r.tallies = append(r.tallies, t)
}

// follow runs a plan.
func follow(env *sim.Env, e *sim.Episode, plan oracle.Plan) (t tally) {
	env.Begin(e)
	for _, cloud := range plan.Cloud {
		action := sim.Local
		if cloud {
			action = sim.Cloud
		}
		_, _, _, _, info := env.Step(action)
		t.add(info)
	}
	return t
}

func (t *tally) add(info sim.Info) {
	t.cost += info.Cost
	t.joules += info.Joules
	t.bytes += info.Bytes
	if info.Gone {
		t.gone++
	} else {
		t.took = append(t.took, info.Took)
	}
	if info.Missed {
		t.missed++
	}
	if info.Cloud {
		t.cloud++
	}
}

func board(w *sim.World, contestants []Contestant, o Options, rounds []round) ([]Score, error) {
	var scores []Score
	for k, c := range contestants {
		s := sum(c.Name, k, rounds)
		var err error
		if s.DecisionMicros, err = clock(w, c, EpisodeSeed(o.Seed, 0)); err != nil {
			return nil, err
		}
		scores = append(scores, s)
	}
	if o.Search.Limit > 0 {
		scores = append(scores, sum("oracle", len(contestants), rounds))
	}
	if o.Tail.PerSecond > 0 {
		scores = append(scores, sum("oracle+tail", len(contestants)+1, rounds))
	}
	if o.Plan.Moves > 0 {
		scores = append(scores, sum("plan", len(rounds[0].tallies)-1, rounds))
	}
	slices.SortStableFunc(scores, func(a, b Score) int { return cmp.Compare(a.MeanCost, b.MeanCost) })
	return scores, nil
}

// sum adds up the episodes of the k-th contestant.
func sum(name string, k int, rounds []round) Score {
	s := Score{Policy: name, Episodes: len(rounds)}
	var took, regrets []float64
	n := 0.0
	for i := range rounds {
		r, t := &rounds[i], &rounds[i].tallies[k]
		tasks := t.tasks()
		n += tasks
		s.MeanCost += t.cost
		s.JoulesPerTask += t.joules
		s.BytesPerTask += t.bytes
		s.MissShare += float64(t.missed)
		s.CloudShare += float64(t.cloud)
		took = append(took, t.took...)
		regrets = append(regrets, (t.cost-r.best)/tasks)
		s.RelativeRegret += (t.cost/r.best - 1) / float64(len(rounds))
		s.RegretToPlan += (t.cost - r.plan) / tasks / float64(len(rounds))
		s.RegretToBound += (t.cost - r.bound) / tasks / float64(len(rounds))
		if r.exact {
			s.ExactEpisodes++
		}
	}
	for _, total := range []*float64{&s.MeanCost, &s.JoulesPerTask, &s.BytesPerTask, &s.MissShare, &s.CloudShare} {
		*total /= n
	}
	slices.Sort(took)
	s.Loads, s.Shed = byLoad(k, rounds), byValue(k, rounds)
	for _, l := range s.Loads {
		s.InTime += l.InTime * float64(l.Episodes) / float64(len(rounds))
	}
	if rounds[0].plan == 0 {
		s.RegretToPlan, s.RegretToBound = 0, 0 // there was no plan
	}
	if rounds[0].best == 0 {
		s.Regret, s.RelativeRegret, regrets = 0, 0, nil
	}
	s.MeanT, s.P95T, s.P99T = mean(took), quantile(took, 0.95), quantile(took, 0.99)
	if len(regrets) > 0 {
		s.Regret = mean(regrets)
		half := halfWidth(regrets)
		s.RegretCI95 = [2]float64{s.Regret - half, s.Regret + half}
	}
	return s
}

func mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(len(values), 1))
}

// quantile returns the smallest of the sorted values that at least the share q does not exceed.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(max(int(math.Ceil(q*float64(len(sorted))))-1, 0), len(sorted)-1)]
}

// halfWidth is that of the 95 % interval of the mean, by Student's t.
func halfWidth(values []float64) float64 {
	n := float64(len(values))
	if n < 2 {
		return 0
	}
	m, sum := mean(values), 0.0
	for _, v := range values {
		sum += math.Pow(v-m, 2)
	}
	return student95(n-1) * math.Sqrt(sum/(n-1)/n)
}

// student95 is the 97.5 % quantile of Student's t by the Cornish–Fisher expansion; exact within a percent from 6 degrees of freedom.
func student95(freedom float64) float64 {
	const z = 1.959963984540054
	z3, z5 := z*z*z, z*z*z*z*z
	return z + (z3+z)/(4*freedom) + (5*z5+16*z3+3*z)/(96*freedom*freedom)
}

// PromptT is the completion time in s within which 99 of 100 tasks of an episode should be done.
const PromptT = 12.0

// Load is the result of one policy in the episodes of one class of load.
type Load struct {
	Load     string  `json:"load"`
	Episodes int     `json:"episodes"`
	Cost     float64 `json:"cost"`   // J per task, mean over episodes
	Plan     float64 `json:"plan"`   // the same for the best known plan
	Bound    float64 `json:"bound"`  // lower bound of all plans
	InTime   float64 `json:"inTime"` // share of episodes in which 99 of 100 tasks take at most PromptT
}

// loads are the classes by offered work relative to the capacity of node and link. Tasks arrive in phases, and the busy phase has 1.5 times the mean
// rate: from 2/3 on it exceeds the capacity.
var loads = []struct {
	name  string
	below float64
}{{"light", 1.0 / 3}, {"mid", 2.0 / 3}, {"heavy", 1e300}}

// byLoad divides the episodes of the k-th contestant. It omits a class without episodes.
func byLoad(k int, rounds []round) (all []Load) {
	from := 0.0
	for _, class := range loads {
		l := Load{Load: class.name}
		for i := range rounds {
			r := &rounds[i]
			if r.load < from || r.load >= class.below {
				continue
			}
			t := &r.tallies[k]
			tasks := t.tasks()
			l.Episodes++
			l.Cost += t.cost / tasks
			l.Plan += r.plan / tasks
			l.Bound += r.bound / tasks
			took := slices.Clone(t.took)
			slices.Sort(took)
			if quantile(took, 0.99) <= PromptT*r.scale {
				l.InTime++
			}
		}
		if n := float64(l.Episodes); n > 0 {
			l.Cost, l.Plan, l.Bound, l.InTime = l.Cost/n, l.Plan/n, l.Bound/n, l.InTime/n
			all = append(all, l)
		}
		from = class.below
	}
	return all
}

// Shed is the result of one policy for the tasks of one class value while both paths were overloaded.
type Shed struct {
	Value   int     `json:"value"`
	Gone    float64 `json:"gone"`    // share of dropped tasks
	Reduced float64 `json:"reduced"` // share processed in reduced form
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

// byValue divides the tasks of the k-th contestant; it is empty if no task was dropped or reduced.
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

// clock measures one decision in microseconds: a policy that has run an episode decides its situations again and again. Each round is later than the
// previous one, as some policies count arrivals. The fastest of several rounds counts, because of other work on the machine.
func clock(w *sim.World, c Contestant, seed uint64) (float64, error) {
	p, err := c.Make(0)
	if err != nil {
		return 0, err
	}
	env, err := sim.NewEnv(w)
	if err != nil {
		return 0, err
	}
	var seen []sim.Situation
	sim.Play(env, w.Draw(seed), p, func(s *sim.Situation, _ decision.Decision, _ sim.Info) { seen = append(seen, *s) })
	const rounds = 50
	fastest := time.Duration(1<<63 - 1)
	span := seen[len(seen)-1].State.Time - seen[0].State.Time + int64(time.Second)
	for range rounds {
		for i := range seen {
			seen[i].State.Time += span
			seen[i].Task.Received += span
		}
		start := time.Now()
		for i := range seen {
			s := &seen[i]
			p.Decide(&s.Task, &s.Estimate, &s.State)
		}
		fastest = min(fastest, time.Since(start))
	}
	return fastest.Seconds() * 1e6 / float64(len(seen)), nil
}
