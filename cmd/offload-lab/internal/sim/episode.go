package sim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"app-offload/cmd/offload-lab/internal/trace"
)

// Job is one task of an episode with all its random draws.
type Job struct {
	At       float64 // arrival, s since the start of the episode
	Kind     int     // in the mix
	Bytes    float64 // of its data, an integer; on the link if Record is set
	Record   float64 // size of its record in a message; 0 means Bytes
	Mcycles  float64
	Deadline float64 // s from arrival
	RTT      float64 // s, its round trip
	Slowness float64 // z: the factor on the cloud's computing time
	Answer   float64 // s from the end of local work to its result, during which the node is free

	belief float64 // factor on Mcycles in the gateway's belief; 0 means 1
}

// size is the size of the record.
func (j *Job) size() float64 {
	if j.Record > 0 {
		return j.Record
	}
	return j.Bytes
}

// Rate is a curve that an episode enters at its own offset.
type Rate struct {
	curve *trace.Curve
	from  float64 // s into the curve
}

// At returns the rate at time t of the episode.
func (r Rate) At(t float64) float64 { return r.curve.At(r.from + t) }

// Done returns the work that a busy server has done by time t, relative to a fixed origin.
func (r Rate) Done(t float64) float64 { return r.curve.Integral(r.from + t) }

// When returns the first time at which a busy server has done that work.
func (r Rate) When(done float64) float64 { return r.curve.Inverse(done) - r.from }

// Next returns the time of the next possible change of the rate after t.
func (r Rate) Next(t float64) float64 {
	at := r.from + t
	for {
		at = r.curve.Next(at)
		if next := at - r.from; next > t { // excludes t itself, which rounding could return at the end of a step
			return next
		}
	}
}

// Episode is a period with all its events except decisions.
type Episode struct {
	Config *Config
	Jobs   []Job
	Edge   Rate // Mcycle/s available to tasks
	Link   Rate // bytes/s
	rtt    trace.Curve
	rttAt  float64
	Name   string // names of the recordings

	// Before are messages sent singly before the episode began, which the gateway has measured. Without any, it knows its link well.
	Before []Message

	outages []span
}

// Message is the size of a message on the link and of the records in it, in bytes.
type Message struct{ Bytes, Records float64 }

// World draws episodes from a set of recordings. It is safe for concurrent use.
type World struct {
	Config Config
	edges  []*trace.Curve
	links  []*trace.Curve
	rtts   []*trace.Curve
	names  [3][]string
}

// NewWorld prepares the recordings.
func NewWorld(c Config, set *trace.Set) (*World, error) {
	if err := set.Validate(); err != nil {
		return nil, err
	}
	s := c.Scale
	c = c.scaled()
	w := &World{Config: c}
	for i, part := range []struct {
		series []trace.Series
		into   *[]*trace.Curve
		rate   func(float64) float64
	}{
		{set.CPUs, &w.edges, func(percent float64) float64 { return c.EdgeMcycles * (1 - min(percent/100, maxLoad)) }},
		{set.Links, &w.links, func(mbit float64) float64 { return mbit * 1e6 / 8 / s }},
		{set.RTTs, &w.rtts, func(seconds float64) float64 { return seconds * s }},
	} {
		for _, series := range part.series {
			at := stretched(series, s)
			curve, err := at.Curve(part.rate)
			if err != nil {
				return nil, fmt.Errorf("preparing recordings: %w", err)
			}
			*part.into = append(*part.into, curve)
			w.names[i] = append(w.names[i], series.Name)
		}
	}
	return w, nil
}

