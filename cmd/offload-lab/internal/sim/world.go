package sim

import (
	"math"
	"math/rand/v2"
	"slices"

	"app-offload/cmd/offload-lab/internal/trace"
)

// Beliefs are by how much the gateway is wrong in what it is configured with; 1 is the truth.
type Beliefs struct {
	Edge  float64 // the node is taken for so many times as fast as it is
	Link  float64 // the same of the link, of which then nothing is measured when an episode begins
	Cloud float64 // the same of the cloud
}

// Unknown is how little is known of a task's work before it is done: σ of the logarithm of true over predicted work, of all tasks of a kind
// alike in an episode, and of each task. Episodes of the same Fleet, where that is not 0, have the factors of the kinds in common, as gateways have
// that run the same operators.
type Unknown struct {
	Kind, Task float64
	Fleet      uint64
}

// Trouble is what happens to node and link within an episode beyond what was recorded.
type Trouble struct {
	Outages  int        // of the link
	Outage   [2]float64 // s that one lasts, drawn uniformly
	CPUSteps int        // times at which others begin to take half of the node, for a tenth of the episode
	Crowd    float64    // factor on the arrivals in the middle fifth of the episode; 0 and 1 are none
	Pareto   float64    // shape of the bytes and work of tasks, in place of log-uniform; 0 keeps log-uniform
}

// span is a stretch of time, s.
type span struct{ from, to float64 }

func within(spans []span, at float64) bool {
	return slices.ContainsFunc(spans, func(s span) bool { return at >= s.from && at < s.to })
}

const (
	// A dead connection is noticed when an acknowledgement is overdue or the ping of the keep-alive is, and is made anew at the next attempt.
	noticeAfter  = 5.0 // s
	reconnectIn  = 2.0
	trafficAfter = 4.0 // times the length of the arrivals for which trouble is laid out
)

// noticed is when the service takes the link for gone.
func (e *Episode) noticed() (down []span) {
	for _, o := range e.outages {
		if s := (span{o.from + noticeAfter*e.Config.Scale, o.to + reconnectIn*e.Config.Scale}); s.from < o.to {
			down = append(down, s)
		}
	}
	return down
}

// trouble lays outages and steps over the recordings.
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

// hold leaves a share of the rate during the spans.
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

// guess draws what is believed of each task's work.
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

// Believed is the work in Mcycles that the gateway takes the task for.
func (j *Job) Believed() float64 {
	if j.belief == 0 {
		return j.Mcycles
	}
	return j.Mcycles * j.belief
}

// scaled is the same world with all times multiplied by Scale.
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

// stretched is a recording at that scale.
func stretched(s trace.Series, by float64) trace.Series {
	s.Times = slices.Clone(s.Times)
	for i := range s.Times {
		s.Times[i] *= by
	}
	return s
}
