package export

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/badlink"
	"app-offload/functions/batch"
)

// hung is a broker that accepts connections and subscriptions and acknowledges only the first few batches.
type hung struct {
	addr  string
	mu    sync.Mutex
	conns int
	seen  int

	receipts *consumer // where set, each batch is receipted although it is not acknowledged
}

func hungBroker(t *testing.T, acks int) *hung {
	t.Helper()
	l, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	h := &hung{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.serve(c, acks) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return h
}

func (h *hung) serve(c net.Conn, acks int) {
	defer func() { _ = c.Close() }()
	h.mu.Lock()
	h.conns++
	h.mu.Unlock()
	in := bufio.NewReader(c)
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			return
		}
		switch m := p.(type) {
		case *packets.ConnectPacket:
			_ = packets.NewControlPacket(packets.Connack).Write(c)
		case *packets.SubscribePacket:
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = m.MessageID, make([]byte, len(m.Topics))
			_ = a.Write(c)
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(c)
		case *packets.PublishPacket:
			h.mu.Lock()
			h.seen++
			ack := h.seen <= acks
			h.mu.Unlock()
			if h.receipts != nil {
				h.receipts.say = func(topic string, msg []byte) {
					r := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
					r.TopicName, r.Payload = topic, msg
					_ = r.Write(c)
				}
				h.receipts.consume(m.TopicName, m.Payload)
			}
			if ack {
				a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				a.MessageID = m.MessageID
				_ = a.Write(c)
			}
		}
	}
}

func TestAHungBrokerCostsNeitherMemoryNorGoroutines(t *testing.T) {
	h := hungBroker(t, 3)
	s := newShelf(t)
	cfg := quick(h.addr)
	cfg.AckTimeout, cfg.ReleaseAfter, cfg.Confirm = "50ms", "0s", ConfirmPuback
	r := newRig(t, cfg, s, nil)
	until(t, "it is connected", func() bool { return r.Stats().Connected })
	idle := runtime.NumGoroutine()
	s.put("d", 1000, 1000)
	conns := func() int { h.mu.Lock(); defer h.mu.Unlock(); return h.conns }
	until(t, "it is given up and tried again", func() bool { return conns() >= 5 })
	high := 0
	for range 50 {
		high = max(high, runtime.NumGoroutine())
		time.Sleep(2 * time.Millisecond)
	}
	from := conns()
	until(t, "it goes on like that", func() bool { return conns() >= from+8 })
	later := 0
	for range 50 {
		later = max(later, runtime.NumGoroutine())
		time.Sleep(2 * time.Millisecond)
	}
	require.LessOrEqual(t, later, high+10)
	require.LessOrEqual(t, high, idle+15, "what is in flight costs no goroutine each")
	require.Positive(t, r.Stats().Errors["ack_timeout"])
	require.LessOrEqual(t, r.Stats().Inflight, 2*16)
	held, _ := s.count()
	require.GreaterOrEqual(t, held, 970, "no more than was acknowledged is done")
	require.Zero(t, r.Stats().SetAside)
}

// Acknowledgements are lost while receipts arrive: the records are done, but messages that await acknowledgements must not pile up, and the
// connection is not healthy.
func TestLostAcknowledgementsPileUpNothingBehindReceipts(t *testing.T) {
	h := hungBroker(t, 0)
	h.receipts = newConsumer(t)
	s := newShelf(t)
	cfg := quick(h.addr)
	cfg.AckTimeout = "100ms"
	before := runtime.NumGoroutine()
	r := newRig(t, cfg, s, nil)
	s.put("d", 2000, 100)
	high := 0
	until(t, "the spool is empty", func() bool {
		high = max(high, runtime.NumGoroutine())
		held, _, _ := s.Fill()
		return held == 0
	})
	require.LessOrEqual(t, high, before+cfg.MaxInflight+30, "200 batches went out, and no acknowledgement came")
	until(t, "the hang is seen", func() bool { return r.Stats().Errors["ack_timeout"] > 0 })
	r.halt()
	goroutinesBack(t, before)
}

