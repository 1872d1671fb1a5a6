package faults

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is the way between app-offload and the broker in the cloud, and what is wrong with it. What is wrong may change while
// connections stand, at any moment of theirs. (Toxiproxy does not bear that: it waits for a stage to let go, under the lock that the
// stage behind it needs in order to end.)
type link struct {
	upstream string
	addr     string
	state    atomic.Pointer[state]
	running  sync.WaitGroup // listener and connections

	mu       sync.Mutex
	listener net.Listener // nil while it is cut
	pairs    map[*pair]struct{}
}

// state is a trouble for as long as it lasts.
type state struct {
	trouble
	over chan struct{} // closed when another takes its place
}

// trouble is one thing that can be wrong with a link.
type trouble struct {
	cut      bool
	up, down flow // towards the broker, and back
}

// flow is what is wrong with one direction. The zero value is nothing.
type flow struct {
	rate          float64       // bytes/s; 0 is as fast as it goes
	delay, jitter time.Duration // each piece arrives by so much later, and up to so much more
	piece         int           // bytes that arrive at once; 0 is all there are
	pause         time.Duration // between two such pieces
	stall         bool          // nothing arrives
	swallow       int           // MQTT's number of the packets that get lost; 0 is none
	limit         int           // bytes after which the connection ends; 0 is never
	reset         bool          // the next piece resets the connection
	resetAfter    time.Duration // so long after it came
}

// MQTT's numbers of the packets that a link can swallow.
const (
	publishPacket = 3
	pubackPacket  = 4
)

// troubles are those that `slow`, `stall` and the others draw from.
var troubles = map[string][]trouble{
	"cut": {{cut: true}},
	"slow": {
		{up: flow{rate: 20e3}},
		{up: flow{delay: 400 * time.Millisecond, jitter: 300 * time.Millisecond}, down: flow{delay: 200 * time.Millisecond}},
		{up: flow{piece: 50, pause: 200 * time.Microsecond}},
	},
	"stall": {{up: flow{stall: true}}, {down: flow{stall: true}}, {up: flow{stall: true}, down: flow{stall: true}}}, // half-open
	"reset": {
		{up: flow{reset: true}},
		{down: flow{reset: true, resetAfter: 20 * time.Millisecond}},
		{up: flow{limit: 5000}},
		{down: flow{limit: 200}},
	},
	"puback":  {{down: flow{swallow: pubackPacket}}},
	"receipt": {{down: flow{swallow: publishPacket}}},
}

const anyPort = "127.0.0.1:0"

// newLink opens a link without any trouble.
func newLink(upstream string) (*link, error) {
	l := &link{upstream: upstream, addr: anyPort, pairs: map[*pair]struct{}{}}
	l.state.Store(&state{over: make(chan struct{})})
	return l, l.open()
}

// harm makes trouble in place of what was there before. A link that was cut opens with the new trouble on it.
func (l *link) harm(t trouble) error {
	old := l.state.Swap(&state{t, make(chan struct{})})
	close(old.over)
	if t.cut {
		l.close()
		return nil
	}
	return l.open()
}

// heal takes all trouble away.
func (l *link) heal() error { return l.harm(trouble{}) }

// open listens, at the same address each time.
func (l *link) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.addr)
	if err != nil {
		return fmt.Errorf("opening the link at %s: %w", l.addr, err)
	}
	if l.listener = listener; l.addr == anyPort {
		l.addr = listener.Addr().String()
	}
	l.running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			l.running.Go(func() { l.serve(c.(*net.TCPConn)) })
		}
	})
	return nil
}

// close ends the listener and all connections, and waits for them.
func (l *link) close() {
	l.mu.Lock()
	if l.listener != nil {
		_ = l.listener.Close()
		l.listener = nil
	}
	for p := range l.pairs {
		p.end(false)
	}
	l.mu.Unlock()
	l.running.Wait()
}

// serve carries one connection both ways until it ends.
func (l *link) serve(client *net.TCPConn) {
	server, err := net.DialTimeout("tcp", l.upstream, dialing)
	if err != nil {
		_ = client.Close()
		return
	}
	p := &pair{client: client, server: server.(*net.TCPConn), gone: make(chan struct{})}
	if !l.admit(p) {
		p.end(false)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.carry(p, p.client, p.server, func(t *trouble) *flow { return &t.up }) })
	both.Go(func() { l.carry(p, p.server, p.client, func(t *trouble) *flow { return &t.down }) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pairs, p)
}

