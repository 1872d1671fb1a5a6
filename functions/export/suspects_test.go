package export

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/batch"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// theSpool returns released records again, as the spool does.
type theSpool struct {
	w    *window
	held map[uint64]spool.Record
	back []uint64
}

func newSpool(w *window) *theSpool { return &theSpool{w: w, held: map[uint64]spool.Record{}} }

func (s *theSpool) load(b *batch.Batch) {
	for _, r := range b.Records {
		s.held[r.Seq] = r
	}
	s.w.add(b)
}

func (s *theSpool) again() {
	s.back = append(s.back, s.w.given...)
	s.w.given = nil
	slices.Sort(s.back)
	b := &batch.Batch{Class: "a"}
	for len(s.back) > 0 && len(b.Records) < 10 {
		b.Records = append(b.Records, s.held[s.back[0]])
		s.back = s.back[1:]
	}
	s.w.add(b)
}

// closing is a broker that closes the connection on messages that contain certain records, or on all.
type closing struct {
	poison  map[uint64]bool
	all     bool
	refused int // connections
}

// serve publishes on one connection until the broker closes it or no batch is left, and returns the confirmed sequences.
func (c *closing) serve(w *window) (done []uint64) {
	w.connected(true)
	for {
		e := w.next(time.Now())
		if e == nil && w.probe() {
			if c.all {
				break
			}
			w.probed()
			e = w.next(time.Now())
		}
		if e == nil {
			return done
		}
		a := w.publish(e, time.Now())
		w.sized(a, e.bytes)
		if c.all || slices.ContainsFunc(e.records, func(r spool.Record) bool { return c.poison[r.Seq] }) {
			break
		}
		done = append(done, ack(w, a)...)
	}
	c.refused++
	for e := w.next(time.Now()); e != nil; e = w.next(time.Now()) { // entries behind it
		w.publish(e, time.Now())
	}
	w.lostConnection(true, time.Now())
	return done
}

func probing(l *limits) { l.confirmReceipt, l.batches = false, 100 }

func TestABatchTheBrokerRefusesIsCutUntilTheCulpritIsFound(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		s, b := newSpool(w), &closing{poison: map[uint64]bool{13: true}}
		for i := range uint64(4) {
			s.load(load(i*10+1, i*10+10))
		}
		var done []uint64
		for len(w.isolated) == 0 {
			done = append(done, b.serve(w)...)
			s.again()
			require.Less(t, b.refused, 15)
		}
		isolatedAt := time.Now()
		require.EqualValues(t, 13, w.isolated[0].seq)
		for range 5 {
			done = append(done, b.serve(w)...)
			s.again()
		}
		require.Len(t, done, 39, "all others pass without any wait")
		require.IsIncreasing(t, done, "order holds all the while")
		require.Equal(t, 1000, w.passed)
		require.Empty(t, w.asides, "there is no evidence yet")

		// Other records pass between its refusals, so in the end it is dropped.
		seq := uint64(1000)
		for began := time.Now(); len(w.asides) == 0 && time.Since(began) < time.Hour; seq++ {
			time.Sleep(time.Until(w.wake()))
			w.tick(time.Now())
			s.again()
			b.serve(w)
		}
		require.Len(t, w.asides, 1)
		require.Equal(t, []uint64{13}, w.asides[0].seqs)
		require.Equal(t, reasonTooLarge, w.asides[0].reason)
		require.LessOrEqual(t, b.refused, 15)
		require.Equal(t, 7*trialPause, time.Since(isolatedAt), "its third trial decides, and nothing waits for a fourth")
	})
}

// A broker, a balancer or an access rule that closes on every message of a class proves nothing about a record.
func TestNothingIsGivenUpWhereNothingPasses(t *testing.T) {
	for name, tc := range map[string]struct {
		all bool
	}{"the broker closes on every message": {true}, "empty messages pass": {false}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, probing, func(t *testing.T, w *window) {
				s, b := newSpool(w), &closing{all: tc.all, poison: map[uint64]bool{}}
				for seq := range uint64(20) {
					b.poison[seq+1] = true
				}
				s.load(load(1, 10))
				s.load(load(11, 20))
				for range 24 * 3600 {
					require.Empty(t, b.serve(w))
					time.Sleep(time.Second)
					w.tick(time.Now())
					require.Empty(t, w.asides)
					s.again()
				}
				b.all, b.poison = false, nil
				var done []uint64
				for range 600 {
					done = append(done, b.serve(w)...)
					time.Sleep(time.Second)
					w.tick(time.Now())
					s.again()
				}
				slices.Sort(done)
				require.Len(t, slices.Compact(done), 20, "and all of it passes once the broker takes it")
				require.Empty(t, w.asides)
			})
		})
	}
}

