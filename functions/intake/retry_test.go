package intake

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

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
