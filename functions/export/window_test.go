package export

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/batch"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

func testLimits() limits {
	return limits{
		batches: 4, bytes: 1 << 20, confirmReceipt: true, receiptTimeout: 30 * time.Second, ackTimeout: 10 * time.Second,
		refusedTries: 3, unheards: 4, trialPause: trialPause,
	}
}

// load returns a batch of records of 100 bytes.
func load(first, last uint64) *batch.Batch {
	b := &batch.Batch{Class: "a"}
	for seq := first; seq <= last; seq++ {
		b.Records = append(b.Records, spool.Record{Seq: seq, Payload: make([]byte, 100)})
		b.Bytes += 100
	}
	return b
}

// flow publishes what the window wants published and returns it as "first+count".
func flow(w *window) (attempts []uint64, what []string) {
	for e := w.next(time.Now()); e != nil; e = w.next(time.Now()) {
		what = append(what, fmt.Sprintf("%d+%d", e.records[0].Seq, len(e.records)))
		attempts = append(attempts, w.publish(e, time.Now()))
	}
	return attempts, what
}

// ack acknowledges all attempts and returns the sequences this confirms.
func ack(w *window, attempts ...uint64) (seqs []uint64) {
	for _, a := range attempts {
		seqs = appendSequences(seqs, w.puback(a, 0, time.Now()))
	}
	return seqs
}

func safe(ranges ...uint64) []seal.Range {
	var out []seal.Range
	for i := 0; i < len(ranges); i += 2 {
		out = append(out, seal.Range{First: ranges[i], Last: ranges[i+1]})
	}
	return out
}

// inBubble runs a test of the window with a virtual clock.
func inBubble(t *testing.T, change func(*limits), f func(t *testing.T, w *window)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := testLimits()
		if change != nil {
			change(&l)
		}
		f(t, trusting(l))
	})
}

// trusting returns a window whose consumer has receipted records of class "a" before.
func trusting(l limits) *window {
	w := &window{limits: l}
	c := w.class("a")
	c.heard, c.trusted = true, true
	return w
}

func puback(l *limits) { l.confirmReceipt = false }

func TestWindowHasRoomForBatchesAndBytes(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*limits)
		loads  int // of 1,000 bytes
		acked  bool
		ahead  int
		want   bool
	}{
		"an empty window takes anything":           {nil, 0, false, 1, true},
		"batches are counted":                      {nil, 4, false, 1 << 20, false},
		"acknowledged ones still count":            {nil, 4, true, 1 << 20, false},
		"bytes are counted":                        {func(l *limits) { l.bytes = 1500 }, 2, true, 1 << 20, false},
		"bytes up to the limit":                    {func(l *limits) { l.bytes = 2000 }, 2, true, 1 << 20, false},
		"bytes just below it":                      {func(l *limits) { l.bytes = 2001 }, 2, true, 1 << 20, true},
		"the link is not filled further than said": {nil, 2, false, 1500, false},
		"the link is filled as far as said":        {nil, 2, false, 2000, false},
		"the link is nearly filled":                {nil, 2, false, 2001, true},
		"a link that takes nothing in advance":     {nil, 2, true, 0, true},
		"what is acknowledged is off the link":     {nil, 2, true, 1500, true},
		"there is room below all limits":           {nil, 3, false, 1 << 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, tc.change, func(t *testing.T, w *window) {
				for i := range tc.loads {
					w.add(load(uint64(i*10+1), uint64(i*10+10)))
				}
				attempts, _ := flow(w)
				if tc.acked {
					ack(w, attempts...)
				}
				require.Equal(t, tc.want, w.room(w.unacked(), tc.ahead))
			})
		})
	}
}

func TestPubackConfirmsOnlyWhereConfigured(t *testing.T) {
	inBubble(t, puback, func(t *testing.T, w *window) {
		w.add(load(1, 3))
		attempts, _ := flow(w)
		require.Equal(t, []uint64{1, 2, 3}, ack(w, attempts...))
		require.Empty(t, ack(w, attempts...), "a second acknowledgement confirms nothing")
		require.True(t, w.settled(time.Now(), false))
	})
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 3))
		attempts, _ := flow(w)
		require.Empty(t, ack(w, attempts...))
		w.warned = true
		require.True(t, w.settled(time.Now(), false), "the consumer is silent")
		w.warned = false
		time.Sleep(leastLate)
		require.False(t, w.settled(time.Now(), false))
		time.Sleep(time.Nanosecond)
		require.True(t, w.settled(time.Now(), false), "a receipt is late")
		require.Len(t, w.receipt(safe(1, 3), time.Now()), 3)
		require.True(t, w.settled(time.Now(), false))
	})
}

