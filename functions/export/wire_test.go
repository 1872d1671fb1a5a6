package export

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/stretchr/testify/require"

	"app-offload/functions/badlink"
	"app-offload/functions/batch"
	"app-offload/functions/seal"
)

func (b *broker) announce(l seal.ConsumerLimits) {
	msg, err := b.sealer.SealAnnouncement(nil, &seal.Announcement{ID: "a", Consumer: "cloud-1", Created: time.Now(), Limits: l})
	require.NoError(b.t, err)
	b.say(seal.AnnouncementTopic, msg)
}

// The consumer subscribes while the node already sends: batches that the broker discarded are repeated as soon as the consumer announces itself, and
// everything arrives in order.
func TestAConsumerThatSubscribesLateGetsEverythingInOrderAtOnce(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.deaf = true
	s := newShelf(t)
	cfg := quick(b.addr)
	cfg.ReceiptTimeout = "10m"
	r := newRig(t, cfg, s, nil)
	for i := range 20 {
		s.put(fmt.Sprint("d", i%3), 10, 50)
	}
	until(t, "the broker has taken something", func() bool { return r.Stats().Acked > 0 })
	time.Sleep(300 * time.Millisecond)
	b.look(func() { b.deaf = false })
	b.announce(seal.ConsumerLimits{})
	r.settled()
	b.look(func() {
		require.Len(t, b.stored, 200)
		require.Empty(t, b.overtook)
	})
	require.Zero(t, r.Stats().SetAside)
	require.EqualValues(t, 1, r.Stats().Repeats)
	require.Equal(t, r.Stats().Acked, r.Stats().Published)
	require.EqualValues(t, 200, r.Stats().Receipted)
}

// The spool is informed of the connection: its ring keeps its full size while there is one.
func TestTheSpoolKnowsOfTheConnection(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	r := newRig(t, quick(b.addr), s, nil)
	until(t, "connected", func() bool { return r.Stats().Connected && s.flows.Load() })
	b.stop()
	until(t, "lost", func() bool { return !r.Stats().Connected && !s.flows.Load() })
	startBroker(t, b.addr, nil, nil, nil)
	until(t, "connected again", func() bool { return r.Stats().Connected && s.flows.Load() })
	r.halt()
	require.False(t, s.flows.Load())
}

// A receipt of another session says nothing about this spool: it may be a copy of the one that the receipt is for.
func TestReceiptsOfAnotherSessionAreIgnoredAndNamed(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.mute = true
	s := newShelf(t)
	r := newRig(t, quick(b.addr), s, nil)
	s.put("d", 10, 50)
	until(t, "the batch is acknowledged", func() bool { return r.Stats().Acked == 1 })
	all := []seal.Range{{First: 0, Last: 1 << 62}}
	for range 100 {
		b.receipt(&seal.Receipt{ID: "x", Node: node, Epoch: "e1", Session: "another", Created: time.Now(), Safe: all})
	}
	until(t, "it is counted", func() bool { return r.Stats().Errors["receipt_session"] == 100 })
	held, _ := s.count()
	require.Equal(t, 10, held)
	require.Equal(t, 1, r.log.with("WARN", "reason=receipt_session", "another", "s1"), "one line a minute")
	b.receipt(&seal.Receipt{ID: "x", Node: node, Epoch: "e1", Session: "s1", Created: time.Now(), Safe: all})
	r.settled()
}

// Within a minute of a start such a receipt is probably one for the start before, which crashed: it is counted, and is no reason for an alarm.
func TestReceiptsOfAnEarlierStartAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &notes{}
		x, err := New(quick("127.0.0.1:1"), Deps{Node: node, Spool: newShelf(t), Log: log, Sealer: newSealer(t), Opener: seal.NewOpener(testKeys(), seal.Limits{})})
		require.NoError(t, err)
		defer x.stop()
		msg, err := newSealer(t).SealReceipt(nil, &seal.Receipt{ID: "x", Node: node, Epoch: "e1", Session: "another", Created: time.Now()})
		require.NoError(t, err)
		x.openReceipt(nil, msg)
		time.Sleep(afterStart)
		x.openReceipt(nil, msg)
		require.Equal(t, map[string]uint64{"receipt_late": 1, "receipt_session": 1}, x.Stats().Errors)
		require.Equal(t, 1, log.with("WARN", "reason=receipt_session"))
	})
}

