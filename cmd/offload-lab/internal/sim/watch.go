package sim

import "app-offload/functions/host"

// watcher is what a gateway can know of itself. Its queues it knows: what a worker has computed and what its connection has
// taken are counted where they happen. The load by others it knows from a sampler that looks once a second. Of the link it
// knows only what acknowledged transfers tell, and those tell it late.
type watcher struct {
	link   host.Link
	flying []transfer // in the order of their acknowledgement
	local  []float64  // when the tasks kept here will be done, ascending
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

func (w *watcher) kept(until float64) { w.local = append(w.local, until) }

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
	for n < len(w.local) && w.local[n] <= now {
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
