package export

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/seal"
)

// confirm plays a consumer that confirms each batch after the same delay, whatever the window, at most that many a second.
func confirm(s *span, now time.Time, delay time.Duration, most float64, rounds int) time.Time {
	s.resume(now)
	for range rounds {
		rate := min(float64(s.size(256))/delay.Seconds(), most)
		n := max(int(rate*0.2), 1)
		for i := range n {
			at := now.Add(time.Duration(float64(i+1) / rate * float64(time.Second)))
			s.confirmed(at.Add(-max(delay, time.Duration(float64(s.size(256))/rate*float64(time.Second)))), at)
			s.measure(s.size(256), 256, at)
		}
		now = now.Add(time.Duration(float64(n) / rate * float64(time.Second)))
	}
	return now
}

// fillWindow publishes batches of one record, each acknowledged immediately, until that many are in flight or there is no room. It returns the latest
// sequence.
func fillWindow(w *window, seq uint64, most int) uint64 {
	for len(w.entries) < most && w.room(w.unacked(), 1<<30) && !w.excluded(time.Now())["a"] {
		seq++
		w.add(load(seq, seq))
		w.puback(w.publish(w.next(time.Now()), time.Now()), 100, time.Now())
	}
	return seq
}

func TestTheWindowFollowsBandwidthAndDelay(t *testing.T) {
	for _, c := range []struct {
		name      string
		delay     time.Duration
		most      float64 // batches/s
		low, high int
	}{
		{"a near consumer needs little more than before", 2 * time.Millisecond, 2000, 16, 32},
		{"a far one needs what is on its way meanwhile", 100 * time.Millisecond, 400, 70, 90},
		{"a slow one is not buried", 20 * time.Millisecond, 50, 16, 32},
		{"nothing goes beyond the bound", time.Second, 10_000, 256, 256},
	} {
		s := span{}
		require.Equal(t, 16, s.size(256), "nothing is known yet")
		now := confirm(&s, time.Unix(1000, 0), c.delay, c.most, 200)
		require.GreaterOrEqual(t, s.size(256), c.low, c.name)
		require.LessOrEqual(t, s.size(256), c.high, c.name)

		confirm(&s, now.Add(time.Hour), c.delay, c.most, 20)
		require.GreaterOrEqual(t, s.size(256), c.low, "%s, after a pause", c.name)
	}
	require.Equal(t, 4, new(span).size(4), "the bound holds from the beginning")
}

// On a long path all batches in flight may be confirmed within a moment, and then none for as long as the path takes.
func TestTheWindowGrowsWhereConfirmationsComeInBursts(t *testing.T) {
	s, now := span{}, time.Unix(1000, 0)
	for range 8 {
		sent := now
		s.resume(now)
		now = now.Add(3 * time.Second)
		for under := s.size(256); under > 0; under-- {
			now = now.Add(100 * time.Microsecond)
			s.confirmed(sent, now)
			s.measure(under, 256, now)
		}
	}
	require.Greater(t, s.size(256), 200)
}

// With a consumer that confirms on a timer, the whole window is confirmed together, and the link is idle until then. The window grows although the
// first batch was published just before the timer; it does not for a consumer with a queue, or if no more batches were to be sent.
func TestTheWindowGrowsWhereTheConsumerConfirmsOnATimer(t *testing.T) {
	for name, c := range map[string]struct{ offered, each, want, trials int }{
		"on a timer":           {1000, 1000, 256, 40},
		"a part at a time":     {1000, 11, 16, 12},
		"nothing more to send": {11, 1000, 16, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(l *limits) { l.batches, l.bytes = 256, 1<<30 }, func(t *testing.T, w *window) {
				seq, trials := uint64(0), 0
				fill := func() { seq = fillWindow(w, seq, c.offered) }
				time.Sleep(990 * time.Millisecond)
				for range 40 {
					fill()
					time.Sleep(10 * time.Millisecond)
					last := w.entries[min(len(w.entries), c.each)-1].records[0].Seq
					w.receipt([]seal.Range{{First: 1, Last: last}}, time.Now())
					fill()
					time.Sleep(990 * time.Millisecond)
					if w.size(256) > leastSpan {
						trials++
					}
				}
				require.Equal(t, c.want, max(w.size(256), w.kept))
				require.LessOrEqual(t, trials, c.trials, "seconds with a larger window")
			})
		})
	}
}

// A broker that delays a small message until the previous one is acknowledged (Nagle's algorithm) delivers receipts in bursts, each of which
// immediately makes room for the next batch: the window is never empty.
func TestTheWindowGrowsWhereTheBrokerHoldsReceiptsBack(t *testing.T) {
	inBubble(t, func(l *limits) { l.batches, l.bytes = 256, 1<<30 }, func(t *testing.T, w *window) {
		seq := uint64(0)
		fill := func() { seq = fillWindow(w, seq, math.MaxInt) }
		receipt := func(n uint64) { w.receipt([]seal.Range{{First: n, Last: n}}, time.Now()) }
		fill()
		time.Sleep(time.Millisecond)
		receipt(1)
		for done := uint64(1); w.size(256) < 256; {
			fill()
			require.Less(t, done, uint64(5000))
			time.Sleep(40 * time.Millisecond)
			for to := seq; done < to; done++ {
				receipt(done + 1)
				fill()
			}
		}
	})
}

