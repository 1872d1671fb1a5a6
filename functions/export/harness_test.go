package export

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/batch"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

const node = "gw1"

// shelf is a spool in memory that checks the rules of leasing. Its cost does not depend on its size, so that a test of the exporter does not measure
// the shelf.
type shelf struct {
	t  *testing.T
	mu sync.Mutex

	next   uint64
	free   []spool.Record // ascending
	bytes  int64          // of free
	leased map[uint64]spool.Record
	fates  map[uint64]string
	wake   chan struct{}
	epochs int // begun after the first
	flows  atomic.Bool
}

func newShelf(t *testing.T) *shelf {
	return &shelf{t: t, next: 1, leased: map[uint64]spool.Record{}, fates: map[uint64]string{}, wake: make(chan struct{}, 1)}
}

// put stores n records of a device in lane 5 and class "a".
func (s *shelf) put(device string, n, size int) {
	for range n {
		s.add(append([]byte(device+"|"), make([]byte, size)...))
	}
}

// putLarge stores one incompressible record.
func (s *shelf) putLarge(device string, size int) {
	s.add(append([]byte(device+"|"), incompressible(s.next, size)...))
}

func incompressible(seed uint64, n int) []byte {
	out := make([]byte, 0, n+8)
	for rnd := rand.New(rand.NewPCG(seed, 0)); len(out) < n; {
		out = binary.BigEndian.AppendUint64(out, rnd.Uint64())
	}
	return out[:n]
}

func (s *shelf) add(payload []byte) { s.addTo("a", payload) }

func (s *shelf) addTo(class string, payload []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, spool.Record{Seq: s.next, Lane: 5, Class: class, Payload: payload})
	s.bytes += int64(len(payload))
	s.next++
	s.signal()
}

func (s *shelf) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shelf) Queues(dst []spool.Queue) []spool.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := map[string]int{}
	for i := range s.free {
		r := &s.free[i]
		at, ok := of[r.Class]
		if !ok {
			at = len(dst)
			of[r.Class] = at
			dst = append(dst, spool.Queue{Lane: 5, Class: r.Class})
		}
		dst[at].Live++
		dst[at].LiveBytes += int64(len(r.Payload))
	}
	return dst
}

func (s *shelf) Take(_ int, class string, from spool.Source, most, bytes int, dst []spool.Record) []spool.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, over := 0, false
	kept := make([]spool.Record, 0, len(s.free))
	for _, r := range s.free {
		over = over || n >= most || n > 0 && bytes < len(r.Payload)
		if from != spool.Live || r.Class != class || over {
			kept = append(kept, r)
			continue
		}
		bytes -= len(r.Payload)
		s.bytes -= int64(len(r.Payload))
		s.leased[r.Seq] = r
		dst = append(dst, r)
		n++
	}
	s.free = kept
	return dst
}

func (s *shelf) TakeNewest(int, string, int, int, []spool.Record) []spool.Record { return nil }

func (s *shelf) Done(seqs []uint64)                { s.remove(seqs, spool.FateDone) }
func (s *shelf) Drop(seqs []uint64, reason string) { s.remove(seqs, "dropped:"+reason) }

func (s *shelf) remove(seqs []uint64, fate string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range seqs {
		if _, ok := s.leased[seq]; !ok {
			s.t.Errorf("%s of record %d, which is not leased", fate, seq)
		}
		delete(s.leased, seq)
		s.fates[seq] = fate
	}
}

func (s *shelf) Release(seqs []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, seq := range seqs {
		r, ok := s.leased[seq]
		if !ok {
			continue // as the spool does: a new epoch ends leases
		}
		delete(s.leased, seq)
		s.free = append(s.free, r)
		s.bytes += int64(len(r.Payload))
	}
	slices.SortFunc(s.free, func(a, b spool.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	s.signal()
}

func (s *shelf) Wait() <-chan struct{} { return s.wake }
func (s *shelf) Session() string       { return "s1" }

func (s *shelf) Epoch() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint("e", s.epochs+1)
}

func (s *shelf) NewEpoch() (string, error) {
	s.mu.Lock()
	for _, r := range s.leased {
		s.free = append(s.free, r)
		s.bytes += int64(len(r.Payload))
	}
	clear(s.leased)
	slices.SortFunc(s.free, func(a, b spool.Record) int { return cmp.Compare(a.Seq, b.Seq) })
	s.epochs++
	s.signal()
	s.mu.Unlock()
	return s.Epoch(), nil
}

func (s *shelf) Fate(seq uint64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.fates[seq]; f != "" || seq == 0 || seq >= s.next {
		return f
	}
	return spool.FateHeld
}

func (s *shelf) FateRun(seq uint64) (string, uint64) { return s.Fate(seq), seq }

func (s *shelf) Floor() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	floor := s.next
	if len(s.free) > 0 {
		floor = s.free[0].Seq
	}
	for seq := range s.leased {
		floor = min(floor, seq)
	}
	return floor
}

func (s *shelf) Flows(on bool) { s.flows.Store(on) }

func (s *shelf) Fill() (records, bytes int64, share float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.free) + len(s.leased)), s.bytes, 0
}