func TestReceiptsMayComeInAnyShape(t *testing.T) {
	for name, tc := range map[string]struct {
		ranges []seal.Range
		left   []string
	}{
		"all":                         {safe(1, 6), nil},
		"more than all":               {safe(0, 1<<40), nil},
		"nothing of ours":             {safe(7, 9), []string{"1+3", "4+3"}},
		"parts of batches":            {safe(2, 2, 6, 6), []string{"1+2", "4+2"}},
		"unordered and overlapping":   {safe(5, 6, 1, 3, 2, 5), nil},
		"within others":               {safe(2, 3, 5, 5, 1, 6), nil},
		"ends before it begins":       {safe(6, 1), []string{"1+3", "4+3"}},
		"across the edges of batches": {safe(3, 4), []string{"1+2", "5+2"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *window) {
				w.add(load(1, 3))
				w.add(load(4, 6))
				flow(w)
				done := w.receipt(ascending(tc.ranges), time.Now())
				w.lostConnection(false, time.Now())
				_, left := flow(w)
				require.Equal(t, tc.left, left)
				require.Equal(t, 600, w.bytes+100*len(done))
			})
		})
	}
}

func TestAfterALossPublishingStartsOverInOrder(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		for i := range uint64(4) {
			w.add(load(i*10+1, i*10+10))
		}
		attempts, _ := flow(w)
		ack(w, attempts[0])
		w.lostConnection(false, time.Now())
		time.Sleep(handover)
		w.connected(true)
		again, what := flow(w)
		require.Equal(t, []string{"11+10", "21+10", "31+10"}, what)

		// A late answer to the first publish does not count for the second.
		ack(w, attempts[1])
		require.Equal(t, 3000, w.unacked())
		ack(w, again...)
		require.Zero(t, w.unacked())
	})
}

// A broker may acknowledge a batch before it has delivered it, and serve a new connection meanwhile.
func TestANewConnectionDoesNotOvertakeThePreviousOne(t *testing.T) {
	for name, tc := range map[string]struct {
		before time.Duration // from the acknowledgement to the new connection
		then   func(w *window)
		want   []string
	}{
		"until the receipt":     {then: func(w *window) { w.receipt(safe(1, 10), time.Now()) }, want: []string{"11+10", "21+10"}},
		"until it is long past": {then: func(w *window) { time.Sleep(time.Until(w.wake())); w.tick(time.Now()) }, want: []string{"11+10", "21+10"}},
		"until it goes again":   {then: func(w *window) { w.announced(time.Now()) }, want: []string{"1+10", "11+10", "21+10"}},
		"not after an outage":   {before: handover},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *window) {
				w.add(load(1, 10))
				w.add(load(11, 20))
				attempts, _ := flow(w)
				ack(w, attempts[0])
				w.lostConnection(false, time.Now())
				time.Sleep(tc.before)
				w.connected(true)
				w.add(load(21, 30))
				w.add(&batch.Batch{Class: "b", Records: load(31, 31).Records})
				_, what := flow(w)
				if tc.then == nil {
					require.Equal(t, []string{"11+10", "21+10", "31+1"}, what)
					return
				}
				require.Equal(t, []string{"31+1"}, what, "other classes go on")
				require.False(t, w.settled(time.Now(), false))
				tc.then(w)
				_, what = flow(w)
				require.Equal(t, tc.want, what)
			})
		})
	}
}

func TestABrokerThatForgotTheSessionGetsAllThatIsNotReceipted(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 10))
		w.add(load(11, 20))
		attempts, _ := flow(w)
		ack(w, attempts[0])
		w.lostConnection(false, time.Now())
		w.connected(false)
		_, what := flow(w)
		require.Equal(t, []string{"1+10", "11+10"}, what)
	})
}

