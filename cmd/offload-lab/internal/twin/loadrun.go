package twin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"app-offload/cmd/offload-lab/internal/feed"
	"app-offload/functions/decision"
	"app-offload/functions/policy"
)

// LoadStanding is the result of one policy under one load.
type LoadStanding struct {
	Standing
	Load       float64 `json:"load"`
	Capacity   float64 `json:"capacity"`   // tasks/s of the gateway alone
	Accuracy   float64 `json:"accuracy"`   // of the answers
	Unanswered int     `json:"unanswered"` // tasks at the end of the run; they count as late, with the time until then
	// Cost is the mean cost of a task's time and miss with the shipped weights, without energy and money.
	Cost          float64 `json:"cost"`
	SimulatedCost float64 `json:"simulatedCost"`
}

// Loads runs every policy under every load. After an interrupt it returns the completed runs.
func Loads(ctx context.Context, c LoadConfig) ([]LoadStanding, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if err := slowGateway(c.Models, loadModel, c.Work, filepath.Join(c.Dir, "models-edge"), filepath.Join(c.Dir, "models-cloud")); err != nil {
		return nil, err
	}
	shown := pictures(c.Seed)
	capacity, err := c.capacity(ctx, shown)
	if err != nil {
		return nil, fmt.Errorf("measuring what the gateway alone can compute: %w", err)
	}
	c.Progress(fmt.Sprintf("the gateway alone computes %.1f tasks a second", capacity))
	type key struct {
		load   float64
		policy string
	}
	played, single, runs := map[key]*playedLoad{}, []lived(nil), [][]lived(nil)
	for _, load := range c.Loads {
		for _, name := range c.Policies {
			began := time.Now()
			p, err := c.play(ctx, name, load, capacity, shown)
			if ctx.Err() != nil && len(played) > 0 {
				c.Progress("interrupted: the completed runs count")
				break
			}
			if err != nil {
				return nil, fmt.Errorf("load %g, policy %s: %w", load, name, err)
			}
			played[key{load, name}] = p
			single = append(single, pick(p.all, func(t *lived) bool { return t.probe })...)
			runs = append(runs, p.all)
			c.Progress(fmt.Sprintf("load %g under %s took %v: %.1f %% late", load, name, time.Since(began).Round(time.Second), 100*p.late(c.Deadline)))
		}
	}
	g, err := (&Config{Rate: c.Rate}).measure(together(single))
	if err != nil {
		return nil, err
	}
	g.serve, g.devices = 1/capacity, loadDevices
	g.carried(runs)
	g.trail = max(g.trail, confirmationBytes)
	var list []LoadStanding
	for _, load := range c.Loads {
		for _, name := range c.Policies {
			if p := played[key{load, name}]; p != nil {
				one, err := c.stand(&g, name, load, capacity, p)
				if err != nil {
					return nil, fmt.Errorf("load %g, policy %s: %w", load, name, err)
				}
				list = append(list, one)
			}
		}
	}
	return list, nil
}

// pictures are drawn once: drawing them would take more than the gateway's work. Their sizes differ, as with a camera.
func pictures(seed uint64) []picture {
	rng := rand.New(rand.NewPCG(seed, liveSeed))
	list := make([]picture, 100)
	for i := range list {
		part := feed.NewPart(rng)
		list[i] = picture{feed.JPEG(part.Draw(240+60*rng.IntN(4), rng), 60), part.Label}
	}
	return list
}

// playedLoad is the result of one run.
type playedLoad struct {
	all                  []lived
	answered, right, not int
}

func (p *playedLoad) late(deadline time.Duration) float64 {
	late, n := 0, 0
	for i := range p.all {
		if t := &p.all[i]; !t.probe {
			n++
			if t.took > deadline.Seconds() {
				late++
			}
		}
	}
	return float64(late) / float64(max(n, 1))
}

// Bursts of pictures measure the gateway's capacity. The best burst counts, since other work on the machine slows them.
const (
	bursts = 3
	burst  = 60 // pictures
)

