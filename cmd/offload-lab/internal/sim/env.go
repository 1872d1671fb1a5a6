package sim

import (
	"time"

	"app-offload/functions/host"
	"app-offload/functions/score"
	"app-offload/functions/task"
)

// The actions.
const (
	Local = iota
	Cloud
	NumActions
)

// Situation is what there is to decide on: exactly what the service hands to its policies, made by the service's own code.
// It belongs to the environment and changes with the next step.
type Situation struct {
	Task     task.Task
	State    host.State
	Estimate score.Estimate
	Features score.Features
}

// Info is what came of a step. It is known to the simulator at once; a gateway learns it only at Done.
type Info struct {
	Job    int
	Cloud  bool
	Took   float64 // T, s
	Done   float64 // when the result was there, s from the begin of the episode
	Missed bool
	Joules float64
	Bytes  float64 // on the wire
	Cost   float64 // J
}

// Env is one episode as one who decides lives through it, with the contract of Gymnasium: Reset begins an episode, Step
// takes an action and gives observation, reward, terminated, truncated and info. The world does not end with the last task,
// it is only no longer watched: an episode is truncated, never terminated. An Env belongs to one goroutine.
type Env struct {
	world   *World
	episode *Episode
	model   *score.Model
	data    []byte // stands for the data of every task; only its length is looked at
	classes []task.Class

	at       int
	late     bool // tasks are bound late, by what a gateway then sees
	servers  Servers
	watch    watcher
	seen     Situation
	observed []float64
}

// epoch is when an episode begins on the clock that its states show.
const epoch = int64(1_700_000_000 * time.Second)

// NewEnv makes an environment of that world. Call Reset before anything else.
func NewEnv(w *World) (*Env, error) {
	model, err := score.New(w.Config.Score())
	if err != nil {
		return nil, err
	}
	e := &Env{world: w, model: model, data: make([]byte, w.Config.maxBytes())}
	for i, k := range w.Config.Mix {
		e.classes = append(e.classes, task.Class{Name: k.Name, Order: i, Weight: 1})
	}
	return e, nil
}

// Reset draws the episode of that seed and gives its first observation.
func (e *Env) Reset(seed uint64) []float64 { return e.Begin(e.world.Draw(seed)) }

// Begin is Reset with an episode that is already there.
func (e *Env) Begin(episode *Episode) []float64 {
	e.episode, e.at, e.late, e.servers = episode, 0, false, episode.Idle()
	e.watch.begin(episode)
	return e.observe()
}

// Mark remembers the present place of the episode. What it gives comes back to it, as long as the episode is the same.
func (e *Env) Mark() (back func()) {
	kept := *e
	kept.watch = watcher{}
	kept.watch.copy(&e.watch)
	return func() {
		watch := e.watch
		*e = kept
		e.watch = watch
		e.watch.copy(&kept.watch)
		e.observed = e.seen.Features[:]
	}
}

// Step does with the present task as the action says. After the last task the observation stays as it is.
func (e *Env) Step(action int) (obs []float64, reward float64, terminated, truncated bool, info Info) {
	info = e.act(e.at, e.episode.Jobs[e.at].At, action == Cloud)
	e.at++
	if e.at < len(e.episode.Jobs) {
		e.observe()
	}
	return e.observed, -info.Cost, false, e.at >= len(e.episode.Jobs), info
}

// Size is the length of an observation.
func (e *Env) Size() int { return score.NumFeatures }

// Situation is the present task with its state, estimate and features.
func (e *Env) Situation() *Situation { return &e.seen }

// Episode is what is being played, future included: for the lab's oracle, never for a policy.
func (e *Env) Episode() *Episode { return e.episode }

// Bind binds job i to a way at the time now, at or after its arrival and all times of earlier calls. It is for those who play a plan:
// what they do is no step, and the situation stays as it is.
func (e *Env) Bind(i int, now float64, cloud bool) Info { return e.act(i, now, cloud) }

// act binds job i to a way at the time now.
func (e *Env) act(i int, now float64, cloud bool) Info {
	ep := e.episode
	j := &ep.Jobs[i]
	info := Info{Job: i, Cloud: cloud, Joules: ep.Joules(i, cloud)}
	if cloud {
		begin := max(e.servers.Link, ep.Link.Done(now))
		var sent float64
		e.servers.Link, sent = ep.SentFrom(i, e.servers.Link, now)
		info.Bytes = j.Bytes + ep.Config.HeaderBytes
		info.Took = sent - j.At + ep.Away(i)
		e.watch.sent(ep, j, now, info.Bytes, begin, sent)
	} else {
		e.servers.Edge, info.Took = ep.LocalFrom(i, e.servers.Edge, now)
		e.watch.kept(j.At+info.Took, j.Mcycles)
	}
	info.Done = j.At + info.Took
	info.Missed = info.Took > j.Deadline
	info.Cost = ep.Cost(i, cloud, info.Took)
	return info
}

// observe makes the situation of the present task, with the service's own estimate and features.
func (e *Env) observe() []float64 {
	e.situate(e.at, e.episode.Jobs[e.at].At)
	e.observed = e.seen.Features[:]
	return e.observed
}

// situate makes the situation of job i at a time, which is that of its arrival or later.
func (e *Env) situate(i int, at float64) {
	j, s := &e.episode.Jobs[i], &e.seen
	s.Task = task.Task{
		Received: onClock(j.At), Of: 1, Class: &e.classes[j.Kind], Data: e.data[:int(j.Bytes)],
		Complexity: j.Mcycles / (j.Bytes / score.KB * e.world.Config.maxDensity() / 100),
		Deadline:   time.Duration(j.Deadline * 1e9),
	}
	e.look(at)
	s.Estimate = e.model.Estimate(&s.Task, &s.State)
	e.model.Features(&s.Task, &s.Estimate, &s.State, &s.Features)
}

// look brings the state of the situation to a time.
func (e *Env) look(at float64) {
	e.watch.state(e.episode, at, e.servers, &e.seen.State)
	e.seen.State.Time = onClock(at)
	if e.late {
		e.watch.lateState(&e.seen.State)
	}
}

// onClock is a time of the episode on the clock that its states show.
func onClock(at float64) int64 { return epoch + int64(at*1e9) }