func TestAHungBrokerIsNoticed(t *testing.T) {
	inBubble(t, func(l *limits) { l.receiptTimeout = time.Hour }, func(t *testing.T, w *window) {
		time.Sleep(time.Hour)
		w.add(load(1, 10))
		w.add(load(11, 20))
		attempts, _ := flow(w)
		require.Equal(t, time.Now().Add(10*time.Second), w.wake())
		time.Sleep(9 * time.Second)
		require.False(t, w.tick(time.Now()).hung)
		ack(w, attempts[0]) // progress
		time.Sleep(9 * time.Second)
		require.False(t, w.tick(time.Now()).hung)
		time.Sleep(time.Second)
		require.True(t, w.tick(time.Now()).hung)
		w.hung()
		w.lostConnection(false, time.Now())
		_, what := flow(w)
		require.Equal(t, []string{"11+10"}, what, "the first time it may be anything")
		time.Sleep(19 * time.Second)
		require.False(t, w.tick(time.Now()).hung, "the broker may just be slow: it is given twice the time")
		w.alive(time.Now()) // a receipt
		time.Sleep(19 * time.Second)
		require.False(t, w.tick(time.Now()).hung)
		time.Sleep(time.Second)
		require.True(t, w.tick(time.Now()).hung)
		w.hung()
		w.lostConnection(false, time.Now())
		_, what = flow(w)
		require.Equal(t, []string{"11+5", "16+5"}, what, "the second time the batch may be too much for the link")
	})
}

// A receipt that overtakes the acknowledgement shows a broker as quick as one that acknowledges first.
func TestReceiptsThatOvertakeAcknowledgementsEndTheExtraPatience(t *testing.T) {
	inBubble(t, func(*limits) {}, func(t *testing.T, w *window) {
		w.hung()
		require.Equal(t, 20*time.Second, w.ackPatience())
		for seq := range uint64(calmAcks) {
			w.add(load(seq, seq))
			attempts, _ := flow(w)
			require.Len(t, attempts, 1)
			require.Len(t, w.receipt(safe(seq, seq), time.Now()), 1)
			require.Empty(t, ack(w, attempts...))
		}
		require.Equal(t, 10*time.Second, w.ackPatience())
	})
}

func TestAMissingReceiptRepeatsTheBatchWithGrowingPatience(t *testing.T) {
	inBubble(t, func(l *limits) { l.unheards = 0 }, func(t *testing.T, w *window) {
		w.add(load(1, 10))
		seq := uint64(1000)
		var waits []time.Duration
		for range 8 {
			attempts, what := flow(w)
			require.Equal(t, []string{"1+10"}, what)
			ack(w, attempts...)
			began := time.Now()
			for w.entries[0].phase == acked {
				time.Sleep(time.Second)
				w.tick(time.Now())
				// Other batches are receipted meanwhile, so this is not a silence.
				w.add(load(seq, seq))
				for _, e := range w.entries[1:] {
					ack(w, w.publish(e, time.Now()))
				}
				w.receipt(safe(seq, seq), time.Now())
				seq++
			}
			waits = append(waits, time.Since(began))
		}
		for i, d := range waits {
			least := min(30*time.Second<<i, 600*time.Second)
			require.GreaterOrEqual(t, d, least)
			require.LessOrEqual(t, d, least*5/4+time.Second)
		}
		require.EqualValues(t, 8, w.resent)
	})
}