// capacity is the number of tasks that the gateway computes per second while it sends none.
func (c *LoadConfig) capacity(ctx context.Context, shown []picture) (best float64, err error) {
	r, err := c.start(ctx, "capacity", "edge", shown)
	if err != nil {
		return 0, err
	}
	defer r.close()
	for range bursts {
		from := len(r.all)
		for i := range burst {
			if _, err := r.send(&shot{profile: hereProfile, picture: &shown[i%len(shown)], device: "single"}); err != nil {
				return 0, err
			}
		}
		if err := r.wait(ctx, time.Minute+10*burst*c.Work); err != nil {
			return 0, err
		}
		rate, err := r.rate(r.all[from:])
		if err != nil {
			return 0, err
		}
		best = max(best, rate)
	}
	return best, nil
}

// rate is the number of answers per second from the first answer to the last.
func (r *runner) rate(ids []string) (float64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first, last time.Time
	for _, id := range ids {
		t := r.tasks[id]
		if t.done.IsZero() || t.cloud {
			return 0, errors.New("the gateway did not answer all tasks of a burst itself; the log has the reason")
		}
		if first.IsZero() || t.done.Before(first) {
			first = t.done
		}
		if t.done.After(last) {
			last = t.done
		}
	}
	return float64(len(ids)-1) / last.Sub(first).Seconds(), nil
}

// play runs one policy under one load: single tasks first, then tasks at random times with that mean rate.
func (c *LoadConfig) play(ctx context.Context, name string, load, capacity float64, shown []picture) (*playedLoad, error) {
	r, err := c.start(ctx, fmt.Sprintf("%g-%s", load, name), name, shown)
	if err != nil {
		return nil, err
	}
	defer r.close()
	saw, err := r.probe(ctx, shown)
	if err != nil {
		return nil, err
	}
	probes, seen := len(r.all), r.link.watch()
	rng := rand.New(rand.NewPCG(c.Seed, uint64(load*1e6)))
	gap, at := float64(time.Second)/(load*capacity), 0.0
	begin := time.Now()
	for i := 0; ; i++ {
		if at += gap * rng.ExpFloat64(); at > float64(c.Duration) {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-r.stack.Edge.Done():
			return nil, errors.New("app-offload exited unexpectedly")
		case <-time.After(time.Until(begin.Add(time.Duration(at)))):
		}
		if _, err := r.send(&shot{profile: bothProfile, picture: &shown[rng.IntN(len(shown))], device: fmt.Sprintf("device-%d", i%loadDevices)}); err != nil {
			return nil, fmt.Errorf("publishing a task: %w", err)
		}
	}
	if err := r.wait(ctx, c.Duration/2+30*time.Second); err != nil {
		return nil, err
	}
	p := r.lived(probes, saw)
	divide(p.all, float64(seen().bytes))
	err = r.stack.Stop()
	if r.stack = nil; err != nil {
		return nil, err
	}
	return p, r.waited(p.all)
}

// waited reads the time from arrival to decision of tasks from the service's decision log.
func (r *runner) waited(all []lived) error {
	f, err := os.Open(filepath.Join(r.dir, decisions, "decisions.jsonl"))
	if err != nil {
		return fmt.Errorf("reading the decision log: %w", err)
	}
	defer f.Close()
	places := map[string]int{}
	for place, id := range r.all {
		places[id] = place
	}
	for one, err := range decision.ReadRecords(f) {
		if err != nil {
			return err
		}
		if place, ours := places[one.EventID]; ours {
			all[place].waited, all[place].parked = one.Waited.Seconds(), wasParked(one.Decision.Reason)
		}
	}
	return nil
}

// loadDevices take turns.
const loadDevices = 30

// probe sends single tasks on either path, each after the previous answer, and returns the link's observations.
func (r *runner) probe(ctx context.Context, shown []picture) (map[string]passed, error) {
	saw := map[string]passed{}
	for i := range 2 * r.c.Probes {
		profile := hereProfile
		if i%2 == 1 {
			profile = cloudProfile
		}
		seen := r.link.watch()
		id, err := r.send(&shot{profile: profile, picture: &shown[i%len(shown)], device: "single"})
		if err == nil {
			err = r.wait(ctx, 30*time.Second)
		}
		if err != nil {
			return nil, err
		}
		r.mu.Lock()
		t := *r.tasks[id]
		r.mu.Unlock()
		if t.done.IsZero() || t.cloud != (i%2 == 1) {
			return nil, fmt.Errorf("a single task was not answered at its target (answered %v, by the cloud %v); the log has the reason", !t.done.IsZero(), t.cloud)
		}
		saw[id] = seen()
	}
	return saw, nil
}