// A trial ends when its record passes, also if a refusal of another class has cleared the suspicion meanwhile, and if a receipt arrives without an
// acknowledgement: the next record is tried immediately.
func TestATrialThatPassesMakesRoomForTheNext(t *testing.T) {
	for name, pass := range map[string]func(w *window, b *closing){
		"acknowledged": func(w *window, b *closing) {
			other := load(5, 5)
			other.Class = "b"
			w.add(other)
			e := w.entries[len(w.entries)-1]
			e.suspect = true
			w.refuse(e, time.Now())
			w.refuse(e, time.Now())
			require.Equal(t, []uint64{1}, b.serve(w))
		},
		"receipted": func(w *window, _ *closing) { w.receipt(safe(1, 1), time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, probing, func(t *testing.T, w *window) {
				s, b := newSpool(w), &closing{}
				for seq := range uint64(2) {
					s.load(load(seq+1, seq+1))
					w.isolate(w.entries[0], reasonTooLarge, excess{}, time.Now())
				}
				time.Sleep(time.Minute)
				w.tick(time.Now())
				s.again()
				require.Equal(t, uint64(1), w.trial)
				pass(w, b)
				require.Zero(t, w.trial)
				time.Sleep(time.Second)
				w.tick(time.Now())
				require.Equal(t, uint64(2), w.trial)
			})
		})
	}
}

// While one record is tried, the others wait and are not examined; a trial that the spool does not hand out is abandoned.
func TestOneTrialAtATime(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		for seq := range uint64(2) {
			w.isolated = append(w.isolated, &isolated{seq: seq + 1, class: "a", at: time.Now(), since: time.Now()})
			w.class("a").isolated++
		}
		w.tick(time.Now())
		require.Equal(t, []uint64{1}, w.given)
		require.EqualValues(t, 1, w.trial)
		require.Equal(t, time.Now().Add(trialTime), w.wake())
		w.tick(time.Now())
		require.Equal(t, []uint64{1}, w.given)
		time.Sleep(trialTime + 1)
		w.tick(time.Now())
		require.Equal(t, []uint64{1, 2}, w.given)
		require.Zero(t, w.wake(), "there is nothing left to try")
	})
}

// Other classes continue while one is held, and it takes no more of the window than a batch.
func TestAClassThatIsRefusedHoldsUpNoOther(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		w.batches = 8
		s, b := newSpool(w), &closing{poison: map[uint64]bool{}}
		for i := range uint64(4) {
			s.load(load(i*10+1, i*10+10))
			for seq := i*10 + 1; seq <= i*10+10; seq++ {
				b.poison[seq] = true
			}
		}
		for seq := range uint64(100) {
			if !w.excluded(time.Now())["a"] {
				s.again()
			}
			require.True(t, len(w.entries) < 8 || seq < 3, "the rest of its class is with the spool again")
			other := load(1000+seq, 1000+seq)
			other.Class = "b"
			w.add(other)
			var done []uint64
			for range 6 {
				done = append(done, b.serve(w)...)
			}
			require.Equal(t, []uint64{1000 + seq}, done)
		}
		require.Empty(t, w.asides)
	})
}

func TestRecordsAboveAKnownLimitAreHeldOrDroppedAsConfigured(t *testing.T) {
	for _, drop := range []bool{false, true} {
		inBubble(t, func(l *limits) { l.dropOversized = drop }, func(t *testing.T, w *window) {
			limit := excess{20 << 20, 16 << 20, "the consumer's limit"}
			w.add(load(1, 2))
			attempts, _ := flow(w)
			w.unsealable(attempts[0], reasonTooLarge, limit, time.Now())
			attempts, what := flow(w)
			require.Equal(t, []string{"1+1", "2+1"}, what)
			w.unsealable(attempts[0], reasonTooLarge, limit, time.Now())
			w.tick(time.Now())
			require.Equal(t, drop, len(w.asides) == 1)
			require.Contains(t, limit.String(), "20971520")
			require.Contains(t, limit.String(), "exceed the consumer's limit of 16777216 bytes")
			require.Empty(t, w.given)
			time.Sleep(2 * time.Second)
			w.limitsChanged(time.Now())
			w.tick(time.Now())
			require.Equal(t, !drop, len(w.given) == 1, "a limit that was raised lets it go at once")
		})
	}
}