// The consumer has other records under this node's epoch: the node begins a new one, and all unreceipted records leave under it.
func TestAConflictBeginsANewEpoch(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.mute = true
	s := newShelf(t)
	r := newRig(t, quick(b.addr), s, nil)
	s.put("d", 30, 50)
	until(t, "a batch is acknowledged", func() bool { return r.Stats().Acked == 1 })
	at := []seal.Range{{First: 1, Last: 10}}
	b.receipt(&seal.Receipt{ID: "x", Node: node, Epoch: "e1", Session: "another", Created: time.Now(), Conflicts: at})
	until(t, "another session's conflict is ignored", func() bool { return r.Stats().Errors["receipt_session"] == 1 })
	require.Equal(t, "e1", s.Epoch())
	b.look(func() { b.mute, b.stored, b.last = false, map[uint64]int{}, map[string]uint64{} })
	for range 3 {
		b.receipt(&seal.Receipt{ID: "x", Node: node, Epoch: "e1", Session: "s1", Created: time.Now(), Conflicts: at})
	}
	r.settled()
	require.Equal(t, "e2", s.Epoch())
	require.EqualValues(t, 1, r.Stats().Epochs, "one conflict in several receipts costs one epoch")
	require.Equal(t, 1, r.log.with("WARN", "epoch conflict", "e1", "e2", "Offload.Node"))
	b.look(func() {
		require.Len(t, b.stored, 30)
		require.Empty(t, b.overtook)
	})
}

// The consumer's limits are obeyed: records above them are held and named, and leave when the limit is raised.
func TestTheConsumersLimitsAreObeyed(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	r := newRig(t, quick(b.addr), s, nil)
	until(t, "the link is up", func() bool { return r.Link().Up })
	largest := 0
	b.look(func() { b.watch = func(msg []byte) { largest = max(largest, len(msg)) } })
	b.announce(seal.ConsumerLimits{MaxMessage: 16 << 10})
	until(t, "the limit is known", func() bool { return r.Stats().Consumer.MaxMessage == 16<<10 })
	for i := range 30 {
		s.putLarge("d", 4000)
		if i == 10 {
			s.putLarge("d", 20_000)
		}
	}
	until(t, "all others are there", func() bool { return b.distinct() == 30 })
	until(t, "it is named", func() bool { return r.Stats().Isolated == 1 && len(r.Stats().Holds) == 1 })
	h := r.Stats().Holds[0]
	require.Equal(t, holdOversized, h.Reason)
	require.Contains(t, h.Text, "exceed the consumer's limit of 16384 bytes")
	b.look(func() { require.LessOrEqual(t, largest, 16<<10) })
	b.announce(seal.ConsumerLimits{MaxMessage: 1 << 20})
	r.settled()
	require.Equal(t, 31, b.distinct())
}

func closingBroker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveUntilPublish(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func serveUntilPublish(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		p, err := packets.ReadPacket(in)
		if err != nil {
			return
		}
		if _, ok := p.(*packets.PublishPacket); ok {
			return
		}
		answer(c, p)
	}
}

// answer sends the replies that a client needs to publish.
func answer(c net.Conn, p packets.ControlPacket) {
	switch m := p.(type) {
	case *packets.ConnectPacket:
		_ = packets.NewControlPacket(packets.Connack).Write(c)
	case *packets.SubscribePacket:
		a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		a.MessageID, a.ReturnCodes = m.MessageID, make([]byte, len(m.Topics))
		_ = a.Write(c)
	}
}

func TestABrokerThatClosesOnEveryMessageLosesNothing(t *testing.T) {
	s := newShelf(t)
	cfg := quick(closingBroker(t))
	cfg.RefusedTries, cfg.ReleaseAfter = 1, "1h"
	r := newRig(t, cfg, s, nil)
	s.put("d", 20, 580)
	until(t, "it was tried often", func() bool { return r.Stats().Connections > 60 })
	held, _ := s.count()
	require.Equal(t, 20, held)
	require.Zero(t, r.Stats().SetAside)
	until(t, "it is named", func() bool {
		return strings.Contains(fmt.Sprint(r.Stats().Holds), "when a batch was published")
	})
}

