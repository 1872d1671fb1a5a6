package intake

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/task"
)

func publishTo(t *testing.T, url string, from, to int) {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("publisher"))
	require.NoError(t, wait(client.Connect()))
	defer client.Disconnect(100)
	var last mqtt.Token
	for n := from; n < to; n++ {
		last = client.Publish(testTopic, 1, false, message(t, "device", n))
	}
	require.NoError(t, wait(last))
}

func wait(token mqtt.Token) error {
	if !token.WaitTimeout(time.Minute) {
		return errors.New("the broker does not answer")
	}
	return token.Error()
}

// TestMosquittoDeliversAgainInOrder: events in progress at a kill are redelivered, first and in order, and so are those published meanwhile.
func TestMosquittoDeliversAgainInOrder(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	first := &testSink{holding: true}
	killed := startSubscriber(t, testConfig(), Bus{URL: url}, first)
	publishTo(t, url, 1, 101)
	eventually(t, func() bool { return len(first.got()) == 20 }, "its window is 20")
	kill(killed)
	publishTo(t, url, 101, 151)

	second := &testSink{}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, second)
	eventually(t, func() bool { return s.Counts().Acked == 150 }, "all")
	require.Equal(t, sequence(1, 151), second.got())
	first.answer()
	requireNothingLeft(t, s, url)
}

// TestMosquittoDeliversInOrderWhateverIsDoneFirst: with acknowledgements in another order than the messages, it would not.
func TestMosquittoDeliversInOrderWhateverIsDoneFirst(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	var mu sync.Mutex
	var got []int64
	sink := &shufflingSink{refuse: func(ev *task.Event) bool {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, ev.Origin)
		return false
	}}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publishTo(t, url, 1, 1501)
	eventually(t, func() bool { return s.Counts().Acked == 1500 }, "all")
	require.Equal(t, sequence(1, 1501), got)
	require.Zero(t, s.Counts().Duplicates)
	requireNothingLeft(t, s, url)
}

// requireNothingLeft reconnects: the broker then delivers every message that it still holds.
func requireNothingLeft(t *testing.T, s *Subscriber, url string) {
	require.NoError(t, s.Stop(context.Background()))
	sink := &testSink{}
	next := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publishTo(t, url, 1000, 1001)
	eventually(t, func() bool { return next.Counts().Acked == 1 }, "a new one")
	require.Equal(t, sequence(1000, 1001), sink.got(), "and nothing before it")
}

// shufflingSink answers from a goroutine per event, in no order.
type shufflingSink struct{ refuse func(*task.Event) bool }

func (s *shufflingSink) Submit(events []*task.Event, done func(i int, err error)) {
	for i, ev := range events {
		var err error
		if s.refuse != nil && s.refuse(ev) {
			err = errors.New("refused")
		}
		go func() {
			time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			done(i, err)
		}()
	}
}