// A record that cannot be sealed is dropped only if another record of its class could be sealed.
func TestAMalformedRecordIsGivenUpOnlyOnEvidence(t *testing.T) {
	inBubble(t, puback, func(t *testing.T, w *window) {
		w.warm = true
		w.add(load(1, 1))
		attempts, _ := flow(w)
		w.unsealable(attempts[0], reasonMalformed, excess{}, time.Now())
		for range 100 {
			time.Sleep(time.Minute)
			w.tick(time.Now())
			for len(w.given) > 0 {
				w.given = nil
				w.add(load(1, 1))
				attempts, _ = flow(w)
				w.unsealable(attempts[0], reasonMalformed, excess{}, time.Now())
			}
		}
		require.Empty(t, w.asides)
		w.add(load(2, 2))
		attempts, _ = flow(w)
		ack(w, attempts...)
		time.Sleep(time.Minute)
		w.tick(time.Now())
		require.Len(t, w.asides, 1)
		require.Equal(t, reasonMalformed, w.asides[0].reason)
	})
}

// A class that the consumer may not read keeps one batch in flight; the other classes have the window.
func TestAClassWithoutReceiptsHoldsUpNoOther(t *testing.T) {
	inBubble(t, func(l *limits) { l.batches = 16 }, func(t *testing.T, w *window) {
		batchOf := func(class string, seq uint64) *batch.Batch {
			b := load(seq, seq)
			b.Class = class
			return b
		}
		seq, passed := uint64(1), 0
		began := time.Now()
		for time.Since(began) < time.Hour {
			out := w.excluded(time.Now())
			for _, class := range []string{"denied", "other"} {
				if !out[class] && w.room(w.unacked(), 1<<20) {
					w.add(batchOf(class, seq))
					seq++
				}
			}
			attempts, _ := flow(w)
			ack(w, attempts...)
			time.Sleep(time.Second)
			for _, e := range slices.Clone(w.entries) {
				if e.class == "other" && e.phase == acked {
					passed += len(w.receipt(safe(e.records[0].Seq, e.records[0].Seq), time.Now()))
				}
			}
			w.tick(time.Now())
			require.Empty(t, w.asides, "its records are kept")
		}
		require.Greater(t, passed, 3500)
		w.look()
		require.Equal(t, 1, w.class("denied").count)
		require.False(t, w.class("denied").silent.IsZero(), "and it is named")
		require.Less(t, w.resent, int64(100), "it is tried about once a minute")

		// The rule is fixed: the class flows at the next try.
		time.Sleep(2 * time.Minute)
		w.tick(time.Now())
		attempts, _ := flow(w)
		ack(w, attempts...)
		w.receipt(safe(0, seq), time.Now())
		require.True(t, w.class("denied").silent.IsZero())
		require.False(t, w.excluded(time.Now())["denied"])
	})
}

// Before the first receipt only one batch of a class is in flight, so that a batch that the broker discarded for lack of a subscription is repeated
// before any newer one.
func TestOrderHoldsWhenTheConsumerSubscribesLate(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.class("a").heard, w.class("a").trusted = false, false
		for i := range uint64(4) {
			w.add(load(i*10+1, i*10+10))
		}
		attempts, what := flow(w)
		require.Equal(t, []string{"1+10"}, what)
		ack(w, attempts...) // and forgotten
		time.Sleep(3 * time.Second)
		_, what = flow(w)
		require.Empty(t, what)
		w.announced(time.Now())
		attempts, what = flow(w)
		require.Equal(t, []string{"1+10"}, what, "at once")
		ack(w, attempts...)
		w.receipt(safe(1, 10), time.Now())
		_, what = flow(w)
		require.Equal(t, []string{"11+10", "21+10", "31+10"}, what)
	})
}

// The consumer restarts: batches acknowledged meanwhile are repeated in order, before any newer one.
func TestOrderHoldsWhenTheConsumerIsRestarted(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		for i := range uint64(3) {
			w.add(load(i*10+1, i*10+10))
		}
		attempts, _ := flow(w)
		ack(w, attempts[:2]...)
		time.Sleep(1500 * time.Millisecond)
		w.add(load(31, 40))
		_, what := flow(w)
		require.Empty(t, what, "receipts are late, so what is new waits")
		w.announced(time.Now())
		repeated, what := flow(w)
		require.Equal(t, []string{"1+10", "11+10", "31+10"}, what)
		ack(w, attempts[2])
		_, what = flow(w)
		require.Equal(t, []string{"21+10"}, what, "what was on its way goes again as well")
		ack(w, repeated...)
	})
}

// The repetition that an announcement asks for may have to wait, since the latest one was recent. A receipt that arrives meanwhile lets no new batch
// overtake those the consumer does not have.
func TestWhatIsOwedToAnAnnouncementIsNotPassed(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.announced(time.Now()) // the next repetition is due in some seconds
		for i := range uint64(3) {
			w.add(load(i*10+1, i*10+10))
		}
		attempts, _ := flow(w)
		ack(w, attempts...)
		time.Sleep(500 * time.Millisecond)
		w.announced(time.Now())
		require.Len(t, w.receipt(safe(1, 10), time.Now()), 10)
		require.True(t, w.excluded(time.Now())[load(1, 1).Class], "nothing new is taken")
		w.add(load(31, 40))
		_, what := flow(w)
		require.Empty(t, what, "what is new waits for the repetition")
		time.Sleep(5 * time.Second)
		w.tick(time.Now())
		_, what = flow(w)
		require.Equal(t, []string{"11+10", "21+10", "31+10"}, what)
	})
}