// Draw returns the episode of that seed.
func (w *World) Draw(seed uint64) *Episode {
	rng := rand.New(rand.NewPCG(seed, 0x0ff10ad))
	e := &Episode{Config: &w.Config}
	pick := func(part int, curves []*trace.Curve) (*trace.Curve, float64) {
		i := rng.IntN(len(curves))
		e.Name += w.names[part][i] + " "
		return curves[i], rng.Float64() * curves[i].Period()
	}
	e.Edge.curve, e.Edge.from = pick(0, w.edges)
	e.Link.curve, e.Link.from = pick(1, w.links)
	rtt, from := pick(2, w.rtts)
	e.rtt, e.rttAt = *rtt, from
	e.Jobs = make([]Job, w.Config.Tasks)
	arrive := newArrivals(rng, &w.Config)
	for i := range e.Jobs {
		e.Jobs[i] = w.Config.draw(rng, arrive.next())
		e.Jobs[i].RTT = e.RTT(e.Jobs[i].At)
	}
	e.guess(seed)
	if err := e.trouble(seed); err != nil {
		panic(err) // the recordings have been checked
	}
	return e
}

// With returns the same episode with a higher cost of long completion times.
func (e *Episode) With(t Tail) *Episode {
	c, charged := *e.Config, *e
	c.Cost.Tail = t
	charged.Config = &c
	return &charged
}

// RTT returns the round trip at time t, s.
func (e *Episode) RTT(t float64) float64 { return e.rtt.At(e.rttAt + t) }

func (c *Config) draw(rng *rand.Rand, at float64) Job {
	j := Job{At: at, Kind: c.pickKind(rng.Float64())}
	k := &c.Mix[j.Kind]
	if shape := c.Trouble.Pareto; shape > 0 {
		j.Bytes, j.Mcycles = math.Round(pareto(rng, k.Bytes, shape)), pareto(rng, k.Mcycles, shape)
	} else {
		j.Bytes = math.Round(logUniform(rng, k.Bytes))
		j.Mcycles = logUniform(rng, k.Mcycles)
	}
	j.Deadline = k.Deadline[0] + rng.Float64()*(k.Deadline[1]-k.Deadline[0])
	j.Slowness = math.Exp(c.Jitter[0] + c.Jitter[1]*rng.NormFloat64())
	return j
}

func (c *Config) pickKind(u float64) int {
	for i, k := range c.Mix {
		if u -= k.Share; u < 0 {
			return i
		}
	}
	return len(c.Mix) - 1
}

func logUniform(rng *rand.Rand, between [2]float64) float64 {
	low, high := math.Log(between[0]), math.Log(between[1])
	return math.Exp(low + rng.Float64()*(high-low))
}

// pareto draws from a Pareto distribution with the range's minimum and the given shape, capped at ten times the range's maximum.
func pareto(rng *rand.Rand, between [2]float64, shape float64) float64 {
	return min(between[0]*math.Pow(1-rng.Float64(), -1/shape), 10*between[1])
}

// arrivals is a Markov-modulated Poisson process with two phases.
type arrivals struct {
	rng    *rand.Rand
	config *Config
	now    float64
	phase  int
	until  float64 // of the current phase
}

// newArrivals begins in either phase with equal probability, since both last equally long on average.
func newArrivals(rng *rand.Rand, c *Config) *arrivals {
	a := &arrivals{rng: rng, config: c, phase: rng.IntN(2)}
	a.until = rng.ExpFloat64() * c.Sojourn
	return a
}

// next returns the time of the next arrival. A gap that crosses into another phase is redrawn there, which is correct for a Poisson process.
func (a *arrivals) next() float64 {
	for {
		crowd, until := a.crowd()
		until = min(until, a.until)
		at := a.now + a.rng.ExpFloat64()/(a.config.Rates[a.phase]*crowd)
		if at < until {
			a.now = at
			return at
		}
		if a.now = until; until == a.until {
			a.phase = 1 - a.phase
			a.until += a.rng.ExpFloat64() * a.config.Sojourn
		}
	}
}