// Two clients with one id end each other's connection, and each reports it.
func TestAnotherClientWithTheSameIDIsNamed(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	one, two := newShelf(t), newShelf(t)
	slow := quick(b.addr)
	slow.BackoffMin, slow.BackoffMax = "100ms", "300ms" // mochi keeps both where they connect at one moment
	r1 := newRig(t, slow, one, nil)
	until(t, "one is connected", func() bool { return r1.Stats().Connected })
	r2 := newRig(t, slow, two, nil)
	until(t, "both know", func() bool {
		return strings.Contains(fmt.Sprint(r1.Stats().Holds), "another client") && strings.Contains(fmt.Sprint(r2.Stats().Holds), "another client")
	})
	require.Equal(t, 1, r1.log.with("WARN", "another client", "app-offload-gw1"))
}

// A stop while the consumer is down ends soon, without an error, and keeps the unreceipted records.
func TestAStopWithTheConsumerAwayIsNoError(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.mute = true
	s := newShelf(t)
	r := newRig(t, quick(b.addr), s, nil)
	s.put("d", 100, 50)
	until(t, "something is acknowledged", func() bool { return r.Stats().Acked > 0 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	require.NoError(t, r.Close(ctx))
	require.Less(t, time.Since(began), 20*time.Second)
	held, leased := s.count()
	require.Equal(t, 100, held)
	require.Zero(t, leased)
}

type denying struct {
	gate
	topics string
}

func (d *denying) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	return write || !strings.Contains(topic, d.topics)
}

func TestADeniedSubscriptionIsNamed(t *testing.T) {
	for topic, needed := range map[string]bool{"/receipt": true, "/result": false, "v1/consumer": false} {
		t.Run(topic, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, anyPort, nil, nil, &denying{topics: topic})
			s := newShelf(t)
			r := newRig(t, quick(b.addr), s, nil)
			s.put("d", 10, 50)
			until(t, "it is named", func() bool { return r.log.with("WARN", "subscription", topic) > 0 })
			if needed {
				require.False(t, r.Link().Up)
				until(t, "and shown", func() bool { return len(r.Stats().Holds) == 1 && r.Stats().Holds[0].Reason == holdSubscribe })
				return
			}
			r.settled()
		})
	}
}

func TestABrokerNeedsAHostAndAPortInRange(t *testing.T) {
	for _, wrong := range []string{"tcp://:1883", "tcp://", "127.0.0.1", "tcp://h:99999"} {
		c := DefaultConfig()
		c.Broker = wrong
		require.Error(t, c.Validate(), wrong)
	}
}

// A class refused by its topic does not hold up the scheduler's other classes, on a real broker.
func TestAClassTheConsumerMayNotReadHoldsUpNoOther(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.unread = "/batch/denied"
	s := newShelf(t)
	cfg := quick(b.addr)
	cfg.ReceiptTimeout, cfg.UnreceiptedTries = "300ms", 1
	r := newRig(t, cfg, s, func(d *Deps) {
		bc := batch.DefaultConfig()
		bc.MaxCount, bc.MaxAge = 10, "5ms"
		sched, err := batch.New(bc, s, classList{})
		require.NoError(t, err)
		d.Batches = sched
	})
	for i := range 300 {
		s.addTo("denied", fmt.Appendf(nil, "x|%d", i))
		s.addTo("other", fmt.Appendf(nil, "d|%d", i))
	}
	until(t, "all of the other class are there", func() bool { return b.distinct() == 300 })
	s.addTo("other", []byte("d|last"))
	until(t, "and later ones", func() bool { return b.distinct() == 301 })
	for i := 0; len(r.Stats().Holds) == 0; i++ {
		s.addTo("other", []byte("d|more"))
		time.Sleep(50 * time.Millisecond)
		require.Less(t, i, 1000)
	}
	h := r.Stats().Holds[0]
	require.Equal(t, holdUnreceipted, h.Reason)
	require.Equal(t, "denied", h.Class)
	require.Contains(t, h.Text, "offload/v1/gw1/batch/denied")
	require.Zero(t, r.Stats().SetAside)
	b.look(func() { b.unread = "" })
	until(t, "it flows once it may be read", func() bool { return b.distinct() >= 601 })
	require.Zero(t, r.log.with("puback"))
}

