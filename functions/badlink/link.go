// Package badlink is the way to a broker with what can be wrong with it, for tests and for the lab. It is no part of the service.
package badlink

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link is a TCP proxy between app-offload and the broker in the cloud. Its trouble may change at any moment, also while connections
// stand.
type Link struct {
	upstream string
	pieces   int                           // that a direction holds
	observe  func(bytes int, at time.Time) // of each piece towards the broker
	Addr     string                        // what to connect to
	state    atomic.Pointer[state]
	running  sync.WaitGroup // listener and connections

	mu       sync.Mutex
	listener net.Listener // nil while it is cut
	pairs    map[*pair]struct{}
}

// state is a trouble for as long as it lasts.
type state struct {
	Trouble
	over chan struct{} // closed when another takes its place
}

// Trouble is one thing that can be wrong with a link.
type Trouble struct {
	Cut      bool
	Up, Down Flow // towards the broker, and back
}

// Flow is what is wrong with one direction. The zero value is nothing.
type Flow struct {
	Rate          float64       // bytes/s; 0 is as fast as it goes
	Delay, Jitter time.Duration // each piece arrives by so much later, and up to so much more
	Distance      time.Duration // each byte arrives by so much after it left the line, which carries others meanwhile
	Piece         int           // bytes that arrive at once; 0 is all there are
	Pause         time.Duration // between two such pieces
	Stall         bool          // nothing arrives
	Swallow       int           // MQTT's number of the packets that get lost; 0 for no loss
	Refuse        int           // MQTT's number of the packets at which the connection ends; 0 for never
	RefuseAbove   int           // bytes, up to which such a packet still passes
	Limit         int           // bytes after which the connection ends; 0 is never
	Reset         bool          // the next piece resets the connection
	ResetAfter    time.Duration // so long after it came
}

// MQTT's numbers of the packets that a link can swallow.
const (
	Publish = 3
	Puback  = 4
)

// Troubles are what is wrong with links in the field, by kind.
var Troubles = map[string][]Trouble{
	"cut": {{Cut: true}},
	"slow": {
		{Up: Flow{Rate: 20e3}},
		{Up: Flow{Delay: 400 * time.Millisecond, Jitter: 300 * time.Millisecond}, Down: Flow{Delay: 200 * time.Millisecond}},
		{Up: Flow{Piece: 50, Pause: 200 * time.Microsecond}},
	},
	"stall": {{Up: Flow{Stall: true}}, {Down: Flow{Stall: true}}, {Up: Flow{Stall: true}, Down: Flow{Stall: true}}}, // half-open
	"reset": {
		{Up: Flow{Reset: true}},
		{Down: Flow{Reset: true, ResetAfter: 20 * time.Millisecond}},
		{Up: Flow{Limit: 5000}},
		{Down: Flow{Limit: 200}},
	},
	"puback":  {{Down: Flow{Swallow: Puback}}},
	"receipt": {{Down: Flow{Swallow: Publish}}},
}

// Closing is a broker or a balancer that takes connections and closes them at each PUBLISH of more bytes than that: with 0 at
// every one, with more as a broker does that limits the size of packets.
func Closing(above int) Trouble { return Trouble{Up: Flow{Refuse: Publish, RefuseAbove: above}} }

const anyPort = "127.0.0.1:0"

// New opens a link without any trouble.
func New(upstream string) (*Link, error) { return open(upstream, pieces, nil) }

// Observed opens a link that is long enough not to hold up the sender, and calls observe with the size and arrival of each piece
// that enters it towards the broker. The calls come from one goroutine a connection.
func Observed(upstream string, observe func(bytes int, at time.Time)) (*Link, error) {
	return open(upstream, manyPieces, observe)
}

func open(upstream string, pieces int, observe func(int, time.Time)) (*Link, error) {
	l := &Link{upstream: upstream, pieces: pieces, observe: observe, Addr: anyPort, pairs: map[*pair]struct{}{}}
	l.state.Store(&state{over: make(chan struct{})})
	return l, l.open()
}

// Harm makes trouble in place of what was there before. A link that was cut opens with the new trouble on it.
func (l *Link) Harm(t Trouble) error {
	old := l.state.Swap(&state{t, make(chan struct{})})
	close(old.over)
	if t.Cut {
		l.Close()
		return nil
	}
	return l.open()
}

// Heal takes all trouble away.
func (l *Link) Heal() error { return l.Harm(Trouble{}) }

