// Package badlink simulates a faulty path to a broker, for tests and for the lab. The service does not use it.
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

// Link is a TCP proxy between app-offload and the broker in the cloud. Its trouble may change at any moment, also for existing connections.
type Link struct {
	upstream string
	pieces   int                           // capacity of a direction
	observe  func(bytes int, at time.Time) // called for each piece towards the broker
	Addr     string                        // address to connect to
	state    atomic.Pointer[state]
	running  sync.WaitGroup // listener and connections

	mu       sync.Mutex
	listener net.Listener // nil while the link is cut
	pairs    map[*pair]struct{}
}

// state is a trouble while it lasts.
type state struct {
	Trouble
	over chan struct{} // closed when the next trouble replaces it
}

// Trouble is a fault of a link.
type Trouble struct {
	Cut      bool
	Up, Down Flow // towards the broker, and back
}

// Flow is the fault of one direction. The zero value is no fault.
type Flow struct {
	Rate          float64       // bytes/s; 0 is unlimited
	Delay, Jitter time.Duration // each piece arrives later by Delay and up to Jitter more
	Distance      time.Duration // each byte arrives so long after it left the line, which carries others meanwhile
	Piece         int           // bytes that arrive together; 0 is no limit
	Pause         time.Duration // between two such pieces
	Stall         bool          // nothing arrives
	Swallow       int           // MQTT's number of the packets that are lost; 0 for no loss
	Refuse        int           // MQTT's number of the packets at which the connection ends; 0 is never
	RefuseAbove   int           // size in bytes up to which such a packet still passes
	Limit         int           // bytes after which the connection ends; 0 is never
	Reset         bool          // the next piece resets the connection
	ResetAfter    time.Duration // delay of the reset after the piece arrived
}

// MQTT's numbers of the packets that a link can swallow.
const (
	Publish = 3
	Puback  = 4
)

// Troubles are the faults of links in the field, by kind.
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

// Closing is a broker or a balancer that accepts connections and closes them at each PUBLISH of more than above bytes: with 0 at every one, otherwise
// like a broker with a limit on the packet size.
func Closing(above int) Trouble { return Trouble{Up: Flow{Refuse: Publish, RefuseAbove: above}} }

const anyPort = "127.0.0.1:0"

// New opens a link without any trouble.
func New(upstream string) (*Link, error) { return open(upstream, pieces, nil) }

// Observed opens a link that is long enough not to block the sender, and calls observe with the size and arrival time of each piece that enters it
// towards the broker. The calls of a connection come from one goroutine.
func Observed(upstream string, observe func(bytes int, at time.Time)) (*Link, error) {
	return open(upstream, manyPieces, observe)
}

func open(upstream string, pieces int, observe func(int, time.Time)) (*Link, error) {
	l := &Link{upstream: upstream, pieces: pieces, observe: observe, Addr: anyPort, pairs: map[*pair]struct{}{}}
	l.state.Store(&state{over: make(chan struct{})})
	return l, l.open()
}

// Harm replaces the trouble of the link. A cut link reopens with the new trouble.
func (l *Link) Harm(t Trouble) error {
	old := l.state.Swap(&state{t, make(chan struct{})})
	close(old.over)
	if t.Cut {
		l.Close()
		return nil
	}
	return l.open()
}

// Heal removes all trouble.
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

// serve forwards one connection in both directions until it ends.
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

// admit registers a connection, unless the link was cut while it was made.
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

// end closes both sides, with a reset if reset is set.
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

// The capacity of a direction in pieces, and of a piece in bytes, like a socket's buffers.
const (
	pieceBytes = 16 << 10
	pieces     = 4
	manyPieces = 1 << 12
)

// piece is the data of one read, and its time.
type piece struct {
	data []byte
	at   time.Time
}

// carry forwards one direction of a connection.
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
	p.end(false) // otherwise the reader would wait for its connection
	reading.Wait()
}

// direction is one direction of a connection, on its goroutine.
type direction struct {
	link   *Link
	pair   *pair
	to     *net.TCPConn
	of     func(*Trouble) *Flow
	frames framer
	during *state    // the trouble under which passed was counted
	passed int       // bytes
	free   time.Time // when the line has carried all bytes before
}

// pass forwards one piece under the current trouble, and reports whether the connection is still open.
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
	// Packets are framed from the start of every connection, so that one can be swallowed at any time.
	data, refused := d.frames.pass(p.data, f)
	return d.write(now, f, data, entered) && !refused
}

// now returns the current trouble for this direction.
func (d *direction) now() (*state, *Flow) {
	s := d.link.state.Load()
	if s != d.during {
		d.during, d.passed = s, 0
	}
	return s, d.of(&s.Trouble)
}

// write forwards bytes that entered the line at a moment, at the rate and in the pieces of the flow.
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

// wait waits until a time, or without a bound, but not beyond the trouble. It reports whether the connection is still open.
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

// travel waits until up to n bytes have crossed the line, and returns their number. The time of each byte counts from when the line became free, not
// from when this goroutine woke up: a busy machine does not slow the line down.
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

// framer splits a stream, which may arrive in any pieces, into packets.
type framer struct{ rest []byte }

// pass adds bytes and returns the complete packets that the flow lets through. It reports whether the flow ends the connection at one of them; the
// packets before it are returned.
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

// frame returns the size of the packet at the beginning of b, or 0 while it is unknown. MQTT writes lengths as varints.
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
