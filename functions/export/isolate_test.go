package export

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/batch"
	"app-offload/functions/spool"
)

// refusing is a window in which single records are refused while others pass in between.
type refusing struct {
	*window
	seq uint64 // of the latest record that passed
}

func one(class string, seq uint64, size int) *batch.Batch {
	return &batch.Batch{Class: class, Records: []spool.Record{{Seq: seq, Class: class, Payload: make([]byte, size)}}, Bytes: size}
}

// refuse publishes a record, in a message of that size, and has it isolated.
func (r *refusing) refuse(class string, seq uint64, message int, reason string, limit excess) {
	r.add(one(class, seq, message))
	e := r.entries[len(r.entries)-1]
	e.message = message
	r.isolate(e, reason, limit, time.Now())
}

// pass has another record of a class acknowledged.
func (r *refusing) pass(class string) {
	if r.seq++; r.seq < 1000 {
		r.seq = 1000
	}
	r.add(one(class, r.seq, 10))
	e := r.entries[len(r.entries)-1]
	r.puback(r.publish(e, time.Now()), 10, time.Now())
}

// An isolated record is tried again after a pause that doubles up to a limit, also if it was in the spool in between; a record above a known limit is
// tried rarely. The window reports when.
func TestTrialsOfAnIsolatedRecordGrowRare(t *testing.T) {
	for name, row := range map[string]struct {
		limit excess
		want  []time.Duration
	}{
		"refused":               {excess{}, []time.Duration{1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30, 30, 30}},
		"above a limit that is": {excess{2, 1, "somebody's limit"}, []time.Duration{600, 600, 600}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, probing, func(t *testing.T, w *window) {
				r := &refusing{window: w}
				for _, want := range row.want {
					r.refuse("a", 7, 100, reasonTooLarge, row.limit)
					require.Empty(t, w.excluded(time.Now()))
					require.Equal(t, want*time.Second, time.Until(w.wake()))
					time.Sleep(time.Until(w.wake()) - 1)
					w.tick(time.Now())
					require.Empty(t, w.given)
					time.Sleep(time.Nanosecond)
					w.tick(time.Now())
					require.Equal(t, []uint64{7}, w.given)
					require.Empty(t, w.isolated)
					w.given = nil
				}
			})
		})
	}
}

// A record is dropped after the configured number of refusals with evidence: another record of its class passed since it was first refused, the
// connection takes messages, and no other client takes over the connection. A refused smaller record of its class counts for it; another class,
// reason or limit proves nothing.
func TestRefusalsCountOnEvidence(t *testing.T) {
	for name, row := range map[string]struct {
		change func(w *window)
		pass   string
		want   bool
	}{
		"others of its class pass":             {nil, "a", true},
		"only others pass":                     {nil, "b", false},
		"the connection has taken nothing yet": {func(w *window) { w.warm = false }, "a", false},
		"another client takes it over":         {func(w *window) { w.fighting = true }, "a", false},
		"nothing is dropped by configuration":  {func(w *window) { w.refusedTries = 0 }, "a", false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, probing, func(t *testing.T, w *window) {
				r := &refusing{window: w}
				w.class("b")
				r.refuse("a", 1, 500, reasonTooLarge, excess{})
				r.refuse("a", 2, 501, reasonTooLarge, excess{})
				r.refuse("a", 3, 499, reasonTooLarge, excess{})
				r.refuse("b", 4, 900, reasonTooLarge, excess{})
				r.refuse("a", 5, 900, reasonMalformed, excess{})
				r.refuse("a", 6, 900, reasonTooLarge, excess{900, 800, "a limit"})
				w.class("a").acks, w.class("b").acks = 0, 0
				r.pass(row.pass)
				w.isolated[4].mark = 1 << 40 // a malformed record needs less evidence: its own test shows that
				if row.change != nil {
					row.change(w)
				}
				for n := range 3 {
					w.remember(w.isolated[0])
					require.EqualValues(t, 1, w.isolated[0].seq)
					w.isolated = w.isolated[1:]
					r.refuse("a", 1, 500, reasonTooLarge, excess{})
					last := len(w.isolated) - 1
					w.isolated = append([]*isolated{w.isolated[last]}, w.isolated[:last]...)
					w.nextTrial = time.Now().Add(time.Hour)
					w.try(time.Now())
					require.Equal(t, row.want && n == 2, len(w.asides) > 0, "after %d refusals more", n+1)
				}
				if !row.want {
					return
				}
				var given []uint64
				for _, a := range w.asides {
					require.Equal(t, reasonTooLarge, a.reason)
					require.Equal(t, "a", a.class)
					given = append(given, a.seqs...)
				}
				require.Equal(t, []uint64{1, 2}, given, "and what is no smaller")
				require.Contains(t, w.asides[0].detail, "closed the connection on it 4 times")
				require.Contains(t, w.asides[0].detail, "its message has 500 bytes, the largest that passed 10:")
				require.Equal(t, 500, w.asides[0].bytes)
				require.Len(t, w.isolated, 4)
				require.Empty(t, w.given)
			})
		})
	}
}