const dialing = 5 * time.Second

// admit books a connection, unless the link was cut while it was made.
func (l *link) admit(p *pair) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		l.pairs[p] = struct{}{}
	}
	return l.listener != nil
}

// pair is one connection through the link.
type pair struct {
	client, server *net.TCPConn
	once           sync.Once
	gone           chan struct{}
}

// end closes both sides, with a reset if it must hurt.
func (p *pair) end(reset bool) {
	p.once.Do(func() {
		close(p.gone)
		for _, c := range []*net.TCPConn{p.client, p.server} {
			if reset {
				_ = c.SetLinger(0)
			}
			_ = c.Close()
		}
	})
}

// Between its two ends a direction holds so many pieces of so many bytes, as a socket's buffers would.
const (
	pieceBytes = 16 << 10
	pieces     = 4
)

// piece is what was read at once, and when.
type piece struct {
	data []byte
	at   time.Time
}

// carry takes one direction of a connection from end to end.
func (l *link) carry(p *pair, from, to *net.TCPConn, of func(*trouble) *flow) {
	read := make(chan piece, pieces)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(read)
		for {
			buffer := make([]byte, pieceBytes)
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case read <- piece{buffer[:n], time.Now()}:
				case <-p.gone:
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	d := direction{link: l, pair: p, to: to, of: of}
	for each := range read {
		if !d.pass(each) {
			break
		}
	}
	p.end(false) // or who reads would wait for its connection
	reading.Wait()
}

// direction is one way of a connection, on its goroutine.
type direction struct {
	link   *link
	pair   *pair
	to     *net.TCPConn
	of     func(*trouble) *flow
	frames framer
	during *state    // the trouble under which passed was counted
	passed int       // bytes
	free   time.Time // when the line has carried all before
}

// pass brings one piece to the other end as the trouble of the moment has it, and reports whether the connection stands.
func (d *direction) pass(p piece) bool {
	now, f := d.now()
	for f.stall {
		if !d.wait(now, time.Time{}) {
			return false
		}
		now, f = d.now()
	}
	if f.reset {
		d.wait(now, p.at.Add(f.resetAfter))
		d.pair.end(true)
		return false
	}
	if late := f.delay; late > 0 {
		if f.jitter > 0 {
			late += rand.N(f.jitter) // #nosec G404 -- of a bad link
		}
		d.wait(now, p.at.Add(late))
	}
	// Packets are told apart from the start of every connection on, so that one can be swallowed at any time.
	return d.write(now, f, d.frames.pass(p.data, f.swallow))
}

// now is the trouble of the moment for this direction.
func (d *direction) now() (*state, *flow) {
	s := d.link.state.Load()
	if s != d.during {
		d.during, d.passed = s, 0
	}
	return s, d.of(&s.trouble)
}

// write gives bytes to the other end, as fast and in such pieces as the flow allows.
func (d *direction) write(s *state, f *flow, data []byte) bool {
	for len(data) > 0 {
		n := len(data)
		if f.piece > 0 {
			n = min(n, f.piece)
		}
		if f.rate > 0 {
			// Each byte has its moment: who oversleeps on a busy machine hurries then, and the rate is as said.
			n = min(n, max(int(f.rate/100), 256))
			if at := time.Now(); d.free.Before(at) {
				d.free = at
			}
			d.free = d.free.Add(time.Duration(float64(n) / f.rate * float64(time.Second)))
			d.wait(s, d.free)
		}
		if f.limit > 0 && d.passed+n > f.limit {
			_, _ = d.to.Write(data[:max(f.limit-d.passed, 0)])
			return false
		}
		if _, err := d.to.Write(data[:n]); err != nil {
			return false
		}
		data, d.passed = data[n:], d.passed+n
		if f.pause > 0 && len(data) > 0 {
			d.wait(s, time.Now().Add(f.pause))
		}
	}
	return true
}

// wait lets time pass until then, or without a bound, but not beyond the trouble. It reports whether the connection stands.
func (d *direction) wait(s *state, until time.Time) bool {
	var due <-chan time.Time
	if !until.IsZero() {
		due = time.After(time.Until(until))
	}
	select {
	case <-due:
	case <-s.over:
	case <-d.pair.gone:
		return false
	}
	return true
}