// crowd returns the current factor on the arrival rate and its end. The crowd is the middle fifth of an episode of usual length.
func (a *arrivals) crowd() (factor, until float64) {
	c := a.config
	usual := float64(c.Tasks) / (c.Rates[0] + c.Rates[1]) * 2
	switch from, to := 0.4*usual, 0.6*usual; {
	case c.Trouble.Crowd <= 1 || a.now >= to:
		return 1, math.Inf(1)
	case a.now < from:
		return 1, from
	default:
		return c.Trouble.Crowd, to
	}
}

// Steady is an episode of the given jobs with constant rates of node and link, like a bench on one machine.
func Steady(c *Config, jobs []Job, edge, link float64) (*Episode, error) {
	e := &Episode{Config: c, Jobs: jobs, Name: "steady"}
	for _, part := range []struct {
		into *Rate
		rate float64
	}{{&e.Edge, edge}, {&e.Link, link}} {
		curve, err := trace.NewCurve([]float64{0}, []float64{part.rate}, day)
		if err != nil {
			return nil, fmt.Errorf("preparing a steady episode: %w", err)
		}
		part.into.curve = curve
	}
	return e, nil
}

// Bench is Steady with a round trip in s, and a link that is down from the first time of cut until the gateway is reconnected at the second; equal
// times mean no outage.
func Bench(c *Config, jobs []Job, edge, link, rtt float64, cut [2]float64) (*Episode, error) {
	e, err := Steady(c, jobs, edge, link)
	if err != nil {
		return nil, err
	}
	trips, err := trace.NewCurve([]float64{0}, []float64{max(rtt, 1e-6)}, day)
	if err != nil {
		return nil, fmt.Errorf("preparing round trips: %w", err)
	}
	e.rtt = *trips
	if cut[0] > 0 && cut[1] > cut[0] {
		if e.Link.curve, err = trace.NewCurve([]float64{0, cut[0], cut[1]}, []float64{link, 0, link}, day); err != nil {
			return nil, fmt.Errorf("preparing an outage: %w", err)
		}
		e.outages = []span{{cut[0] - noticeAfter*c.Scale, cut[1] - reconnectIn*c.Scale}} // the connection is closed, which is noticed immediately
	}
	return e, nil
}

const day = 86400.0 // s

// Beliefs are the errors in the gateway's configuration; 1 means correct.
type Beliefs struct {
	Edge  float64 // factor by which the node's speed is overestimated
	Link  float64 // the same for the link, which then has no measurement at the start of an episode
	Cloud float64 // the same for the cloud
}

// Unknown is the uncertainty of a task's work before it is done: σ of the logarithm of true over predicted work, once per kind and episode, and once
// per task. Episodes of the same nonzero Fleet share the factors of the kinds, like gateways that run the same operators.
type Unknown struct {
	Kind, Task float64
	Fleet      uint64
}

// Trouble adds events to the recorded behaviour of node and link.
type Trouble struct {
	Outages  int        // of the link
	Outage   [2]float64 // duration in s, drawn uniformly
	CPUSteps int        // number of times at which other processes take half of the node for a tenth of the episode
	Crowd    float64    // factor on the arrivals in the middle fifth of the episode; 0 and 1 mean none
	Pareto   float64    // shape of a Pareto distribution of bytes and work instead of log-uniform; 0 means log-uniform
}

// span is a period in s.
type span struct{ from, to float64 }

func within(spans []span, at float64) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return at >= s.from && at < s.to })
}

const (
	// A dead connection is detected by an overdue acknowledgement or keep-alive ping, and is re-established at the next attempt.
	noticeAfter  = 5.0 // s
	reconnectIn  = 2.0
	trafficAfter = 4.0 // factor on the length of the arrivals that trouble covers
)

// noticed returns the periods in which the service considers the link down.
func (e *Episode) noticed() (down []span) {
	for _, o := range e.outages {
		if s := (span{o.from + noticeAfter*e.Config.Scale, o.to + reconnectIn*e.Config.Scale}); s.from < o.to {
			down = append(down, s)
		}
	}
	return down
}