func TestASilentConsumerCostsOneBatchNowAndThen(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		for i := range uint64(4) {
			w.add(load(i*10+1, i*10+10))
		}
		published, warnings, connections := 0, 0, 0
		for range 24 * 60 * 6 { // a day in steps of ten seconds
			attempts, what := flow(w)
			published += len(what)
			ack(w, attempts...)
			time.Sleep(10 * time.Second)
			v := w.tick(time.Now())
			if v.silent {
				warnings++
			}
			if v.anew {
				connections++
			}
			require.False(t, w.room(w.unacked(), 1<<20))
		}
		require.Equal(t, 1, warnings)
		require.Greater(t, connections, 24*5, "each repetition may need a new one")
		require.Less(t, published, 4+24*6+30, "one batch in ten minutes, not the window over and over")
		require.True(t, w.settled(time.Now(), false), "waiting at a stop is of no use")
		w.add(load(41, 41))
		again := w.publish(w.entries[4], time.Now())
		require.False(t, w.settled(time.Now(), false), "the broker still acknowledges")
		ack(w, again)
		require.True(t, w.settled(time.Now(), false))
		require.Empty(t, w.asides, "silence is no reason to give anything up")

		// The consumer is back: its receipts confirm batches, and the others are published again once, in order.
		require.Len(t, w.receipt(safe(1, 10), time.Now()), 10)
		w.tick(time.Now())
		attempts, what := flow(w)
		require.NotEmpty(t, what)
		require.True(t, slices.IsSortedFunc(what, func(a, b string) int { return cmp.Compare(firstOf(a), firstOf(b)) }), "%v", what)
		ack(w, attempts...)
		_, what = flow(w)
		require.Empty(t, what)
		require.False(t, w.settled(time.Now(), false))
		time.Sleep(40 * time.Second)
		require.True(t, w.tick(time.Now()).silent, "a new silence is told again")
		_, what = flow(w)
		require.LessOrEqual(t, len(what), 2)
	})
}

func TestGapsAreFilledAtOnceButNotInHaste(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 10))
		w.add(load(11, 20))
		w.add(load(21, 30))
		attempts, _ := flow(w)
		ack(w, attempts[0], attempts[1])
		w.gaps(safe(5, 5, 25, 25), time.Now())
		_, what := flow(w)
		require.Empty(t, what, "another worker of the consumer may just be at it")
		time.Sleep(3 * time.Second)
		w.gaps(safe(5, 5, 25, 25), time.Now())
		_, what = flow(w)
		require.Equal(t, []string{"1+10"}, what, "what is on its way anyway is left alone")
	})
}

// strike makes the broker close the connection over the batches in flight.
func strike(w *window) (what []string) {
	_, what = flow(w)
	w.lostConnection(true, time.Now())
	w.connected(true)
	return what
}

func TestALinkThatBreaksIsNoRefusal(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 1))
		for range 100 {
			flow(w)
			w.lostConnection(false, time.Now())
			w.connected(true)
		}
		require.Empty(t, w.asides)
	})
}

func TestWhatTheBrokerSwallowsIsCutAndFinallySetAside(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.batches = 100
		w.add(load(1, 4)) // record 3 is acknowledged and thrown away, whatever it travels with
		seq := uint64(1000)
		began := time.Now()
		for len(w.asides) == 0 && time.Since(began) < 100*time.Hour {
			attempts, _ := flow(w)
			ack(w, attempts...)
			for _, e := range w.entries {
				if len(e.records) > 0 && !within(safe(e.records[0].Seq, e.records[len(e.records)-1].Seq), 3) {
					w.receipt(safe(e.records[0].Seq, e.records[len(e.records)-1].Seq), time.Now())
					break
				}
			}
			time.Sleep(10 * time.Second)
			w.add(load(seq, seq))
			seq++
			w.tick(time.Now())
		}
		require.Len(t, w.asides, 1)
		require.Equal(t, reasonUnreceipted, w.asides[0].reason)
		require.EqualValues(t, 3, w.asides[0].seqs[0])
	})
}

// leaveOut makes the first batch overdue while a later one with this sequence is receipted.
func leaveOut(w *window, seq uint64) {
	w.add(load(seq, seq))
	attempts, _ := flow(w)
	ack(w, attempts...)
	time.Sleep(time.Second)
	w.receipt(safe(seq, seq), time.Now())
	w.overdue(w.entries[0], time.Now())
}

// A single record is dropped for a missing receipt only after the configured number of receipts of its class that omit it; 0 never drops it.
func TestReceiptsThatLeaveARecordOutAreCounted(t *testing.T) {
	for _, most := range []int{0, 1, 4} {
		inBubble(t, func(l *limits) { l.unheards = most }, func(t *testing.T, w *window) {
			w.add(load(1, 1))
			for n := range 6 {
				leaveOut(w, uint64(100+n))
				if most > 0 && n+1 == most {
					require.Equal(t, []aside{{[]uint64{1}, "a", 100, reasonUnreceipted, explain[reasonUnreceipted]}}, w.asides)
					return
				}
				w.overdue(w.entries[0], time.Now()) // no receipt has come between
				require.Empty(t, w.asides, "%d of %d", n+1, most)
			}
			require.Zero(t, most)
		})
	}
}

