package sim

import (
	"container/heap"
	"fmt"
	"math"
	"strconv"
	"time"

	"app-offload/functions/decision"
	"app-offload/functions/host"
	"app-offload/functions/link"
	"app-offload/functions/policy"
	"app-offload/functions/score"
	"app-offload/functions/shed"
	"app-offload/functions/task"
)

// The actions.
const (
	Local = iota
	Cloud
	NumActions
)

// Situation is the input of a decision: exactly what the service passes to its policies, computed by the service's own code. It belongs to the
// environment and changes with the next step.
type Situation struct {
	Task     task.Task
	State    host.State
	Estimate score.Estimate
	Features score.Features
}

// Info is the outcome of a step. The simulator knows it immediately; a gateway learns it only at Done.
type Info struct {
	Job    int
	Cloud  bool
	Took   float64 // T, s
	Done   float64 // time of the result, s since the start of the episode
	Missed bool
	Joules float64
	Bytes  float64 // on the wire
	Cost   float64 // J
	// Gone marks a task that was dropped after Took. It costs the maximum for lateness. Reduced marks a task that was processed in its reduced form.
	Gone, Reduced bool
}

// Env is one episode from the view of a decision maker, with the contract of Gymnasium: Reset begins an episode, Step takes an action and returns
// observation, reward, terminated, truncated and info. The world does not end with the last task, so an episode is truncated, never terminated. An
// Env must be used by one goroutine.
type Env struct {
	world   *World
	episode *Episode
	model   *score.Model
	data    []byte // placeholder for the data of every task; only its length matters
	classes []*task.Class
	sheds   *task.Classes // nil if no class is shed
	gate    *shed.Gate
	line    policy.Line // of parked tasks
	outbox  *outbox     // nil without batching

	// Begins, if not nil, is called with the prediction model at the start of each episode.
	Begins func(*score.Model)

	at       int
	servers  Servers
	watch    watcher
	feed     feedback
	seen     Situation
	observed []float64
}

// epoch is the start of an episode on the clock of its states.
const epoch = int64(1_700_000_000 * time.Second)

// NewEnv creates an environment of that world. Call Reset first.
func NewEnv(w *World) (*Env, error) {
	model, err := score.New(w.Config.Score())
	if err != nil {
		return nil, err
	}
	e := &Env{world: w, model: model, data: make([]byte, w.Config.maxBytes())}
	for i, k := range w.Config.Mix {
		e.classes = append(e.classes, &task.Class{Name: k.Name, Order: i, Weight: 1})
	}
	if err := e.overloaded(&w.Config); err != nil {
		return nil, err
	}
	if b := w.Config.Batch; b != nil {
		if err := b.Validate(); err != nil {
			return nil, fmt.Errorf("making messages: %w", err)
		}
	}
	return e, nil
}

// Reset draws the episode of that seed and returns its first observation.
func (e *Env) Reset(seed uint64) []float64 { return e.Begin(e.world.Draw(seed)) }

// Begin is Reset with a given episode.
func (e *Env) Begin(episode *Episode) []float64 {
	e.episode, e.at, e.servers = episode, 0, episode.Idle()
	e.watch.begin(episode)
	e.feed, e.gate = feedback{pending: e.feed.pending[:0]}, &shed.Gate{}
	e.line = policy.Line{}
	if b := episode.Config.Batch; b != nil {
		if err := e.openOutbox(b); err != nil {
			panic(err) // NewEnv has reported this error
		}
	}
	if !episode.Config.View.Uncorrected {
		e.model, _ = score.New(episode.Config.Score()) // NewEnv has reported its errors
		e.feed.model = e.model
	}
	if e.Begins != nil {
		e.Begins(e.model)
	}
	return e.observe()
}

// Mark saves the current state of the episode; back restores it, as long as the episode is the same. It does not restore corrections by outcomes: the
// view must be Uncorrected.
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

// Step applies the action to the current task. After the last task the observation does not change.
func (e *Env) Step(action int) (obs []float64, reward float64, terminated, truncated bool, info Info) {
	info = e.act(e.at, e.episode.Jobs[e.at].At, decision.Decision{Target: decision.Target(action)}) // 0 or 1
	return e.observed, -info.Cost, false, e.step(), info
}