// The number of isolated records is limited for each class and in total: above it the class, or every class, stays in the spool.
func TestIsolationIsBounded(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		r := &refusing{window: w}
		w.class("b")
		for seq := range uint64(maxRefused - 1) {
			r.refuse("a", seq+1, 100, reasonTooLarge, excess{})
		}
		require.Empty(t, w.excluded(time.Now()))
		r.refuse("a", maxRefused, 100, reasonTooLarge, excess{})
		require.Equal(t, map[string]bool{"a": true}, w.excluded(time.Now()))
		time.Sleep(trialPause)
		w.tick(time.Now())
		require.Len(t, w.given, 1)
		require.Empty(t, w.excluded(time.Now()), "one of them is with the spool")
		r.refuse("a", w.given[0], 100, reasonTooLarge, excess{})
		require.Len(t, w.excluded(time.Now()), 1)

		w.given = nil // the spool has it
		require.Len(t, w.release(), maxRefused)
		require.Empty(t, w.isolated)
		require.Empty(t, w.excluded(time.Now()))
		require.True(t, w.recall(3))
		require.False(t, w.recall(maxRefused+1))

		for n := range maxIsolated / 16 {
			for class := range 16 {
				w.isolated = append(w.isolated, &isolated{class: string(rune('c' + class)), seq: uint64(n)})
			}
		}
		require.Len(t, w.excluded(time.Now()), len(w.classes), "all of them")
		w.isolated = w.isolated[1:]
		require.Empty(t, w.excluded(time.Now()))
	})
}

// The number of remembered records is limited.
func TestRememberedRecordsAreBounded(t *testing.T) {
	w := trusting(testLimits())
	for seq := range uint64(3*maxIsolated + 5) {
		w.remember(&isolated{seq: seq})
		require.LessOrEqual(t, len(w.remembered), maxIsolated)
		require.True(t, w.recall(seq))
	}
	require.False(t, w.recall(0))
}

// A size that the broker refused on a working connection limits the batches, until a larger one passes or an hour is over.
func TestTheCeilingIsLifted(t *testing.T) {
	for name, row := range map[string]struct {
		wait    time.Duration
		size    int
		ceiling int
	}{
		"by a larger batch":          {0, 101, 0},
		"not by one that fits":       {0, 100, 100},
		"nor by some time":           {ceilingTime, 1, 100},
		"by time":                    {ceilingTime + 1, 1, 0},
		"by a large one and by time": {ceilingTime + 1, 300, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, probing, func(t *testing.T, w *window) {
				w.ceiling, w.learned = 100, time.Now()
				time.Sleep(row.wait)
				w.add(one("a", 1, row.size))
				attempts, _ := flow(w)
				ack(w, attempts...)
				require.Equal(t, row.ceiling, w.ceiling)
				require.Equal(t, row.size, w.passed)
			})
		})
	}
	inBubble(t, probing, func(t *testing.T, w *window) {
		for _, row := range []struct {
			warm         bool
			passed, want int
		}{{false, 0, 0}, {true, 10, 500}, {true, 700, 700}, {true, 0, 500}} {
			w.entries, w.ceiling, w.passed, w.warm = nil, 0, row.passed, row.warm
			w.add(load(1, 10))
			w.refuse(w.entries[0], time.Now())
			require.Equal(t, row.want, w.ceiling)
			require.Len(t, w.entries, 2, "it is cut")
		}
	})
}

