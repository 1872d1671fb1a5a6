package intake

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt"
	"app-offload/functions/task"
)

// TestRefusedEventsAreOfferedAgainInTheOrderOfArrival, in whatever order they were refused, and after all are answered.
func TestRefusedEventsAreOfferedAgainInTheOrderOfArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxSlice = 7
		s := newSubscriber(t, cfg, Bus{URL: "tcp://127.0.0.1:1"}, &testSink{})
		s.mu.Lock()
		for _, n := range rand.Perm(20) {
			d := &delivery{event: &task.Event{Origin: int64(n)}, sequence: uint64(n)}
			s.refuse(d, ErrFullEvents)
		}
		s.out = 1
		s.mu.Unlock()
		time.Sleep(time.Hour)
		due, holding, _ := s.takeDue(time.Now())
		require.True(t, holding)
		require.Empty(t, due, "the one that is with the sink may be refused as well, and be earlier")
		s.out = 0
		var got []int64
		for {
			due, holding, _ := s.takeDue(time.Now())
			if !holding {
				break
			}
			require.LessOrEqual(t, len(due), cfg.MaxSlice)
			for _, d := range due {
				got = append(got, d.event.Origin)
			}
		}
		require.Equal(t, sequence(0, 20), got)
	})
}

// TestARefusedEventWaitsBeforeItIsOfferedAgain for the configured time.
func TestARefusedEventWaitsBeforeItIsOfferedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.RetryAfter = "1s"
		s := newSubscriber(t, cfg, Bus{URL: "tcp://127.0.0.1:1"}, &testSink{})
		s.mu.Lock()
		s.refuse(&delivery{event: &task.Event{}}, ErrFullEvents)
		s.mu.Unlock()
		_, holding, wait := s.takeDue(time.Now())
		require.True(t, holding)
		require.Equal(t, time.Second, wait)
		time.Sleep(wait)
		due, _, _ := s.takeDue(time.Now())
		require.Len(t, due, 1)
	})
}

// TestAStopSubmitsWhatHasArrived: while an event is refused, only the messages at QoS 0, which are not redelivered. Those at QoS 1 would overtake it.
func TestAStopSubmitsWhatHasArrived(t *testing.T) {
	for name, c := range map[string]struct {
		refused bool
		want    []int64
	}{"none refused": {false, sequence(1, 9)}, "one refused": {true, []int64{1, 3, 4, 7}}} {
		sink := &testSink{}
		s := newSubscriber(t, testConfig(), Bus{URL: "tcp://127.0.0.1:1"}, sink)
		if c.refused {
			s.mu.Lock()
			s.refuse(&delivery{event: &task.Event{}}, ErrFullEvents)
			s.mu.Unlock()
		}
		for n, qos := range []byte{0, 1, 0, 0, 1, 1, 0, 1} {
			s.arrived <- arrival{msg: mqtt.Message{Topic: testTopic, Payload: message(t, "device", n+1), QoS: qos}}
		}
		for qos := range byte(2) { // a rejected message and one behind it
			s.arrived <- arrival{msg: mqtt.Message{Topic: testTopic, QoS: qos}}
		}
		s.finish()
		require.Equal(t, c.want, sink.got(), name)
		require.Empty(t, s.retries, name)
		require.Equal(t, map[bool]uint64{true: 1, false: 2}[c.refused], s.counts.Rejected, name)
	}
}