func (s *shelf) count() (held, leased int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.free) + len(s.leased), len(s.leased)
}

// broker is a real MQTT broker in this process, with its consumer.
type broker struct {
	*consumer
	server *mochi.Server
	addr   string
	work   chan packets.Packet
	quit   chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// consumer deduplicates records and receipts those it has stored.
type consumer struct {
	t      testing.TB
	sealer *seal.Sealer
	opener *seal.Opener
	say    func(topic string, msg []byte)

	mu       sync.Mutex
	mute     bool             // stores, but sends no receipts
	deaf     bool             // is not there
	unread   string           // part of the topics that it may not read
	watch    func(msg []byte) // sees each batch
	stored   map[uint64]int
	overtook []string // records of a device that were stored before an earlier one
	last     map[string]uint64
	batches  int
	pings    int
	gone     []seal.GoneRange
	dealt    []seal.ConfirmedResult
}

// gate is the broker's password check; it can change while the broker runs.
type gate struct {
	mochi.HookBase
	mu       sync.Mutex
	password string // "" lets everybody in
}

func (g *gate) ID() string { return "gate" }
func (g *gate) Provides(b byte) bool {
	return b == mochi.OnConnectAuthenticate || b == mochi.OnACLCheck
}
func (g *gate) OnACLCheck(*mochi.Client, string, bool) bool { return true }
func (g *gate) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.password == "" || string(pk.Connect.Password) == g.password
}

func (g *gate) set(password string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.password = password
}

type keys struct{ key []byte }

func (k keys) Current() (string, []byte, error) { return "k1", k.key, nil }
func (k keys) Key(string) ([]byte, error)       { return k.key, nil }
func testKeys() seal.Keys                       { return keys{[]byte("0123456789abcdef0123456789abcdef")} }

func protobuf() seal.Config {
	c := seal.DefaultConfig()
	c.Form = seal.FormProtobuf
	return c
}

func newSealer(t testing.TB) *seal.Sealer {
	t.Helper()
	s, err := seal.NewSealer(protobuf(), testKeys())
	require.NoError(t, err)
	return s
}

// startBroker starts a broker on a free port, or on the one given.
func startBroker(t testing.TB, addr string, t2 *tls.Config, change func(*mochi.Options), hook mochi.Hook) *broker {
	t.Helper()
	o := &mochi.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Capabilities: mochi.NewDefaultServerCapabilities()}
	if change != nil {
		change(o)
	}
	b := &broker{consumer: newConsumer(t), server: mochi.New(o), work: make(chan packets.Packet, 4096), quit: make(chan struct{})}
	b.say = func(topic string, msg []byte) {
		if err := b.server.Publish(topic, msg, false, 1); err != nil {
			t.Errorf("publishing to %s: %v", topic, err)
		}
	}
	if hook == nil {
		hook = new(auth.AllowHook)
	}
	require.NoError(t, b.server.AddHook(hook, nil))
	l := listeners.NewTCP(listeners.Config{ID: "t", Address: addr, TLSConfig: t2})
	require.NoError(t, b.server.AddListener(l))
	require.NoError(t, b.server.Serve())
	b.addr = l.Address()
	b.done.Go(func() {
		for {
			select {
			case pk := <-b.work:
				b.consume(pk.TopicName, pk.Payload)
			case <-b.quit:
				return
			}
		}
	})
	take := func(_ *mochi.Client, _ packets.Subscription, pk packets.Packet) {
		select {
		case b.work <- pk:
		case <-b.quit:
		}
	}
	for i, topic := range []string{"batch/#", "gone", "ping", "confirm"} {
		require.NoError(t, b.server.Subscribe(seal.TopicRoot+"+/"+topic, i+1, take))
	}
	t.Cleanup(func() {
		b.stop()
		close(b.quit)
		b.done.Wait()
	})
	return b
}

// stop ends the broker, which loses its state.
func (b *broker) stop() { b.once.Do(func() { _ = b.server.Close() }) }

func newConsumer(t testing.TB) *consumer {
	return &consumer{
		t: t, sealer: newSealer(t), opener: seal.NewOpener(testKeys(), seal.Limits{}),
		stored: map[uint64]int{}, last: map[string]uint64{},
	}
}

