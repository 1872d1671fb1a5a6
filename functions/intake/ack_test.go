package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/intake/parse"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/task"
)

// ackHook records the packet ids in the order in which the broker sends PUBLISHes and receives PUBACKs.
type ackHook struct {
	auth.AllowHook
	mu         sync.Mutex
	sent, acks []uint16
}

func (h *ackHook) Provides(b byte) bool {
	return h.AllowHook.Provides(b) || b == broker.OnPacketSent || b == broker.OnPacketRead
}

func (h *ackHook) OnPacketSent(_ *broker.Client, p packets.Packet, _ []byte) {
	if p.FixedHeader.Type == packets.Publish && p.FixedHeader.Qos == 1 {
		h.mu.Lock()
		h.sent = append(h.sent, p.PacketID)
		h.mu.Unlock()
	}
}

func (h *ackHook) OnPacketRead(_ *broker.Client, p packets.Packet) (packets.Packet, error) {
	if p.FixedHeader.Type == packets.Puback {
		h.mu.Lock()
		h.acks = append(h.acks, p.PacketID)
		h.mu.Unlock()
	}
	return p, nil
}

func (h *ackHook) order() (sent, acks []uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]uint16(nil), h.sent...), append([]uint16(nil), h.acks...)
}

// TestAcknowledgementsLeaveInTheOrderOfArrival: for every kind of message, and every order in which events are done.
func TestAcknowledgementsLeaveInTheOrderOfArrival(t *testing.T) {
	hook := &ackHook{}
	server, at := startBroker(t, hook, nil, nil)
	seed := uint64(time.Now().UnixNano()) // a seed
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	refusals := map[int64]int{}
	sink := &shufflingSink{refuse: func(ev *task.Event) bool {
		refusals[ev.Origin]++
		return ev.Origin%17 == 0 && refusals[ev.Origin] < 3
	}}
	cfg := testConfig()
	cfg.MaxPayloadKiB = 1
	bus := Bus{URL: "tcp://" + at, Skip: func(topic string) bool { return topic == testTopic+"/own" }}
	s := startSubscriber(t, cfg, bus, sink)
	const total = 500
	for n := 1; n <= total; n++ {
		topic, msg := testTopic, message(t, "device", n)
		switch rnd.IntN(8) {
		case 0:
			topic += "/own"
		case 1:
			msg = []byte("no event")
		case 2:
			msg = message(t, "device", max(n-rnd.IntN(20), 1)) // a repeat
		case 3:
			msg = make([]byte, 200<<10) // too large for the connection
		}
		require.NoError(t, server.Publish(topic, msg, false, 1))
	}
	eventually(t, func() bool { return s.Counts().Acked == total }, "all")
	eventually(t, func() bool { _, acks := hook.order(); return len(acks) == total }, "at the broker")
	sent, acks := hook.order()
	require.Equal(t, sent, acks)
	require.NotZero(t, s.Counts().Refused)
}

// TestARefusedEventHoldsUpWhatFollowsIt: nothing overtakes it, and all later events follow in order once it is accepted.
func TestARefusedEventHoldsUpWhatFollowsIt(t *testing.T) {
	server, url := openBroker(t)
	var mu sync.Mutex
	full, taken := true, []int64{}
	sink := &testSink{refuse: func(ev *task.Event) error {
		mu.Lock()
		defer mu.Unlock()
		if full && ev.Origin >= 5 {
			return errors.New("spool full")
		}
		taken = append(taken, ev.Origin)
		return nil
	}}
	cfg := testConfig()
	cfg.MaxEvents, cfg.MaxSlice = 50, 7
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	publish(t, server, 1, 201)
	eventually(t, func() bool { return s.Counts().Refused > 30 && s.Counts().UnderWay.Events == 50 }, "several offers, and as many as may be in progress")
	require.Equal(t, uint64(4), s.Counts().Acked)
	require.LessOrEqual(t, s.Counts().Submitted, uint64(14), "nothing new is offered meanwhile")
	mu.Lock()
	full = false
	mu.Unlock()
	eventually(t, func() bool { return s.Counts().Acked == 200 }, "all")
	require.Equal(t, sequence(1, 201), taken)
}