// step moves to the next task, and reports whether the episode is over.
func (e *Env) step() (over bool) {
	if e.at++; e.at >= len(e.episode.Jobs) {
		return true
	}
	e.observe()
	return false
}

// Situation returns the current task with its state, estimate and features.
func (e *Env) Situation() *Situation { return &e.seen }

// Bind binds job i to a path at time now, which must not be before its arrival or earlier calls. It is for running plans: it is not a step and leaves
// the situation unchanged.
func (e *Env) Bind(i int, now float64, cloud bool) Info {
	info, _ := e.carry(i, now, cloud, 0)
	return info
}

// act binds job i, the job of the situation, by a decision at time now. Learners receive the outcome when it becomes known.
func (e *Env) act(i int, now float64, d decision.Decision) Info {
	reduced := 0.0
	if d.Reason == decision.Reduced {
		reduced = e.seen.Estimate.Cycles
	}
	info, own := e.carry(i, now, d.Target == decision.Cloud, reduced)
	if e.learns() {
		e.learn(now, e.entry(d), info, own)
	}
	return info
}

// do is act with a callback for the outcome, which is known only after batching.
func (e *Env) do(i int, now float64, d decision.Decision, then func(Info)) {
	if e.outbox == nil || d.Target != decision.Cloud {
		then(e.act(i, now, d))
		return
	}
	var entry outcome
	if e.learns() {
		entry = e.entry(d)
	}
	e.outbox.add(i, now, func(info Info) {
		if e.learns() {
			e.learn(now, entry, info, 0)
		}
		then(info)
	})
}

func (e *Env) learns() bool { return e.feed.model != nil || e.feed.learner != nil }

// entry is a decision about the task of the situation.
func (e *Env) entry(d decision.Decision) outcome {
	s := &e.seen
	return outcome{entry: decision.NewEntry(&s.Task, &s.Estimate, &s.State, d, "", ""), class: s.Task.Class}
}

// learn delivers the outcome of a task bound at time now to all learners when the gateway knows it.
func (e *Env) learn(now float64, o outcome, info Info, own float64) {
	o.at, o.own = info.Done, own
	o.entry.Outcome = decision.Outcome{Known: true, Time: info.Done - now, Bytes: int64(info.Bytes), Energy: info.Joules, Met: !info.Missed}
	heap.Push(&e.feed.pending, o)
}

// carry sends job i along one path from time now on. own is the computing time of a local job. If reduced is above 0, the job is processed locally in
// a reduced form of that many Mcycles.
func (e *Env) carry(i int, now float64, cloud bool, reduced float64) (info Info, own float64) {
	ep := e.episode
	j := &ep.Jobs[i]
	info = Info{Job: i, Cloud: cloud, Joules: ep.Joules(i, cloud)}
	if cloud {
		var sent float64
		e.servers.Link, sent = ep.SentFrom(i, e.servers.Link, now)
		info.Bytes = j.Bytes + ep.Config.HeaderBytes
		info.Took = sent - j.At + ep.Away(i)
		e.watch.sent(now, sent+j.RTT, info.Bytes, info.Bytes)
	} else {
		begin, work := max(e.servers.Edge, ep.Edge.Done(now)), j.Believed()
		e.servers.Edge, info.Took = ep.LocalFrom(i, e.servers.Edge, now)
		if reduced > 0 {
			e.servers.Edge, work, info.Reduced = begin+reduced, reduced, true
			info.Took, info.Joules = ep.Edge.When(e.servers.Edge)-j.At+j.Answer, reduced*ep.Config.EdgeJoules
		}
		end := j.At + info.Took - j.Answer
		own = end - max(now, ep.Edge.When(begin))
		e.watch.kept(end-own, end, work)
	}
	ep.settle(&info)
	return info, own
}

// settle derives the other fields from the time of a task.
func (e *Episode) settle(info *Info) {
	j := &e.Jobs[info.Job]
	info.Done = j.At + info.Took
	info.Missed = info.Took > j.Deadline
	info.Cost = e.Config.Cost.Of(info.Took, j.Deadline, info.Joules, info.Cloud)
}

// observe builds the situation of the current task with the service's own estimate and features.
func (e *Env) observe() []float64 {
	e.situate(e.at, e.episode.Jobs[e.at].At)
	e.observed = e.seen.Features[:]
	return e.observed
}

