package sim

import (
	"math"

	"app-offload/functions/host"
)

// watcher is what a gateway can know of itself. It knows its queues: completed work and bytes accepted by the connection are
// counted where they happen. It knows the load by other processes from a sampler that runs once a second. It knows the link only
// from acknowledged transfers, and those report late.
type watcher struct {
	link   host.Link
	flying []transfer // in the order of their acknowledgement
	local  []keeping  // in the order in which they will be done
	bytes  float64    // of the measurement that is under way
	busy   float64    // s, of the same
}

// transfer is one message on its way.
type transfer struct {
	acked float64 // when, s
	bytes float64
	busy  float64 // s during which the link carried it
	rtt   float64
}

// keeping is one task that is computed here, or waits for that.
type keeping struct {
	until   float64 // s
	mcycles float64
}

const (
	foldBytes   = 64 << 10 // a measurement of goodput ends with so many bytes, as the exporter's does
	goodputGain = 0.25
	rttGain     = 0.125
	warmup      = 10.0 // s before the episode that the gateway has measured already
	spoolBytes  = 1 << 30
)

func (w *watcher) begin(e *Episode) {
	*w = watcher{flying: w.flying[:0], local: w.local[:0]}
	w.link = host.Link{Up: true, Goodput: (e.Link.Done(0) - e.Link.Done(-warmup)) / warmup, RTT: e.RTT(-warmup)}
}

// copy makes w another's equal, on its own memory.
func (w *watcher) copy(of *watcher) {
	flying, local := append(w.flying[:0], of.flying...), append(w.local[:0], of.local...)
	*w = *of
	w.flying, w.local = flying, local
}

// sent books a transfer, bound at the time now, that begins when the link's work stands at begin and is carried by the time sent.
func (w *watcher) sent(e *Episode, j *Job, now, bytes, begin, sent float64) {
	started := max(now, e.Link.When(begin))
	w.flying = append(w.flying, transfer{acked: sent + j.RTT, bytes: bytes, busy: sent - started, rtt: j.RTT})
}

func (w *watcher) kept(until, mcycles float64) { w.local = append(w.local, keeping{until, mcycles}) }

// hear takes in the acknowledgements up to now.
func (w *watcher) hear(now float64) {
	n := 0
	for n < len(w.flying) && w.flying[n].acked <= now {
		f := &w.flying[n]
		w.bytes += f.bytes
		w.busy += f.busy
		if w.bytes >= foldBytes {
			w.link.Goodput += goodputGain * (w.bytes/max(w.busy, 1e-6) - w.link.Goodput)
			w.bytes, w.busy = 0, 0
		}
		w.link.RTT += rttGain * (f.rtt - w.link.RTT)
		n++
	}
	w.flying = append(w.flying[:0], w.flying[n:]...)
	n = 0
	for n < len(w.local) && w.local[n].until <= now {
		n++
	}
	w.local = append(w.local[:0], w.local[n:]...)
}

// state fills s with what the node shows at the time now.
func (w *watcher) state(e *Episode, now float64, servers Servers, s *host.State) {
	w.hear(now)
	others := 1 - e.Edge.At(now-1)/e.Config.EdgeMcycles
	*s = host.State{Cores: 1, QueueTasks: len(w.local), QueueCycles: max(servers.Edge-e.Edge.Done(now), 0), Link: w.link}
	s.CPU = 100 * others
	if s.QueueCycles > 0 {
		s.OwnCPU = 100 - s.CPU
		s.CPU = 100
	}
	s.Link.RTT95 = w.link.RTT
	s.Link.BacklogTasks = int64(len(w.flying))
	s.Link.BacklogBytes = int64(max(servers.Link-e.Link.Done(now), 0))
	s.Link.BacklogShare = float64(s.Link.BacklogBytes) / spoolBytes
}

// lateState shows the queues as the service does to a policy that binds late, and as coarsely: of the link what is not acknowledged, less
// what is under way for a round trip; of the node whole tasks, until they are done. A server's progress with its present
// task would show its present speed, which matters most to the tasks that wait for it.
func (w *watcher) lateState(s *host.State) {
	bytes, mcycles := 0.0, 0.0
	for i := range w.flying {
		bytes += w.flying[i].bytes
	}
	for i := range w.local {
		mcycles += w.local[i].mcycles
	}
	s.QueueCycles = mcycles
	s.Link.BacklogBytes = int64(max(bytes-w.link.Goodput*w.link.RTT, 0))
	s.Link.BacklogShare = float64(s.Link.BacklogBytes) / spoolBytes
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
