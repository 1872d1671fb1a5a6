package consume

import (
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt"
	"app-offload/functions/mqtt/mosquittotest"
)

// Lanes finish messages in any order. The broker receives its acknowledgements in the order of the messages; otherwise it would deliver later
// messages out of order. A message blocked in the database delays no other, and neither does a refused one.
func TestMessagesComeInOrderWhateverOrderTheyAreDoneIn(t *testing.T) {
	require.Zero(t, outOfOrder(t, 0))
	t.Logf("of 3000 out of order with five that wait: %d", outOfOrder(t, 5))
}

// A message behind one that hangs is acknowledged after a while; otherwise the broker would send no more messages.
func TestAMessageThatHangsIsPassedInTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &acks{patience: 5 * time.Second}
		places, session := make([]*ack, 6), &mqtt.Session{}
		for i := range places {
			places[i] = a.expect(session, mqtt.Message{})
		}
		queue := func() []*ack {
			a.mu.Lock()
			defer a.mu.Unlock()
			return slices.Clone(a.queue)
		}
		a.done(places[1])
		a.done(places[3])
		time.Sleep(4 * time.Second)
		a.done(places[5])
		require.Len(t, queue(), 6)
		time.Sleep(2 * time.Second)
		require.Equal(t, places[4:], queue(), "the last one has waited for 2 s only")
		require.Equal(t, []ackState{ackPassed, ackPassed}, []ackState{places[0].state, places[2].state})
		time.Sleep(4 * time.Second)
		require.Empty(t, queue())

		first, behind := a.expect(session, mqtt.Message{}), a.expect(session, mqtt.Message{})
		a.done(behind)
		require.Len(t, queue(), 2)
		a.pass(first)
		require.Empty(t, queue(), "messages finished behind a passed one are acknowledged immediately")
	})
}

// outOfOrder returns the number of 3,000 messages that arrive after a later one, while lanes finish them in any order, one is refused, and the given
// number is blocked.
func outOfOrder(t *testing.T, waits int) (wrong int) {
	const many = 3000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	address := mosquittotest.Start(t, "")
	var mu sync.Mutex
	var got []int
	var open, waiting []*Message
	m := NewMQTT(MQTTConfig{URL: "tcp://" + address, ID: "consumer", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, m.Start(t.Context(), func(one *Message) bool {
		n, _ := strconv.Atoi(string(one.Payload))
		mu.Lock()
		defer mu.Unlock()
		got = append(got, n)
		if n == 2 {
			return false
		}
		open = append(open, one)
		return true
	}))
	t.Cleanup(m.Close)
	client := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + address).SetClientID("publisher"))
	require.True(t, client.Connect().WaitTimeout(time.Minute))
	t.Cleanup(func() { client.Disconnect(100) })
	go func() {
		for i := range many {
			client.Publish("offload/v1/n/batch/c", 1, false, strconv.Itoa(i)).Wait()
		}
	}()
	require.Eventually(t, func() bool {
		mu.Lock()
		defer mu.Unlock()
		rng.Shuffle(len(open), func(i, k int) { open[i], open[k] = open[k], open[i] })
		half := (len(open) + 1) / 2
		for _, one := range open[:half] {
			if len(waiting) < waits && rng.IntN(100) == 0 {
				one.pass()
				waiting = append(waiting, one)
				continue
			}
			one.Ack()
		}
		open = open[half:]
		if waits > 0 && len(waiting) == waits && rng.IntN(10) == 0 {
			waiting[0].Ack()
			waiting = waiting[1:]
		}
		return len(got) == many
	}, time.Minute, time.Millisecond)
	for i := 1; i < many; i++ {
		if got[i] < got[i-1] {
			wrong++
		}
	}
	return wrong
}