// startLink opens a link to the broker in which faults can be injected.
func startLink(t *testing.T, upstream string) *badlink.Link {
	t.Helper()
	l, err := badlink.New(upstream)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

// harms returns all troubles of a link, in a fixed order from which a seed chooses.
func harms() (all []badlink.Trouble) {
	for _, kind := range slices.Sorted(maps.Keys(badlink.Troubles)) {
		all = append(all, badlink.Troubles[kind]...)
	}
	return all
}

// TestFaultsLoseNothing: whatever happens to the link between node and broker, in any order, every record that was put is receipted exactly once by
// the spool's count, is stored exactly once by a consumer that ignores repetitions by sequence, and the records of a device are stored in order.
func TestFaultsLoseNothing(t *testing.T) {
	seed, rounds := uint64(time.Now().UnixNano()), 6
	if v, err := strconv.ParseUint(os.Getenv("FAULT_SEED"), 10, 64); err == nil {
		seed = v
	}
	if v, err := strconv.Atoi(os.Getenv("FAULT_ROUNDS")); err == nil {
		rounds = v
	}
	t.Logf("FAULT_SEED=%d FAULT_ROUNDS=%d", seed, rounds)
	rnd := rand.New(rand.NewPCG(seed, 0))
	b := startBroker(t, anyPort, nil, nil, nil)
	l, all := startLink(t, b.addr), harms()
	s := newShelf(t)
	cfg := quick(l.Addr)
	cfg.AckTimeout, cfg.ConnectTimeout, cfg.ReceiptTimeout, cfg.ReleaseAfter = "300ms", "300ms", "1s", "100ms"
	r := newRig(t, cfg, s, nil)
	total := 0
	feed := func() {
		for range 5 {
			n := 1 + rnd.IntN(60)
			s.put(fmt.Sprint("d", rnd.IntN(5)), n, rnd.IntN(400))
			total += n
			time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
		}
	}
	for range rounds {
		feed()
		require.NoError(t, l.Harm(all[rnd.IntN(len(all))]))
		feed()
		time.Sleep(time.Duration(rnd.IntN(400)) * time.Millisecond) // each trouble lasts for a moment of any length
		require.NoError(t, l.Heal())
	}
	feed()
	r.settled()
	require.Zero(t, r.Stats().SetAside)
	require.EqualValues(t, total, r.Stats().Receipted)
	r.mu.Lock()
	require.Len(t, r.confirmed, total)
	r.mu.Unlock()
	b.look(func() {
		require.Len(t, b.stored, total)
		require.Empty(t, b.overtook)
		t.Logf("%d records, %d batches, %d connections, errors %v", total, b.batches, r.Stats().Connections, r.Stats().Errors)
	})
}

// withScheduler replaces the test's scheduler by the real one.
func withScheduler(t *testing.T, s *shelf) func(*Deps) {
	return func(d *Deps) {
		sched, err := batch.New(batch.DefaultConfig(), s, classList{})
		require.NoError(t, err)
		d.Batches = sched
	}
}

// A link of 100 KB/s must not be given more than it carries within the time allowed for acknowledgements, although batches could be larger: otherwise
// each connection would count as hung before its first batch has passed.
func TestANarrowLinkShapesTheBatches(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	narrow := startLink(t, b.addr)
	require.NoError(t, narrow.Harm(badlink.Trouble{Up: badlink.Flow{Rate: 100e3}}))
	s := newShelf(t)
	cfg := quick(narrow.Addr)
	cfg.AckTimeout, cfg.LinkAhead = "1s", "500ms"
	r := newRig(t, cfg, s, withScheduler(t, s))
	for range 200 {
		s.putLarge("d", 1000)
	}
	r.settled()
	st := r.Stats()
	require.LessOrEqual(t, st.Errors["ack_timeout"], uint64(1), "at most before anything is known of the link")
	require.GreaterOrEqual(t, st.Published, uint64(6), "many small batches instead of one large one")
	goodput := r.Link().Goodput
	require.Greater(t, goodput, 30e3)
	require.Less(t, goodput, 400e3, "a link that had to wait for its turn passes on in bursts")
	b.look(func() { require.Empty(t, b.overtook) })
}

// A message longer than half of what may be ahead is followed by the next when it has left, not a round trip later at its acknowledgement: otherwise
// a long link is idle for a round trip after each.
func TestALinkIsNotIdleBetweenLongMessages(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	far := startLink(t, b.addr)
	require.NoError(t, far.Harm(badlink.Trouble{Up: badlink.Flow{Rate: 100e3}, Down: badlink.Flow{Delay: 20 * time.Millisecond}}))
	cfg := quick(far.Addr)
	cfg.AckTimeout, cfg.LinkAhead = "1m", "10ms"
	s := newShelf(t)
	r := newRig(t, cfg, s, withScheduler(t, s))
	for range 20 {
		s.putLarge("d", 30_000)
	}
	most := 0
	until(t, "all have come", func() bool {
		st := r.Stats()
		if st.Receipted >= 8 { // the link is known by then
			most = max(most, st.Unacked)
		}
		return st.Receipted == 20
	})
	require.Equal(t, 2, most, "messages in flight at the same time")
}

func TestProbesMeasureAnIdleLink(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	far := startLink(t, b.addr)
	require.NoError(t, far.Harm(badlink.Trouble{Down: badlink.Flow{Delay: 30 * time.Millisecond}}))
	cfg := quick(far.Addr)
	cfg.ProbeEvery = "10ms"
	r := newRig(t, cfg, newShelf(t), nil)
	until(t, "some probes have come", func() bool { n := 0; b.look(func() { n = b.pings }); return n >= 5 })
	l := r.Link()
	require.GreaterOrEqual(t, l.RTT, 0.03)
	require.Less(t, l.RTT, 2.0, "a busy machine adds its own delay, and no more")
	require.GreaterOrEqual(t, l.RTT95, 0.03)
	require.Zero(t, l.Goodput, "empty messages say nothing about it")
	require.Zero(t, r.Stats().Published)
}