// TestAStopLeavesWhatIsBehindARefusedEventToTheBroker, in order, and does not wait for it.
func TestAStopLeavesWhatIsBehindARefusedEventToTheBroker(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	var taken []int64
	sink := &testSink{refuse: func(ev *task.Event) error {
		if ev.Origin == 5 {
			return errors.New("spool full")
		}
		taken = append(taken, ev.Origin)
		return nil
	}}
	cfg := testConfig()
	cfg.MaxSlice = 1
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	publishTo(t, url, 1, 41)
	eventually(t, func() bool { return s.Counts().Refused > 2 }, "refused")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, s.Stop(ctx))
	require.Equal(t, uint64(4), s.Counts().Acked)
	require.Equal(t, sequence(1, 5), taken)

	again := &testSink{}
	next := startSubscriber(t, testConfig(), Bus{URL: url}, again)
	eventually(t, func() bool { return next.Counts().Acked == 36 }, "all others")
	require.Equal(t, sequence(5, 41), again.got())
}

// TestConnectionsThatEndDoNotFillTheGate: an event in progress for long is redelivered on each new connection.
func TestConnectionsThatEndDoNotFillTheGate(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true}
	cfg := testConfig()
	cfg.MaxEvents = 20
	s := startSubscriber(t, cfg, Bus{URL: url}, sink)
	publish(t, server, 1, 6)
	eventually(t, func() bool { return len(sink.got()) == 5 }, "all submitted")
	for n := uint64(2); n < 4; n++ {
		s.Rotate()
		eventually(t, func() bool { return s.Counts().Connections == n && s.Counts().Duplicates == 5*(n-1) }, "delivered again")
		eventually(t, func() bool { return s.Counts().UnderWay.Events <= 10 }, "the event and its latest repeat")
	}
	sink.answer()
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 0 }, "acknowledged on the latest connection")
	eventually(t, func() bool { return s.Counts().UnderWay.Events == 0 }, "nothing left")
	require.Equal(t, uint64(5), s.Counts().Acked)
	require.Zero(t, s.log.(*logLines).count("another client"))
}

// TestAStopLeavesARefusedEventAndItsRepeatsToTheBroker: none of them prevents the gate from emptying.
func TestAStopLeavesARefusedEventAndItsRepeatsToTheBroker(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{holding: true, refuse: func(*task.Event) error { return errors.New("spool full") }}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publish(t, server, 1, 2)
	publish(t, server, 1, 2)
	eventually(t, func() bool { return s.Counts().Duplicates == 1 }, "a repeat")
	stopped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	go func() { stopped <- s.Stop(ctx) }()
	eventually(t, func() bool { return s.ctx.Err() != nil }, "stopping")
	sink.answer()
	require.NoError(t, <-stopped)
	require.Equal(t, uint64(2), s.Counts().Abandoned)
	require.Zero(t, s.Counts().Acked)
}

// TestEventsOfOneIDAndDifferentContentAreAllTaken: five devices made from the same image.
func TestEventsOfOneIDAndDifferentContentAreAllTaken(t *testing.T) {
	server, url := openBroker(t)
	sink := &testSink{}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	for range 2 { // the second time all are repeats
		for n := range 5 {
			ev := dtos.NewEvent("profile", fmt.Sprintf("device-%d", n), "source")
			ev.Id, ev.Origin = "00000000-0000-0000-0000-000000000001", int64(n+1)
			require.NoError(t, ev.AddSimpleReading("n", "Int64", int64(n)))
			ev.Readings[0].Id, ev.Readings[0].Origin = ev.Id, ev.Origin
			payload, err := json.Marshal(requests.NewAddEventRequest(ev))
			require.NoError(t, err)
			require.NoError(t, server.Publish(testTopic, sealed(t, payload, parse.ContentTypeJSON), false, 1))
		}
	}
	eventually(t, func() bool { return s.Counts().Acked == 10 }, "all acknowledged")
	require.Equal(t, sequence(1, 6), sink.got())
	require.Equal(t, uint64(5), s.Counts().Duplicates)
	require.Equal(t, uint64(4), s.Counts().SameID)
	require.Equal(t, 1, s.log.(*logLines).count("two events share one id"))
}