// situate builds the situation of job i at its arrival or later.
func (e *Env) situate(i int, at float64) {
	j, s := &e.episode.Jobs[i], &e.seen
	s.Task = task.Task{
		Device: e.world.Config.device(i), Received: onClock(j.At), Of: 1, Class: e.classes[j.Kind], Data: e.data[:int(j.size())],
		Complexity: min(j.Believed()/(j.size()/score.KB*e.world.Config.maxDensity()/100), 100),
		Deadline:   time.Duration(j.Deadline * 1e9),
	}
	if e.world.Config.NoDeadlines {
		s.Task.Deadline = 0
	}
	e.look(at)
	s.Estimate = e.model.Estimate(&s.Task, &s.State)
	e.model.Features(&s.Task, &s.Estimate, &s.State, &s.Features)
}

// device returns the device of task i.
func (c *Config) device(i int) string {
	if c.Devices > 0 {
		i %= c.Devices
	}
	return strconv.Itoa(i)
}

// look advances the state of the situation to a time.
func (e *Env) look(at float64) {
	if e.outbox != nil {
		e.outbox.until(at)
	}
	e.feed.until(at)
	e.watch.state(e.episode, at, e.servers, &e.seen.State)
	if e.outbox != nil {
		e.outbox.state(&e.seen.State.Link)
	}
	all := e.line.Total()
	e.seen.State.ParkedCycles, e.seen.State.ParkedBytes = all.Cycles, all.Bytes
}

// watcher models what a gateway can observe of itself, with the same resolution: of the node whole tasks until they are done, and the load by other
// processes sampled once a second; of the link the exporter's measurements from acknowledgements, which arrive late.
type watcher struct {
	meter  *link.Link // with one permanent connection
	life   uint64
	flying []transfer // in the order of their acknowledgements
	local  []keeping  // in the order of completion
	pace   pace
	down   []span // times at which the service considers the link down
}

// transfer is a message in flight.
type transfer struct {
	began   float64 // time at which the link received it, s
	acked   float64
	records int // bytes
	bytes   int
	alone   bool
}

// keeping is a task that is computed locally or waits for that.
type keeping struct {
	began   float64 // s
	until   float64
	mcycles float64 // as predicted
}

// pace is the speed of past local tasks, from which the service's workers estimate the progress of the current task (functions/local).
type pace struct{ mcycles, took float64 }

const (
	headFades = 10.0 // s of work after which a measurement has lost two thirds of its weight
	mostDone  = 0.9  // of an unfinished task
)

func (p *pace) end(k *keeping) {
	took := k.until - k.began
	kept := math.Exp(-took / headFades)
	p.mcycles, p.took = p.mcycles*kept+k.mcycles, p.took*kept+took
}

// done is the presumed progress of the current task in Mcycles.
func (p *pace) done(k *keeping, now float64) float64 {
	if p.took == 0 {
		return 0
	}
	return min(max(now-k.began, 0)*p.mcycles/p.took, mostDone*k.mcycles)
}

const (
	warmup     = 10.0 // s before the episode that the gateway has already measured
	probeEvery = 15 * time.Second
	linkAhead  = 100 * time.Millisecond // of the link's time, filled in advance by the exporter
	unmeasured = 64 << 10               // assumed capacity in bytes of an unmeasured link
	spoolBytes = 1 << 30
)

func (w *watcher) begin(e *Episode) {
	*w = watcher{meter: link.New(), flying: w.flying[:0], local: w.local[:0], down: e.noticed()}
	w.life = w.meter.Open()
	switch {
	case len(e.Before) > 0:
		w.before(e)
	case e.Config.Beliefs.Link == 1:
		w.meter.Known((e.Link.Done(0)-e.Link.Done(-warmup))/warmup, e.RTT(-warmup), timeOf(0))
	}
}

// before feeds the episode's earlier messages to the link's measurement.
func (w *watcher) before(e *Episode) {
	at := -warmup * float64(len(e.Before))
	w.meter.RoundTrip(time.Duration(e.RTT(at)*float64(time.Second)), timeOf(at))
	for _, m := range e.Before {
		acked := e.Link.When(e.Link.Done(at)+m.Bytes) + e.RTT(at)
		w.meter.Ack(w.life, int(m.Bytes), w.meter.Start(w.life, int(m.Records), int(m.Bytes), timeOf(at)), timeOf(at), timeOf(acked))
		at = max(at+warmup, acked)
	}
}