// A pause of the consumer looks like a burst, and any window is faster than that. Real bursts come one after the other.
func TestAPauseOfTheConsumerDoesNotWidenTheWindow(t *testing.T) {
	inBubble(t, func(l *limits) { l.batches, l.bytes, l.receiptTimeout = 256, 1<<30, time.Hour }, func(t *testing.T, w *window) {
		seq := uint64(0)
		for done := range uint64(20_000) {
			for w.room(w.unacked(), 1<<30) && !w.excluded(time.Now())["a"] {
				seq++
				w.add(load(seq, seq))
				w.puback(w.publish(w.next(time.Now()), time.Now()), 100, time.Now())
			}
			time.Sleep(10 * time.Millisecond)
			if done%997 == 996 {
				time.Sleep(5 * time.Second)
			}
			w.receipt([]seal.Range{{First: done + 1, Last: done + 1}}, time.Now())
			require.Equal(t, leastSpan, w.size(256))
		}
	})
}

// Batches acknowledged on the previous connection are receipted on this one, and the time before it is not measured.
func TestTheWindowMeasuresNothingFromBeforeItsConnection(t *testing.T) {
	inBubble(t, func(l *limits) { l.batches, l.bytes = 256, 1<<30 }, func(t *testing.T, w *window) {
		seq := uint64(0)
		fill := func() { seq = fillWindow(w, seq, math.MaxInt) }
		fill()
		old := seq
		time.Sleep(2 * time.Second)
		w.lostConnection(false, time.Now())
		w.connected(true)
		w.receipt([]seal.Range{{First: 1, Last: old - 1}}, time.Now())
		fill()
		time.Sleep(200 * time.Millisecond)
		w.receipt([]seal.Range{{First: old, Last: seq - 1}}, time.Now())
		require.Equal(t, float64(seq-1-old)/0.2, w.rate)
	})
}

// The delay is the shortest of a connection: a queue at the consumer does not count.
func TestTheDelayIsTheShortest(t *testing.T) {
	s, now := span{}, time.Unix(1000, 0)
	for _, d := range []time.Duration{300, 0, 100, 200} {
		s.confirmed(now.Add(-d*time.Millisecond), now)
	}
	require.Equal(t, 0.1, s.delay)
}

// A measurement is as bursty as its longest gap, wherever that is in it.
func TestABurstMayBeginAMeasurement(t *testing.T) {
	s, now := span{}, time.Unix(1000, 0)
	s.resume(now)
	for range 3 {
		sent, size := now, s.size(256)
		now = now.Add(spanMeasure - time.Duration(size)*time.Millisecond)
		for under := size; under > 0; under-- {
			now = now.Add(time.Millisecond)
			s.confirmed(sent, now)
			s.measure(under, 256, now)
		}
	}
	require.Positive(t, s.before, "a larger window is tried")
}

// A trial is judged by its rate: a window of twice the size stays if it is exactly spanGain times as fast.
func TestALargerWindowStaysIfItIsFasterByTheFactor(t *testing.T) {
	for batches, size := range map[int]int{14: 16, 15: 32, 16: 32} {
		s, now := span{least: 32, kept: 16, before: 100}, time.Unix(1000, 0)
		s.resume(now)
		for range batches {
			s.confirmed(now, now.Add(spanMeasure))
		}
		s.measure(1, 256, now.Add(spanMeasure))
		require.Equal(t, size, s.least, "%d batches", batches)
		require.Zero(t, s.before)
	}
}

// A failed trial has no lasting effect: if the rate falls later, so does the window.
func TestAFailedTrialDoesNotKeepTheWindowWide(t *testing.T) {
	s, now, trials := span{}, time.Unix(1000, 0), 0
	s.resume(now)
	burst := func(n int, apart time.Duration) {
		sent := now
		now = now.Add(apart)
		for range n {
			s.confirmed(sent, now)
		}
		s.measure(s.size(256), 256, now)
		if s.before > 0 {
			trials++
		}
	}
	for range 8 {
		burst(80, 200*time.Millisecond)
	}
	require.Positive(t, trials)
	for range 200 {
		burst(1, 200*time.Millisecond)
	}
	require.Zero(t, s.before)
	require.Equal(t, leastSpan, s.size(256))
}

// A batch that is published again measures nothing: its confirmation may be for the first publish.
func TestOnlyABatchPublishedOnceMeasuresTheDelay(t *testing.T) {
	for _, receipts := range []bool{true, false} {
		inBubble(t, func(l *limits) { l.confirmReceipt = receipts }, func(t *testing.T, w *window) {
			confirmed := func(attempt uint64, seq uint64) {
				w.puback(attempt, 100, time.Now())
				w.receipt([]seal.Range{{First: seq, Last: seq}}, time.Now())
				require.Empty(t, w.entries)
			}
			w.add(load(1, 1))
			first := w.next(time.Now())
			w.publish(first, time.Now())
			time.Sleep(time.Second)
			w.lostConnection(false, time.Now())
			w.connected(false)
			attempt := w.publish(w.next(time.Now()), time.Now())
			time.Sleep(time.Millisecond)
			confirmed(attempt, 1)
			require.Zero(t, w.delay)

			w.add(load(2, 2))
			attempt = w.publish(w.next(time.Now()), time.Now())
			time.Sleep(300 * time.Millisecond)
			confirmed(attempt, 2)
			require.InDelta(t, 0.3, w.delay, 1e-9)
		})
	}
}

// The time in which nothing was in flight counts in no measurement; that in which batches wait for their receipt does.
func TestAMeasurementLeavesIdleTimeOut(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		at := func(seq uint64) time.Duration {
			w.add(load(seq, seq))
			w.puback(w.publish(w.next(time.Now()), time.Now()), 100, time.Now())
			return time.Since(w.began)
		}
		require.Zero(t, at(1), "it begins")
		time.Sleep(10 * time.Millisecond)
		w.receipt(safe(1, 1), time.Now())
		time.Sleep(time.Hour)
		require.Equal(t, 10*time.Millisecond, at(2))
		time.Sleep(time.Second)
		require.Equal(t, time.Second+10*time.Millisecond, at(3))
	})
}