// The first refusal of a record that travels alone may be an ordinary closing; the second one counts. A trial ends at the first.
func TestARecordIsIsolatedAtTheSecondRefusal(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		w.add(one("a", 1, 10))
		w.refuse(w.entries[0], time.Now())
		require.Empty(t, w.isolated)
		w.refuse(w.entries[0], time.Now())
		require.Len(t, w.isolated, 1)
		require.Empty(t, w.entries)
		require.Zero(t, w.bytes)
		time.Sleep(trialPause)
		w.tick(time.Now())
		require.EqualValues(t, 1, w.trial)
		w.add(one("a", 1, 10))
		require.True(t, w.entries[0].suspect, "it is known")
		w.refuse(w.entries[0], time.Now())
		require.Len(t, w.isolated, 1)
		require.Zero(t, w.trial)
	})
}

// A refusal of several records counts for none of them alone: each half of a batch is refused on its own account.
func TestARefusalOfABatchIsOfNoRecord(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		w.add(load(1, 2))
		w.refuse(w.entries[0], time.Now())
		require.Len(t, w.entries, 2, "it is cut")
		for i := range w.entries {
			w.refuse(w.entries[i], time.Now())
			require.Empty(t, w.isolated)
		}
		w.refuse(w.entries[0], time.Now())
		require.Len(t, w.isolated, 1)
	})
}

// A trial that passes lets the other records of its class be tried immediately, since their reason may be over, but neither those of other classes
// nor those above a known limit.
func TestATrialThatPassesHastensItsClass(t *testing.T) {
	inBubble(t, probing, func(t *testing.T, w *window) {
		later := time.Now().Add(time.Hour)
		w.isolated = []*isolated{{seq: 1, class: "a", at: later}, {seq: 2, class: "b", at: later}, {seq: 3, class: "a", at: later, limit: excess{2, 1, "a limit"}}}
		w.trial, w.nextTrial = 9, later
		w.tried(&entry{class: "a", records: load(8, 8).Records}, time.Now())
		require.EqualValues(t, 9, w.trial, "of another record")
		w.tried(&entry{class: "a", records: load(8, 9).Records}, time.Now())
		require.Zero(t, w.trial)
		require.Equal(t, time.Now(), w.nextTrial)
		require.Equal(t, []time.Time{time.Now(), later, later}, []time.Time{w.isolated[0].at, w.isolated[1].at, w.isolated[2].at})
	})
}

// A suspect that the broker takes is cleared, even before its receipt.
func TestASuspectThatPassesIsNoneAnyMore(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.warm = true
		w.add(load(1, 1))
		w.entries[0].suspect, w.entries[0].refusals = true, 1
		require.Len(t, w.excluded(time.Now()), 1)
		attempts, _ := flow(w)
		require.True(t, w.suspected())
		ack(w, attempts...)
		require.False(t, w.suspected())
		require.Empty(t, w.excluded(time.Now()))
		require.Zero(t, w.entries[0].refusals)
	})
}

// An empty message precedes a suspect on an untested connection, one at a time, alone, and at most twice.
func TestProbesGoBeforeSuspects(t *testing.T) {
	for name, row := range map[string]struct {
		change func(w *window)
		want   bool
	}{
		"a suspect waits":                  {func(*window) {}, true},
		"it is no suspect":                 {func(w *window) { w.entries[0].suspect = false }, false},
		"it does not wait":                 {func(w *window) { w.entries[0].phase = acked }, false},
		"nothing is in the window":         {func(w *window) { w.entries = nil }, false},
		"the connection takes messages":    {func(w *window) { w.warm = true }, false},
		"a probe is on its way":            {func(w *window) { w.probing = true }, false},
		"something else is on its way":     {func(w *window) { w.entries[1].phase = sent }, false},
		"one probe was lost":               {func(w *window) { w.lost = 1 }, true},
		"two were lost, so it proves less": {func(w *window) { w.lost = 2 }, false},
	} {
		inBubble(t, probing, func(t *testing.T, w *window) {
			w.add(load(1, 1))
			w.add(load(2, 2))
			w.entries[0].suspect = true
			row.change(w)
			before := w.probing
			require.Equal(t, row.want, w.probe(), name)
			require.Equal(t, row.want || before, w.probing, name)
			require.False(t, w.probe(), "%s: one at a time", name)
		})
	}
}