// copy makes w an independent copy of another watcher.
func (w *watcher) copy(of *watcher) {
	flying, local := append(w.flying[:0], of.flying...), append(w.local[:0], of.local...)
	*w = *of
	w.flying, w.local, w.meter = flying, local, of.meter.Copy()
}

// sent records a transfer with this many bytes of records, bound at time now and acknowledged at acked.
func (w *watcher) sent(now, acked, records, bytes float64) {
	alone := w.meter.Start(w.life, int(records), int(bytes), timeOf(now))
	w.flying = append(w.flying, transfer{now, acked, int(records), int(bytes), alone})
}

// unacked is the number of bytes of records in flight.
func (w *watcher) unacked() (records int) {
	for i := range w.flying {
		records += w.flying[i].records
	}
	return records
}

func (w *watcher) kept(began, until, mcycles float64) {
	w.local = append(w.local, keeping{began, until, mcycles})
}

// note applies all events up to now.
func (w *watcher) note(e *Episode, now float64) {
	n := 0
	for n < len(w.flying) && w.flying[n].acked <= now {
		f := &w.flying[n]
		w.meter.Ack(w.life, f.bytes, f.alone, timeOf(f.began), timeOf(f.acked))
		n++
	}
	w.flying = append(w.flying[:0], w.flying[n:]...)
	n = 0
	for n < len(w.local) && w.local[n].until <= now {
		w.pace.end(&w.local[n])
		n++
	}
	w.local = append(w.local[:0], w.local[n:]...)
	if at := timeOf(now); w.meter.Stale(at) >= probeEvery {
		w.meter.RoundTrip(time.Duration(e.RTT(now)*float64(time.Second)), at)
	}
}

// state fills s with the node's observable state at time now.
func (w *watcher) state(e *Episode, now float64, servers Servers, s *host.State) {
	w.note(e, now)
	*s = host.State{Time: onClock(now), Cores: 1, QueueTasks: len(w.local), CPU: 100 * (1 - e.Edge.At(now-1)/e.Config.EdgeMcycles)}
	for i := range w.local {
		s.QueueCycles += w.local[i].mcycles
	}
	if len(w.local) > 0 && !e.Config.View.Still {
		s.QueueCycles -= w.pace.done(&w.local[0], now)
	}
	if s.QueueCycles > 0 {
		s.OwnCPU, s.CPU = 100-s.CPU, 100
	}
	s.Link = w.meter.Ahead(timeOf(now))
	if e.Config.View.Still {
		s.Link = w.meter.State()
	}
	s.Link.Up = !within(w.down, now)
	if e.Config.Batch == nil {
		w.backlog(&s.Link)
	}
	if e.Config.View.Exact {
		s.QueueCycles = max(servers.Edge-e.Edge.Done(now), 0)
		s.Link.BacklogBytes, s.Link.InflightBytes = int64(max(servers.Link-e.Link.Done(now), 0)), 0
	}
	s.Link.BacklogShare = float64(s.Link.BacklogBytes) / spoolBytes
}

// backlog splits the unsent bytes into those that the exporter has handed to the link and those still in the spool.
func (w *watcher) backlog(l *host.Link) {
	room, all := int64(w.meter.Carries(linkAhead, unmeasured)), int64(0)
	for i := range w.flying {
		if all > room {
			l.BacklogTasks++
			l.BacklogBytes += int64(w.flying[i].bytes)
		}
		all += int64(w.flying[i].bytes)
	}
	l.InflightBytes -= l.BacklogBytes
	if l.InflightBytes < 0 { // a part has presumably left
		l.BacklogBytes, l.InflightBytes = max(l.BacklogBytes+l.InflightBytes, 0), 0
	}
}

// next is the time of the next local completion or acknowledgement, or never.
func (w *watcher) next() float64 {
	next := math.Inf(1)
	if len(w.flying) > 0 {
		next = w.flying[0].acked
	}
	if len(w.local) > 0 {
		next = min(next, w.local[0].until)
	}
	return next
}

// onClock converts a time of the episode to the clock of its states.
func onClock(at float64) int64 { return epoch + int64(at*1e9) }

// timeOf is onClock as a time.Time.
func timeOf(at float64) time.Time { return time.Unix(0, onClock(at)) }