// open listens, at the same address each time.
func (l *Link) open() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.Addr)
	if err != nil {
		return fmt.Errorf("opening the link at %s: %w", l.Addr, err)
	}
	if l.listener = listener; l.Addr == anyPort {
		l.Addr = listener.Addr().String()
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

// Close ends the listener and all connections, and waits for them.
func (l *Link) Close() {
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
func (l *Link) serve(client *net.TCPConn) {
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
	both.Go(func() { l.carry(p, p.client, p.server, func(t *Trouble) *Flow { return &t.Up }) })
	both.Go(func() { l.carry(p, p.server, p.client, func(t *Trouble) *Flow { return &t.Down }) })
	both.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pairs, p)
}

const dialing = 5 * time.Second

// admit books a connection, unless the link was cut while it was made.
func (l *Link) admit(p *pair) bool {
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
	manyPieces = 1 << 12
)

// piece is what was read at once, and when.
type piece struct {
	data []byte
	at   time.Time
}

// carry takes one direction of a connection from end to end.
func (l *Link) carry(p *pair, from, to *net.TCPConn, of func(*Trouble) *Flow) {
	read := make(chan piece, l.pieces)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(read)
		for {
			buffer := make([]byte, pieceBytes)
			n, err := from.Read(buffer)
			if n > 0 {
				at := time.Now()
				if l.observe != nil && from == p.client {
					l.observe(n, at)
				}
				select {
				case read <- piece{buffer[:n], at}:
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
	link   *Link
	pair   *pair
	to     *net.TCPConn
	of     func(*Trouble) *Flow
	frames framer
	during *state    // the trouble under which passed was counted
	passed int       // bytes
	free   time.Time // when the line has carried all before
}

// pass brings one piece to the other end as the trouble of the moment has it, and reports whether the connection stands.
func (d *direction) pass(p piece) bool {
	now, f := d.now()
	entered := p.at
	for f.Stall {
		if !d.wait(now, time.Time{}) {
			return false
		}
		now, f = d.now()
		entered = time.Now()
	}
	if f.Reset {
		d.wait(now, p.at.Add(f.ResetAfter))
		d.pair.end(true)
		return false
	}
	if late := f.Delay; late > 0 {
		if f.Jitter > 0 {
			late += rand.N(f.Jitter)
		}
		entered = entered.Add(late)
		d.wait(now, entered)
	}
	// Packets are told apart from the start of every connection on, so that one can be swallowed at any time.
	data, refused := d.frames.pass(p.data, f)
	return d.write(now, f, data, entered) && !refused
}

// now is the trouble of the moment for this direction.
func (d *direction) now() (*state, *Flow) {
	s := d.link.state.Load()
	if s != d.during {
		d.during, d.passed = s, 0
	}
	return s, d.of(&s.Trouble)
}

// write gives bytes that entered the line at a moment to the other end, as fast and in such pieces as the flow allows.
func (d *direction) write(s *state, f *Flow, data []byte, entered time.Time) bool {
	for len(data) > 0 {
		n := len(data)
		if f.Piece > 0 {
			n = min(n, f.Piece)
		}
		if f.Rate > 0 || f.Distance > 0 {
			n = d.travel(s, f, n, entered)
		}
		if f.Limit > 0 && d.passed+n > f.Limit {
			_, _ = d.to.Write(data[:max(f.Limit-d.passed, 0)])
			return false
		}
		if _, err := d.to.Write(data[:n]); err != nil {
			return false
		}
		data, d.passed = data[n:], d.passed+n
		if f.Pause > 0 && len(data) > 0 {
			d.wait(s, time.Now().Add(f.Pause))
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

// travel waits until up to n bytes have gone over the line, and returns how many have. The moment of each byte counts from when
// the line became free, not from when this goroutine woke up: a busy machine makes no line slower.
func (d *direction) travel(s *state, f *Flow, n int, entered time.Time) int {
	if d.free.Before(entered) {
		d.free = entered
	}
	if f.Rate > 0 {
		n = min(n, max(int(f.Rate/100), 256))
		d.free = d.free.Add(time.Duration(float64(n) / f.Rate * float64(time.Second)))
	}
	d.wait(s, d.free.Add(f.Distance))
	return n
}

// framer finds the packets in a stream, which may come in any pieces.
type framer struct{ rest []byte }

// pass takes bytes in and gives back the whole packets that the flow lets through. It reports whether the flow ends the connection
// at one of them; what came before that one is given back.
func (f *framer) pass(in []byte, flow *Flow) (out []byte, refused bool) {
	f.rest = append(f.rest, in...)
	for {
		size := frame(f.rest)
		if size == 0 {
			return out, false
		}
		packet := int(f.rest[0] >> 4)
		if packet == flow.Refuse && size > flow.RefuseAbove {
			return out, true
		}
		if size > len(f.rest) {
			return out, false
		}
		if packet != flow.Swallow {
			out = append(out, f.rest[:size]...)
		}
		f.rest = f.rest[size:]
	}
}

// frame is the size of the packet that starts b, or 0 as long as that is not known. MQTT writes lengths as varints.
func frame(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	length, n := binary.Uvarint(b[1:min(len(b), 5)])
	if n <= 0 {
		return 0
	}
	return 1 + n + int(length) // four bytes hold less than 2²⁸
}