// A batch is cut before any of it is dropped: only one of its records may be the one the consumer cannot take.
func TestABatchIsCutBeforeARecordIsSetAside(t *testing.T) {
	inBubble(t, func(l *limits) { l.unheards = 1 }, func(t *testing.T, w *window) {
		w.add(load(1, 2))
		for n := range 3 {
			leaveOut(w, uint64(100+n))
			require.Empty(t, w.asides)
		}
		require.Len(t, w.entries, 2)
		require.Len(t, w.entries[0].records, 1)
	})
}

func TestReleaseEmptiesTheWindow(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 3))
		w.add(load(4, 6))
		attempts, _ := flow(w)
		ack(w, attempts[0])
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6}, w.release())
		require.Zero(t, w.bytes)
		require.True(t, w.wake().IsZero())
		require.True(t, w.room(w.unacked(), 1))
	})
}

func TestBatchIDIsThatOfItsRecords(t *testing.T) {
	a, b := load(1, 10).Records, load(1, 10).Records
	require.Equal(t, batchID("e", a), batchID("e", b))
	require.NotEqual(t, batchID("e", a), batchID("f", a))
	require.NotEqual(t, batchID("e", a), batchID("e", a[:9]))
	b[5].Seq = 50
	require.NotEqual(t, batchID("e", a), batchID("e", b))
}

// TestWindowKeepsEveryRecord applies random events to a window: whatever happens, each record that went in is in the window, confirmed, dropped or
// returned, exactly once; the bytes add up; and the window stays in order.
func TestWindowKeepsEveryRecord(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := testLimits()
		l.confirmReceipt = rapid.Bool().Draw(t, "receipt")
		w := trusting(l)
		now := time.Unix(1e9, 0)
		next, out := uint64(1), map[uint64]string{}
		leave := func(how string, records []spool.Record) {
			for _, r := range records {
				require.NotContains(t, out, r.Seq)
				out[r.Seq] = how
			}
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.OneOf(rapid.IntRange(0, 900), rapid.IntRange(0, 40_000)).Draw(t, "ms")) * time.Millisecond)
			switch rapid.SampledFrom([]string{"add", "publish", "puback", "receipt", "lost", "tick", "gap", "unknown"}).Draw(t, "event") {
			case "add":
				if w.room(w.unacked(), 1<<20) {
					n := uint64(rapid.IntRange(1, 9).Draw(t, "n"))
					w.add(load(next, next+n-1))
					next += n
				}
			case "publish":
				for e := w.next(now); e != nil; e = w.next(now) {
					w.publish(e, now)
				}
			case "puback":
				attempt := w.attempts - uint64(rapid.IntRange(0, min(5, int(w.attempts))).Draw(t, "attempt"))
				leave("acked", w.puback(attempt, 0, now))
			case "receipt":
				a := rapid.Uint64Range(0, next).Draw(t, "from")
				b := rapid.Uint64Range(0, next).Draw(t, "to")
				leave("receipted", w.receipt(ascending(safe(a, b)), now))
			case "lost":
				w.lostConnection(rapid.Bool().Draw(t, "refused"), now)
				w.connected(rapid.Bool().Draw(t, "remembered"))
			case "tick":
				if w.tick(now).hung {
					w.hung()
					w.lostConnection(false, now)
				}
				if wake := w.wake(); !wake.IsZero() {
					require.True(t, wake.After(now), "a tick settles all that was due")
				}
			case "gap":
				w.gaps(safe(1, next), now)
			case "unknown":
				w.unknown(uint64(rapid.IntRange(0, int(w.attempts)+1).Draw(t, "attempt")))
			}
			for _, a := range w.asides {
				require.NotEmpty(t, a.reason)
				for _, seq := range a.seqs {
					leave(a.reason, []spool.Record{{Seq: seq}})
				}
			}
			w.asides = nil
			bytes, last := 0, uint64(0)
			for _, e := range w.entries {
				require.NotEmpty(t, e.records)
				require.Equal(t, payload(e.records), e.bytes)
				require.Greater(t, e.records[0].Seq, last, "the window is in order")
				last = e.records[len(e.records)-1].Seq
				bytes += e.bytes
			}
			require.Equal(t, bytes, w.bytes)
		}
		for _, seq := range w.release() {
			require.NotContains(t, out, seq)
			out[seq] = "released"
		}
		require.Len(t, out, int(next-1))
	})
}