func (c *consumer) consume(topic string, msg []byte) {
	away := false
	c.look(func() {
		away = c.deaf || c.unread != "" && strings.Contains(topic, c.unread)
		if c.watch != nil && strings.Contains(topic, "/batch/") {
			c.watch(msg)
		}
	})
	switch {
	case away:
	case strings.HasSuffix(topic, "/ping"):
		c.mu.Lock()
		c.pings++
		c.mu.Unlock()
	case strings.HasSuffix(topic, "/confirm"):
		confirmed, err := c.opener.OpenConfirmation(msg)
		if err != nil {
			c.t.Errorf("opening a confirmation: %v", err)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.dealt = append(c.dealt, confirmed.Results...)
	case strings.HasSuffix(topic, "/gone"):
		g, err := c.opener.OpenGone(msg)
		if err != nil {
			c.t.Errorf("opening a statement of what is gone: %v", err)
			return
		}
		c.mu.Lock()
		c.gone = append(c.gone, g.Ranges...)
		c.mu.Unlock()
	case strings.Contains(topic, "/batch/"):
		c.store(msg)
	}
}

func (c *consumer) store(msg []byte) {
	m, err := c.opener.Open(msg)
	if err != nil {
		c.t.Errorf("opening a batch: %v", err)
		return
	}
	c.mu.Lock()
	c.batches++
	r := &seal.Receipt{ID: fmt.Sprint("r", c.batches), Node: m.Node, Epoch: m.Epoch, Created: time.Now()}
	for i, seq := range m.Sequences {
		c.stored[seq]++
		device, _, _ := strings.Cut(string(m.Tasks[i]), "|")
		if c.stored[seq] == 1 {
			if seq < c.last[device] {
				c.overtook = append(c.overtook, fmt.Sprintf("%s: %d after %d", device, seq, c.last[device]))
			}
			c.last[device] = max(c.last[device], seq)
		}
		if n := len(r.Safe); n > 0 && r.Safe[n-1].Last+1 == seq {
			r.Safe[n-1].Last = seq
		} else {
			r.Safe = append(r.Safe, seal.Range{First: seq, Last: seq})
		}
	}
	mute := c.mute
	c.mu.Unlock()
	if !mute {
		c.receipt(r)
	}
}

func (c *consumer) receipt(r *seal.Receipt) {
	msg, err := c.sealer.SealReceipt(nil, r)
	if err != nil {
		c.t.Errorf("sealing a receipt: %v", err)
		return
	}
	c.say(seal.ReceiptTopic(node), msg)
}

func (c *consumer) look(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *consumer) distinct() (n int) {
	c.look(func() { n = len(c.stored) })
	return n
}

// notes records log lines.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(level, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, level+" "+fmt.Sprintf(format, args...))
}
func (n *notes) Debugf(f string, a ...any) { n.add("DEBUG", f, a...) }
func (n *notes) Infof(f string, a ...any)  { n.add("INFO", f, a...) }
func (n *notes) Warnf(f string, a ...any)  { n.add("WARN", f, a...) }
func (n *notes) Errorf(f string, a ...any) { n.add("ERROR", f, a...) }

// with returns the number of lines that contain all the words.
func (n *notes) with(words ...string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, l := range n.lines {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(l, w) }) {
			count++
		}
	}
	return count
}

// rig is an exporter with its surroundings.
type rig struct {
	*Exporter
	t         testing.TB
	store     store
	log       *notes
	mu        sync.Mutex
	confirmed []uint64
	results   []seal.Result
	ended     chan struct{}
}

// quick returns a configuration with short timeouts.
func quick(addr string) Config {
	c := DefaultConfig()
	c.Broker = "tcp://" + addr
	c.BackoffMin, c.BackoffMax = "5ms", "50ms"
	c.ConnectTimeout, c.AckTimeout, c.ReceiptTimeout = "2s", "2s", "2s"
	c.ProbeEvery = "0s"
	return c
}

type classList []*task.Class

func (c classList) All() []*task.Class { return c }

// store is a spool, or a fake of one.
type store interface {
	batch.Source
	Spool
}

// newRig builds an exporter over a shelf with batches of at most ten records and starts it.
func newRig(t testing.TB, cfg Config, s store, change func(*Deps)) *rig {
	t.Helper()
	bc := batch.DefaultConfig()
	bc.MaxCount, bc.MaxAge = 10, "5ms"
	sched, err := batch.New(bc, s, classList{})
	require.NoError(t, err)
	r := &rig{t: t, store: s, log: &notes{}, ended: make(chan struct{})}
	deps := Deps{
		Node: node, Batches: sched, Spool: s, Log: r.log,
		Sealer: newSealer(t), Opener: seal.NewOpener(testKeys(), seal.Limits{}),
		OnReceipted: func(records []spool.Record) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.confirmed = appendSequences(r.confirmed, records)
		},
		OnResult: func(res seal.Result) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results = append(r.results, res)
		},
	}
	if change != nil {
		change(&deps)
	}
	r.Exporter, err = New(cfg, deps)
	require.NoError(t, err)
	r.window.trialPause, r.earlier = 20*time.Millisecond, time.Time{}
	go func() {
		defer close(r.ended)
		if err := r.Run(context.Background()); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { r.halt() })
	return r
}

// halt ends the exporter abruptly, like a crash as far as the spool is concerned.
func (r *rig) halt() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = r.Close(ctx)
	<-r.ended
	if r.Stats().Connected {
		r.t.Errorf("an exporter that has ended is connected")
	}
}

// until polls, since real connections need real time.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("timed out waiting until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// settled waits until the spool is empty.
func (r *rig) settled() {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("stats %+v\nlink %+v\nlog %s", r.Stats(), r.Link(), strings.Join(r.log.lines, "\n"))
		}
	}()
	until(r.t, "the spool is empty", func() bool { held, _, _ := r.store.Fill(); return held == 0 })
}

// goroutinesBack checks that no goroutine is left running.
func goroutinesBack(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(5 * time.Millisecond)
	}
}
