package sim

import (
	"math"
	"time"

	"app-offload/functions/host"
	"app-offload/functions/link"
)

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
	began float64 // when it was handed to the link, s
	acked float64
	bytes int
	alone bool
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
	if e.Config.Beliefs.Link == 1 {
		w.meter.Known((e.Link.Done(0)-e.Link.Done(-warmup))/warmup, e.RTT(-warmup), timeOf(0))
	}
}

// copy makes w another's equal, on its own memory.
func (w *watcher) copy(of *watcher) {
	flying, local := append(w.flying[:0], of.flying...), append(w.local[:0], of.local...)
	*w = *of
	w.flying, w.local, w.meter = flying, local, of.meter.Copy()
}

// sent books a transfer that is bound at the time now and acknowledged at acked.
func (w *watcher) sent(now, acked, bytes float64) {
	alone := w.meter.Start(w.life, int(bytes), int(bytes), timeOf(now))
	w.flying = append(w.flying, transfer{now, acked, int(bytes), alone})
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
	w.backlog(&s.Link)
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