// An acknowledgement counts once, and not after its connection was lost: the batch is to go again.
func TestAnAcknowledgementCountsOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 10))
		w.add(load(11, 20))
		attempts, _ := flow(w)
		ack(w, attempts[0])
		due := w.entries[0].resendAt
		time.Sleep(time.Second)
		ack(w, attempts[0])
		require.Equal(t, due, w.entries[0].resendAt)
		w.lostConnection(false, time.Now())
		ack(w, attempts[1])
		w.connected(false)
		_, what := flow(w)
		require.Equal(t, []string{"1+10", "11+10"}, what)
	})
}

// A batch that was published before the consumer subscribed goes again once it is acknowledged, and is counted.
func TestABatchFromBeforeTheSubscriptionGoesAgain(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 10))
		attempts, _ := flow(w)
		w.entries[0].stale = true
		ack(w, attempts[0])
		require.EqualValues(t, 1, w.resent)
		attempts, what := flow(w)
		require.Equal(t, []string{"1+10"}, what)
		ack(w, attempts[0])
		_, what = flow(w)
		require.Empty(t, what, "once")
		require.EqualValues(t, 1, w.resent)
	})
}

// The broker lost a whole window that it had acknowledged. At the first receipt the other batches are published again immediately and before any new
// one, not one batch a silence.
func TestAForgottenWindowRecoversTogether(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		for i := range uint64(4) {
			w.add(load(i*10+1, i*10+10))
		}
		attempts, _ := flow(w)
		ack(w, attempts...)
		time.Sleep(2 * time.Minute)
		require.True(t, w.tick(time.Now()).silent)
		attempts, what := flow(w)
		require.Equal(t, []string{"1+10"}, what, "the silence is tried with one")
		ack(w, attempts...)
		require.Len(t, w.receipt(safe(1, 10), time.Now()), 10)
		w.add(load(41, 50))
		_, what = flow(w)
		require.Equal(t, []string{"11+10", "21+10", "31+10", "41+10"}, what, "what is new does not pass what was lost")
	})
}

// firstOf returns the first sequence in a result of flow.
func firstOf(what string) (first int) {
	_, _ = fmt.Sscanf(what, "%d+", &first)
	return first
}

// Above the limit, classes without records in the window or isolated are forgotten, and no others.
func TestForgottenClasses(t *testing.T) {
	inBubble(t, func(*limits) {}, func(t *testing.T, w *window) {
		w.add(load(1, 1))
		used := w.entries[0].class
		w.class("refused").isolated = 1
		for i := range maxClasses {
			w.class(fmt.Sprint("c", i))
			require.LessOrEqual(t, len(w.classes), maxClasses)
		}
		kept, refused := w.classes[used], w.classes["refused"]
		require.NotNil(t, refused)
		require.Less(t, len(w.classes), 10, "the others are gone")
		w.class("new")
		require.Same(t, refused, w.class("refused"))
		if kept != nil {
			require.Same(t, kept, w.class(used))
		}
	})
}

// A window is late while nothing is acknowledged for longer than the link may take.
func TestAWindowIsLateWithoutAcknowledgements(t *testing.T) {
	now := time.Now()
	w := &window{limits: limits{batches: 4, bytes: 1 << 20}}
	require.False(t, w.late(now, 0), "nothing is on its way")
	w.add(load(1, 10))
	w.publish(w.next(time.Now()), now)
	require.False(t, w.late(now.Add(time.Second), time.Second))
	require.True(t, w.late(now.Add(time.Second+1), time.Second))
	w.alive(now.Add(time.Second))
	require.False(t, w.late(now.Add(time.Second+1), time.Second))
}