// trouble applies outages and CPU steps to the recordings.
func (e *Episode) trouble(seed uint64) error {
	t := &e.Config.Trouble
	if t.Outages == 0 && t.CPUSteps == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(seed, 0x74726f75626c65))
	length := e.Jobs[len(e.Jobs)-1].At
	for range t.Outages {
		from := length * rng.Float64()
		e.outages = append(e.outages, span{from, from + e.Config.Scale*(t.Outage[0]+rng.Float64()*(t.Outage[1]-t.Outage[0]))})
	}
	var steps []span
	for range t.CPUSteps {
		from := length * rng.Float64()
		steps = append(steps, span{from, from + length/10})
	}
	for _, part := range []struct {
		rate  *Rate
		spans []span
		left  float64
	}{{&e.Link, e.outages, 0}, {&e.Edge, steps, 0.5}} {
		if err := part.rate.hold(part.spans, part.left, trafficAfter*length+warmup); err != nil {
			return err
		}
	}
	return nil
}

// hold reduces the rate to a share during the spans.
func (r *Rate) hold(spans []span, left, horizon float64) error {
	if len(spans) == 0 {
		return nil
	}
	edges := []float64{-warmup}
	for at := -warmup; at < horizon; at = r.Next(at) {
		edges = append(edges, at)
	}
	for _, s := range spans {
		edges = append(edges, s.from, s.to)
	}
	slices.Sort(edges)
	edges = slices.Compact(edges)
	starts, rates, end := make([]float64, len(edges)), make([]float64, len(edges)), max(horizon, edges[len(edges)-1]+1)
	for i, at := range edges {
		next := end
		if i+1 < len(edges) {
			next = edges[i+1]
		}
		starts[i], rates[i] = at+warmup, r.At((at+next)/2)
		if within(spans, (at+next)/2) {
			rates[i] *= left
		}
	}
	curve, err := trace.NewCurve(starts, rates, end+warmup)
	if err != nil {
		return err
	}
	*r = Rate{curve, warmup}
	return nil
}

// guess draws the believed work of each task.
func (e *Episode) guess(seed uint64) {
	u := e.Config.Unknown
	if u == (Unknown{}) {
		return
	}
	rng := rand.New(rand.NewPCG(seed, 0x6775657373))
	kinds, shared := make([]float64, len(e.Config.Mix)), rng
	if u.Fleet != 0 {
		shared = rand.New(rand.NewPCG(u.Fleet, 0x666c656574))
	}
	for i := range kinds {
		kinds[i] = math.Exp(u.Kind * shared.NormFloat64())
	}
	for i := range e.Jobs {
		e.Jobs[i].belief = kinds[e.Jobs[i].Kind] * math.Exp(u.Task*rng.NormFloat64())
	}
}

// Believed is the gateway's estimate of the task's work in Mcycles.
func (j *Job) Believed() float64 {
	if j.belief == 0 {
		return j.Mcycles
	}
	return j.Mcycles * j.belief
}

// scaled returns the same world with all times multiplied by Scale.
func (c Config) scaled() Config {
	s := c.Scale
	c.EdgeMcycles, c.CloudMcycles, c.Overhead, c.Sojourn = c.EdgeMcycles/s, c.CloudMcycles/s, c.Overhead*s, c.Sojourn*s
	c.Rates = [2]float64{c.Rates[0] / s, c.Rates[1] / s}
	c.Mix = slices.Clone(c.Mix)
	for i := range c.Mix {
		d := &c.Mix[i].Deadline
		d[0], d[1] = d[0]*s, d[1]*s
	}
	return c
}

// stretched returns a recording at that scale.
func stretched(s trace.Series, by float64) trace.Series {
	s.Times = slices.Clone(s.Times)
	for i := range s.Times {
		s.Times[i] *= by
	}
	return s
}
