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
	// Gone is a task that was dropped, after Took. It costs as much as being late can. Reduced is one that was processed in its reduced form.
	Gone, Reduced bool
}

// Env is one episode as one who decides lives through it, with the contract of Gymnasium: Reset begins an episode, Step
// takes an action and gives observation, reward, terminated, truncated and info. The world does not end with the last task,
// it is only no longer watched: an episode is truncated, never terminated. An Env belongs to one goroutine.
type Env struct {
	world   *World
	episode *Episode
	model   *score.Model
	data    []byte // stands for the data of every task; only its length is looked at
	classes []*task.Class
	sheds   *task.Classes // nil where no class gives way
	gate    *shed.Gate
	line    policy.Line // of parked tasks
	outbox  *outbox     // nil where no messages are made

	// Begins, where it is not nil, sees the model of predictions at the begin of each episode.
	Begins func(*score.Model)

	at       int
	servers  Servers
	watch    watcher
	feed     feedback
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

// Reset draws the episode of that seed and gives its first observation.
func (e *Env) Reset(seed uint64) []float64 { return e.Begin(e.world.Draw(seed)) }

// Begin is Reset with an episode that is already there.
func (e *Env) Begin(episode *Episode) []float64 {
	e.episode, e.at, e.servers = episode, 0, episode.Idle()
	e.watch.begin(episode)
	e.feed, e.gate = feedback{pending: e.feed.pending[:0]}, &shed.Gate{}
	e.line = policy.Line{}
	if b := episode.Config.Batch; b != nil {
		if err := e.openOutbox(b); err != nil {
			panic(err) // NewEnv has reported it
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

// Mark remembers the present place of the episode. What it gives comes back to it, as long as the episode is the same. What outcomes have
// corrected until then stays corrected: the view has to be Uncorrected.
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
	info = e.act(e.at, e.episode.Jobs[e.at].At, decision.Decision{Target: decision.Target(action)}) // 0 or 1
	return e.observed, -info.Cost, false, e.step(), info
}

// step goes on to the next task, and reports whether there was none.
func (e *Env) step() (over bool) {
	if e.at++; e.at >= len(e.episode.Jobs) {
		return true
	}
	e.observe()
	return false
}

// Size is the length of an observation.
func (e *Env) Size() int { return score.NumFeatures }

// Situation is the present task with its state, estimate and features.
func (e *Env) Situation() *Situation { return &e.seen }

// Episode is what is being played, future included: for the lab's oracle, never for a policy.
func (e *Env) Episode() *Episode { return e.episode }

// Bind binds job i to a way at the time now, at or after its arrival and all times of earlier calls. It is for those who play a plan:
// what they do is no step, and the situation stays as it is.
func (e *Env) Bind(i int, now float64, cloud bool) Info {
	info, _ := e.carry(i, now, cloud, 0)
	return info
}

// act binds job i, of which the situation is, by a decision at the time now. What comes of it reaches all that learn from it when it is
// there.
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

// do is act that calls then with what comes of it, which is known only once a message is made.
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

// learn lets what came of a task that was bound at the time now reach all that learn from it when it is there.
func (e *Env) learn(now float64, o outcome, info Info, own float64) {
	o.at, o.own = info.Done, own
	o.entry.Outcome = decision.Outcome{Known: true, Time: info.Done - now, Bytes: int64(info.Bytes), Energy: info.Joules, Met: !info.Missed}
	heap.Push(&e.feed.pending, o)
}

// carry does job i one way from the time now on. own is the part of a local job's time in which it is computed. With reduced above 0 it is
// processed locally in a reduced form of so many Mcycles.
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

// settle fills in what follows from the time that a task took.
func (e *Episode) settle(info *Info) {
	j := &e.Jobs[info.Job]
	info.Done = j.At + info.Took
	info.Missed = info.Took > j.Deadline
	info.Cost = e.Config.Cost.Of(info.Took, j.Deadline, info.Joules, info.Cloud)
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

// device is that of task i.
func (c *Config) device(i int) string {
	if c.Devices > 0 {
		i %= c.Devices
	}
	return strconv.Itoa(i)
}

// look brings the state of the situation to a time.
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

// watcher is what a gateway can know of itself, and as coarsely: of the node whole tasks, until they are done, and the load by other processes
// from a sampler that runs once a second; of the link what its exporter measures from acknowledgements, which report late.
type watcher struct {
	meter  *link.Link // with one connection, which lasts
	life   uint64
	flying []transfer // in the order of their acknowledgement
	local  []keeping  // in the order in which they will be done
	pace   pace
	down   []span // when the service takes the link for gone
}

// transfer is one message on its way.
type transfer struct {
	began   float64 // when it was handed to the link, s
	acked   float64
	records int // bytes
	bytes   int
	alone   bool
}

// keeping is one task that is computed here, or waits for that.
type keeping struct {
	began   float64 // s
	until   float64
	mcycles float64 // as predicted
}

// pace is how fast local tasks went so far, by which the service's workers show their progress with the task at hand (functions/local).
type pace struct{ mcycles, took float64 }

const (
	headFades = 10.0 // s of work in which a measurement loses two thirds of its weight
	mostDone  = 0.9  // of a task that is not done
)

func (p *pace) end(k *keeping) {
	took := k.until - k.began
	kept := math.Exp(-took / headFades)
	p.mcycles, p.took = p.mcycles*kept+k.mcycles, p.took*kept+took
}

// done is what is presumably done of the task at hand, Mcycles.
func (p *pace) done(k *keeping, now float64) float64 {
	if p.took == 0 {
		return 0
	}
	return min(max(now-k.began, 0)*p.mcycles/p.took, mostDone*k.mcycles)
}

const (
	warmup     = 10.0 // s before the episode that the gateway has measured already
	probeEvery = 15 * time.Second
	linkAhead  = 100 * time.Millisecond // of the link's time that the exporter fills in advance
	unmeasured = 64 << 10               // bytes that a link of which nothing is known is taken to carry then
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

// before measures a link by the messages that the episode had before it.
func (w *watcher) before(e *Episode) {
	at := -warmup * float64(len(e.Before))
	w.meter.RoundTrip(time.Duration(e.RTT(at)*float64(time.Second)), timeOf(at))
	for _, m := range e.Before {
		acked := e.Link.When(e.Link.Done(at)+m.Bytes) + e.RTT(at)
		w.meter.Ack(w.life, int(m.Bytes), w.meter.Start(w.life, int(m.Records), int(m.Bytes), timeOf(at)), timeOf(at), timeOf(acked))
		at = max(at+warmup, acked)
	}
}

// copy makes w another's equal, on its own memory.
func (w *watcher) copy(of *watcher) {
	flying, local := append(w.flying[:0], of.flying...), append(w.local[:0], of.local...)
	*w = *of
	w.flying, w.local, w.meter = flying, local, of.meter.Copy()
}

// sent books a transfer of so many bytes of records that is bound at the time now and acknowledged at acked.
func (w *watcher) sent(now, acked, records, bytes float64) {
	alone := w.meter.Start(w.life, int(records), int(bytes), timeOf(now))
	w.flying = append(w.flying, transfer{now, acked, int(records), int(bytes), alone})
}

// unacked is how many bytes of records are on their way.
func (w *watcher) unacked() (records int) {
	for i := range w.flying {
		records += w.flying[i].records
	}
	return records
}

func (w *watcher) kept(began, until, mcycles float64) {
	w.local = append(w.local, keeping{began, until, mcycles})
}

// note takes in what came up to now.
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

// state fills s with what the node shows at the time now.
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

// backlog divides what is to be sent into what the exporter has handed to the link and what is still in the spool.
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
	if l.InflightBytes < 0 { // part of it is taken to have left
		l.BacklogBytes, l.InflightBytes = max(l.BacklogBytes+l.InflightBytes, 0), 0
	}
}

// next is when the gateway next learns that a task is done locally or was acknowledged, or never.
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

// onClock is a time of the episode on the clock that its states show.
func onClock(at float64) int64 { return epoch + int64(at*1e9) }

// timeOf is the same for those who measure.
func timeOf(at float64) time.Time { return time.Unix(0, onClock(at)) }