// lived converts the run for the simulator. A task without an answer has taken at least until now.
func (r *runner) lived(probes int, saw map[string]passed) *playedLoad {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, now := &playedLoad{}, time.Now()
	begin := r.tasks[r.all[0]].sent
	for i, id := range r.all {
		t := r.tasks[id]
		one := lived{place: i, probe: i < probes, at: t.sent.Sub(begin).Seconds(), cloud: t.cloud, bytes: r.bytes[id]}
		if t.done.IsZero() {
			one.took = now.Sub(t.sent).Seconds()
			p.not++
		} else {
			one.took = t.done.Sub(t.sent).Seconds()
			p.answered++
			if t.right {
				p.right++
			}
		}
		if s := saw[id]; one.cloud && s.entered > 0 {
			one.wire, one.before = float64(s.bytes), max(float64(s.entered-t.sent.UnixNano())/1e9, 0)
		}
		p.all = append(p.all, one)
	}
	return p
}

// stand summarizes a run and simulates it.
func (c *LoadConfig) stand(g *gateway, name string, load, capacity float64, p *playedLoad) (LoadStanding, error) {
	s := &Setting{Name: fmt.Sprintf("%g", load), Rate: c.Rate, RTT: c.RTT, Deadline: c.Deadline}
	own := *g
	busy, free := pace(p.all)
	if busy > 0 {
		own.serve = busy
	}
	if free > 0 {
		own.here = Line{Fixed: free}
	}
	r, err := own.run(s, name, c.Seed, p.all)
	if err != nil {
		return LoadStanding{}, err
	}
	one := LoadStanding{
		Standing: standing(s, name, []run{r}), Load: load, Capacity: capacity, Accuracy: float64(p.right) / float64(max(p.answered, 1)), Unanswered: p.not,
	}
	one.Cost, one.SimulatedCost = c.cost(r.measured), c.cost(r.simulated)
	return one, nil
}

// pace returns the node's time per local task of a dense series that found it busy, and of one that found it free, from its decision to its answer;
// 0 where there are few. Near its capacity a node that is 1 % slower has twice the queue, and its speed depends on other work of the machine.
func pace(all []lived) (busy, free float64) {
	local := pick(all, func(t *lived) bool { return !t.probe && !t.cloud })
	slices.SortFunc(local, func(a, b lived) int { return cmp.Compare(a.at+a.took, b.at+b.took) })
	var between, alone []float64
	for i := 1; i < len(local); i++ {
		decided, before := local[i].at+local[i].waited, local[i-1].at+local[i-1].took
		if done := local[i].at + local[i].took; decided < before {
			between = append(between, done-before)
		} else {
			alone = append(alone, done-decided)
		}
	}
	return average(between), average(alone)
}

// average is the mean of enough values, otherwise 0.
func average(of []float64) float64 {
	if len(of) < leastBusy {
		return 0
	}
	sum := 0.0
	for _, v := range of {
		sum += v
	}
	return sum / float64(len(of))
}

const leastBusy = 20

// confirmationBytes is the size of a message that confirms one result of the cloud. Single tasks cannot distinguish it from their own bytes.
const confirmationBytes = 240

// cost is the cost of the tasks' times by the formula of policy cost: the used share of the deadline, up to CostKappa deadlines, and a miss.
func (c *LoadConfig) cost(all []outcome) float64 {
	weights, sum := policy.DefaultConfig(), 0.0
	for i := range all {
		sum += weights.CostTime * min(all[i].took/c.Deadline.Seconds(), weights.CostKappa)
		if all[i].late {
			sum += weights.CostMiss
		}
	}
	return sum / float64(max(len(all), 1))
}