// A flood of announcements causes at most one repetition a minute.
func TestAnnouncementsAreRateLimited(t *testing.T) {
	inBubble(t, func(l *limits) { l.receiptTimeout = 24 * time.Hour }, func(t *testing.T, w *window) {
		w.add(load(1, 10))
		published := 0
		for range 36_000 {
			attempts, what := flow(w)
			published += len(what)
			ack(w, attempts...)
			time.Sleep(100 * time.Millisecond)
			w.announced(time.Now())
			w.tick(time.Now())
		}
		require.LessOrEqual(t, published, 70)
		require.GreaterOrEqual(t, published, 55)
	})
}

func TestABrokerWithALimitTeachesTheSize(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		other := load(1000, 1000)
		other.Class = "b"
		w.class("b").trusted = true
		w.add(other)
		attempts, _ := flow(w)
		ack(w, attempts...)
		w.add(load(1, 16))
		require.Equal(t, []string{"1+16"}, strike(w))
		require.Equal(t, []string{"1+16"}, strike(w), "once is no proof")
		w.warm = true
		require.Equal(t, []string{"1+16"}, strike(w))
		require.Equal(t, 800, w.ceiling)
		w.warm = true
		require.Equal(t, []string{"1+8"}, strike(w), "halves travel alone")
		require.Equal(t, 400, w.ceiling)
		w.warm = true
		attempts, what := flow(w)
		require.Equal(t, []string{"1+4"}, what)
		ack(w, attempts...)
		attempts, what = flow(w)
		require.Equal(t, []string{"5+4"}, what)
		ack(w, attempts...)
		require.Equal(t, 400, w.ceiling)
		w.receipt(safe(1, 8), time.Now())
		time.Sleep(2 * time.Hour)
		w.add(load(41, 41))
		attempts, _ = flow(w)
		ack(w, attempts...)
		require.Zero(t, w.ceiling, "a broker's limit may be raised")
	})
}

// Only consecutive closings count: a batch acknowledged between two of them shows that neither was caused by the batches in flight.
func TestAnAcknowledgementBetweenTwoClosingsClearsBoth(t *testing.T) {
	for _, between := range []bool{false, true} {
		inBubble(t, puback, func(t *testing.T, w *window) {
			w.add(load(1, 1))
			flow(w)
			w.lostConnection(true, time.Now())
			w.connected(true)
			if between {
				attempts, what := flow(w)
				require.Equal(t, []string{"1+1"}, what)
				ack(w, attempts...)
				w.add(load(2, 2))
			}
			flow(w)
			w.lostConnection(true, time.Now())
			require.Len(t, w.entries, 1)
			require.Equal(t, !between, w.entries[0].suspect)
		})
	}
}

// A receipt proves that the broker took the batch, and may arrive before the broker's own acknowledgement.
func TestAReceiptCountsAsTakenByTheBroker(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 2))
		attempts, _ := flow(w)
		w.sized(attempts[0], 700)
		require.Len(t, w.receipt([]seal.Range{{First: 1, Last: 2}}, time.Now()), 2)
		require.EqualValues(t, 1, w.class("a").acks)
		require.True(t, w.warm)
		require.Equal(t, 700, w.largest)
		require.Empty(t, w.puback(attempts[0], 700, time.Now()))
		require.EqualValues(t, 1, w.class("a").acks)
	})
}

// The next trial waits for the earliest isolated record, for the pause after the last trial, and for the end of the current one.
func TestWhenTheNextTrialIsDue(t *testing.T) {
	now := time.Unix(1000, 0)
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	for _, c := range []struct{ records, next, trial, ends, want int }{
		{10, 0, 0, 0, 10},
		{10, 20, 0, 0, 20},
		{10, 0, 0, 20, 10}, // that one has ended
		{10, 0, 1, 20, 20},
		{10, 0, 1, 5, 10},
		{10, 20, 1, 15, 20},
	} {
		inBubble(t, nil, func(t *testing.T, w *window) {
			w.isolated = []*isolated{{class: "a", at: at(c.records + 1)}, {class: "a", at: at(c.records)}}
			w.nextTrial, w.trial, w.trialEnds = at(c.next), uint64(c.trial), at(c.ends)
			require.Equal(t, at(c.want), w.wakeTrial(), "%+v", c)
		})
	}
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.nextTrial, w.trial, w.trialEnds = at(20), 1, at(20)
		require.Zero(t, w.wakeTrial(), "nothing is isolated")
	})
}