// One message of 70 MB on a topic that the node reads is skipped while it is read, named, and holds up nothing.
func TestAHugeMessageCostsNoMemory(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	cfg := quick(b.addr)
	cfg.AckTimeout, cfg.ReceiptTimeout = "1m", "1m" // all answers come behind it
	r := newRig(t, cfg, s, nil)
	until(t, "the link is up", func() bool { return r.Link().Up })
	b.say(seal.ReceiptTopic(node), make([]byte, 70<<20))
	s.put("d", 100, 50)
	r.settled()
	until(t, "it is named", func() bool { return r.log.with("WARN", "reason=oversized", seal.ReceiptTopic(node), "734003") == 1 })
	require.EqualValues(t, 1, r.Stats().Connections)
}

// A broker or balancer that closes the connection on every message does not count as another client, even if the message has not left by then.
func TestABrokerThatClosesOnEveryMessageIsNoOtherClient(t *testing.T) {
	for name, row := range map[string]struct {
		broker func(*testing.T) string
		size   int
	}{
		"once it has the message":    {closingBroker, 580},
		"while the message comes in": {impatientBroker, 3 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			cfg := quick(row.broker(t))
			cfg.RefusedTries, cfg.ReleaseAfter = 1, "1h"
			r := newRig(t, cfg, s, nil)
			s.put("d", 5, row.size)
			until(t, "it was tried often", func() bool { return r.Stats().Connections > 40 })
			require.Zero(t, r.log.with("WARN", "another client"))
			require.NotContains(t, fmt.Sprint(r.Stats().Holds), "another client")
		})
	}
}

// impatientBroker closes the connection at the first byte of a PUBLISH.
func impatientBroker(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", anyPort)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			in := bufio.NewReaderSize(c, 16)
			for {
				if first, err := in.Peek(1); err != nil || first[0]>>4 == packets.Publish {
					break
				}
				p, err := packets.ReadPacket(in)
				if err != nil {
					break
				}
				answer(c, p)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// A broker that restarts several times also closes connections that worked. That it is away in between shows that there is no other client.
func TestABrokerThatRestartsIsNoOtherClient(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	link := startLink(t, b.addr)
	r := newRig(t, quick(link.Addr), newShelf(t), nil)
	for range 8 {
		until(t, "connected", func() bool { return r.Stats().Connected })
		require.NoError(t, link.Harm(badlink.Trouble{Cut: true}))
		until(t, "noticed", func() bool { return !r.Stats().Connected })
		require.NoError(t, link.Heal())
	}
	require.Zero(t, r.log.with("WARN", "another client"))
	require.NotContains(t, fmt.Sprint(r.Stats().Holds), "another client")
}

// A balancer that closes connections while records arrive does not raise the suspicion of another client, nor keep it after it is fixed.
func TestABalancerThatClosesForAWhileIsNoOtherClient(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	link := startLink(t, b.addr)
	s := newShelf(t)
	r := newRig(t, quick(link.Addr), s, nil)
	for range 10 {
		s.put("d", 20, 580)
		until(t, "all is taken", func() bool { held, _ := s.count(); return held == 0 })
		before := r.Stats().Connections
		require.NoError(t, link.Harm(badlink.Closing(0)))
		until(t, "it was tried often", func() bool {
			s.put("d", 1, 580)
			return r.Stats().Connections > before+10
		})
		require.NoError(t, link.Heal())
		until(t, "all is taken again", func() bool { held, _ := s.count(); return held == 0 })
	}
	require.Zero(t, r.log.with("WARN", "another client"))
	require.NotContains(t, fmt.Sprint(r.Stats().Holds), "another client")
}
