package export

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The window reports when it must be examined next: at the earliest event it waits for.
func TestTheWindowSaysWhenToWake(t *testing.T) {
	acks := func(w *window, at ...time.Duration) {
		for n, d := range at {
			w.add(one("a", uint64(n+1), 10))
			e := w.entries[n]
			e.phase, e.ackedAt, e.resendAt = acked, time.Now(), time.Now().Add(d)
		}
	}
	for name, row := range map[string]struct {
		change func(w *window)
		want   time.Duration // 0 is never
	}{
		"nothing in progress":            {func(*window) {}, 0},
		"something to be published":      {func(w *window) { w.add(load(1, 2)) }, 0},
		"an acknowledgement":             {func(w *window) { w.add(load(1, 2)); flow(w) }, 10 * time.Second},
		"the same after two hangs":       {func(w *window) { w.add(load(1, 2)); flow(w); w.slack = 2 }, 40 * time.Second},
		"any receipt":                    {func(w *window) { acks(w, time.Hour); w.firstAck = time.Now() }, 30 * time.Second},
		"any receipt, warned":            {func(w *window) { acks(w, time.Hour); w.firstAck, w.warned = time.Now(), true }, time.Hour},
		"the earliest receipt":           {func(w *window) { acks(w, 9*time.Second, 8*time.Second, 9*time.Second) }, 8 * time.Second},
		"a repetition":                   {func(w *window) { w.repeat.asked, w.repeat.due = time.Now(), time.Now().Add(time.Second) }, time.Second},
		"a repetition that is not asked": {func(w *window) { w.repeat.due = time.Now().Add(time.Second) }, 0},
		"a trial": {func(w *window) {
			w.isolated = []*isolated{{at: time.Now().Add(5 * time.Second)}, {at: time.Now().Add(4 * time.Second)}, {at: time.Now().Add(6 * time.Second)}}
		}, 4 * time.Second},
		"a trial, not before": {func(w *window) {
			w.isolated = []*isolated{{at: time.Now().Add(4 * time.Second)}}
			w.nextTrial = time.Now().Add(7 * time.Second)
		}, 7 * time.Second},
		"a trial, after the present one": {func(w *window) {
			w.isolated = []*isolated{{at: time.Now().Add(4 * time.Second)}}
			w.trial, w.trialEnds = 9, time.Now().Add(8*time.Second)
		}, 8 * time.Second},
		"the end of a trial alone": {func(w *window) { w.trial, w.trialEnds = 9, time.Now().Add(8*time.Second) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, nil, func(t *testing.T, w *window) {
				row.change(w)
				if row.want == 0 {
					require.Zero(t, w.wake())
					return
				}
				require.Equal(t, row.want, time.Until(w.wake()))
			})
		})
	}
}

// A class is late when a receipt takes four times as long as usual, at least a second, and no other has arrived since.
func TestAClassIsLate(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *window) {
		now := time.Now()
		for name, row := range map[string]struct {
			c    class
			want time.Duration // from when on, 0 is never
		}{
			"nothing is acknowledged": {class{}, 0},
			"a second":                {class{oldest: now}, time.Second},
			"four times the usual":    {class{oldest: now, delay: 2 * time.Second}, 8 * time.Second},
			"since the latest one":    {class{oldest: now, heardAt: now.Add(3 * time.Second)}, 4 * time.Second},
			"not since an older one":  {class{oldest: now, heardAt: now.Add(-3 * time.Second)}, time.Second},
		} {
			if row.want == 0 {
				require.False(t, row.c.late(now.Add(24*time.Hour)), name)
				continue
			}
			require.False(t, row.c.late(now.Add(row.want)), name)
			require.True(t, row.c.late(now.Add(row.want+1)), name)
		}
		c := class{delay: 8 * time.Second, silent: now}
		c.receipted(&entry{phase: acked, ackedAt: now}, now)
		require.Equal(t, class{heard: true, trusted: true, receipts: 1, heardAt: now, delay: 7 * time.Second}, c)
		c.receipted(&entry{phase: waiting, ackedAt: now}, now.Add(time.Hour))
		require.Equal(t, 7*time.Second, c.delay, "the receipt is of an earlier publish")
		require.EqualValues(t, 2, c.receipts)
	})
}

// The batches that an announcement asks for, those acknowledged by then, go before new ones of their class.
func TestWhatIsOwedToAnAnnouncement(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		now := time.Now()
		for _, row := range []struct {
			asked, oldest time.Time
			want          bool
		}{{time.Time{}, now, false}, {now, time.Time{}, false}, {now, now, true}, {now, now.Add(-1), true}, {now, now.Add(1), false}} {
			w.repeat.asked = row.asked
			require.Equal(t, row.want, w.owes(&class{oldest: row.oldest}), "%+v", row)
		}
	})
}

// The pause between repetitions that announcements ask for doubles each time, up to a limit, unless there was no announcement for twice as long.
func TestRepetitionsGrowRare(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 1))
		repeated := func() time.Duration {
			e := w.entries[0]
			began := time.Now()
			e.phase, e.sentAt, e.ackedAt, e.resendAt, e.resends = acked, began, began, began.Add(24*time.Hour), 3
			w.announced(began)
			for e.phase == acked {
				require.False(t, w.repeat.asked.IsZero())
				time.Sleep(time.Until(w.wake()))
				w.tick(time.Now())
			}
			require.True(t, w.repeat.asked.IsZero())
			require.Zero(t, e.resends)
			return time.Since(began)
		}
		var pauses []time.Duration
		for range 8 {
			pauses = append(pauses, repeated()/time.Second)
		}
		require.Equal(t, []time.Duration{0, 4, 8, 16, 32, 60, 60, 60}, pauses)
		require.EqualValues(t, 8, w.resent)
		time.Sleep(2*time.Minute + 1)
		require.Zero(t, repeated())
		require.Equal(t, 4*time.Second, repeated(), "after a calm it begins anew")
	})
}

// The patience for receipts doubles with each repetition up to twenty times; that for acknowledgements with each hang up to eight times, until enough
// have arrived.
func TestPatienceIsBounded(t *testing.T) {
	inBubble(t, func(l *limits) { l.receiptTimeout = time.Second }, func(t *testing.T, w *window) {
		for resends, want := range map[int]time.Duration{0: 1, 1: 2, 4: 16, 5: 20, 10: 20, 1000: 20} {
			require.Equal(t, want*time.Second, w.patience(resends))
		}
		w.jitter = 0.5
		require.Equal(t, 1125*time.Millisecond, w.patience(0), "up to a quarter more")
		require.Equal(t, 22500*time.Millisecond, w.patience(9))
		for _, want := range []time.Duration{20, 40, 80, 80} {
			w.hung()
			require.Equal(t, want*time.Second, w.ackPatience())
		}
		for n := range calmAcks {
			require.Equal(t, 80*time.Second, w.ackPatience(), n)
			w.add(load(uint64(n+1), uint64(n+1)))
			attempts, _ := flow(w)
			ack(w, attempts...)
		}
		require.Equal(t, 10*time.Second, w.ackPatience())
	})
}

// A batch at whose head connections hang is cut the second time, down to a record, and never dropped.
func TestWhatHangsIsCut(t *testing.T) {
	inBubble(t, puback, func(t *testing.T, w *window) {
		w.add(load(1, 4))
		w.add(load(5, 6))
		var shapes []string
		for range 7 {
			_, what := flow(w)
			shapes = append(shapes, fmt.Sprint(what))
			w.hung()
			w.lostConnection(false, time.Now())
		}
		require.Equal(t, []string{
			"[1+4 5+2]", "[1+4 5+2]", "[1+2 3+2 5+2]", "[1+2 3+2 5+2]", "[1+1 2+1 3+2 5+2]", "[1+1 2+1 3+2 5+2]", "[1+1 2+1 3+2 5+2]",
		}, shapes)
		require.Equal(t, 600, w.bytes)
		require.Empty(t, w.asides)
	})
}

// One class fills three quarters of the window; a class that waits for its first receipt, is late, or has a suspect takes no more.
func TestClassesThatTakeNothingMore(t *testing.T) {
	inBubble(t, func(l *limits) { l.batches = 8 }, func(t *testing.T, w *window) {
		excluded := func() []string {
			var names []string
			for name := range w.excluded(time.Now()) {
				names = append(names, name)
			}
			slices.Sort(names)
			return names
		}
		w.class("b")
		require.Empty(t, excluded(), "also one that is new: its first batch shows")
		for seq := range uint64(5) {
			w.add(load(seq+1, seq+1))
		}
		require.Empty(t, excluded())
		w.add(load(6, 6))
		require.Equal(t, []string{"a"}, excluded())
		w.entries = w.entries[:1]
		w.class("a").trusted = false
		require.Equal(t, []string{"a"}, excluded())
		w.confirmReceipt = false
		require.Empty(t, excluded())
		w.entries[0].suspect = true
		require.Equal(t, []string{"a"}, excluded())
		w.entries[0].suspect, w.confirmReceipt, w.class("a").trusted = false, true, true
		attempts, _ := flow(w)
		ack(w, attempts...)
		time.Sleep(leastLate)
		require.Empty(t, excluded())
		time.Sleep(time.Nanosecond)
		require.Equal(t, []string{"a"}, excluded())
		w.receipt(safe(1, 1), time.Now())
		require.Empty(t, excluded())
	})
}

// All reasons why records do not leave are listed, each with its class, count and start, and logged once while they last.
func TestHoldsAreListedAndLoggedOnce(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *window) {
		x, log := idle(t, newShelf(t), nil)
		w := &x.window
		since := time.Now()
		require.Empty(t, x.held(since))
		w.largest = 400
		w.class("a").acks = 1
		w.class("mute").silent = since
		w.closings, w.closed = closingsSaid-1, since
		x.holds.set(holdSeal, "", "no key")
		x.holds.set(holdSeal, "", "still no key")
		w.isolated = []*isolated{
			{seq: 1, class: "a", reason: reasonTooLarge, message: 500, since: since},
			{seq: 2, class: "a", reason: reasonTooLarge, message: 600, since: since.Add(1)},
			{seq: 3, class: "b", reason: reasonTooLarge, message: 700, since: since},
			{seq: 4, class: "a", reason: reasonMalformed, since: since},
			{seq: 5, class: "a", reason: reasonTooLarge, limit: excess{9, 8, "the broker's limit"}, since: since},
		}
		w.remember(&isolated{seq: 6, class: "b", reason: reasonTooLarge, since: since.Add(2)})
		w.remember(&isolated{seq: 7, class: "c", reason: reasonTooLarge, since: since.Add(2)})
		w.trial = 6 // on trial, and still held
		type line struct {
			reason, class, text string
			records             int
		}
		want := []line{
			{"malformed", "a", `record 4 of class "a" cannot be sealed`, 1},
			{"oversized", "a", `record 5 of class "a" is held: 9 bytes as a message or payload exceed the broker's limit of 8 bytes`, 1},
			{"refused", "b", `on every message of class "b", and has accepted none yet`, 2},
			{"seal", "", "still no key", 0},
			{"too_large", "a", `record 1 of class "a" is held: the broker closes the connection on its message of 500 bytes, the largest it has accepted has 400`, 2},
			{"unreceipted", "mute", `class "mute" gets no receipts while others do`, 0},
		}
		compare := func(want []line) {
			t.Helper()
			list := x.held(time.Now())
			require.Len(t, list, len(want))
			for i, h := range list {
				require.Equal(t, [2]string{want[i].reason, want[i].class}, [2]string{h.Reason, h.Class})
				require.Contains(t, h.Text, want[i].text)
				require.Equal(t, want[i].records, h.Records, h.Reason)
				require.Equal(t, since, h.Since, h.Reason)
			}
		}
		compare(want)
		require.Len(t, w.isolated, 5)
		compare(want)
		require.Equal(t, 5, log.with("WARN", "export held: reason="), "the key's is logged by who finds it")
		w.closings++
		want = slices.Insert(want, 0, line{"closing", "", "closed 4 connections in a row", 0})
		compare(want)
		require.Equal(t, 6, log.with("WARN", "export held: reason="))
		x.holds.clear(holdSeal)
		w.class("mute").silent = time.Time{}
		want = slices.Delete(want, 4, 5)
		compare(want[:5])
		w.class("mute").silent = since
		want = want[:6]
		compare(want)
		require.Equal(t, 2, log.with("WARN", "export held: reason=unreceipted"), "it began anew")
	})
}

// Batches returned to the spool leave room for others, and no batch of their class that was taken meanwhile overtakes them.
func TestWhatIsGivenBackLeavesRoom(t *testing.T) {
	w := trusting(testLimits())
	w.add(load(1, 2))
	w.add(load(3, 5))
	w.giveBack(func(e *entry) bool { return e.records[0].Seq == 3 })
	require.Equal(t, 200, w.bytes)
	require.Len(t, w.entries, 1)
	require.Equal(t, []uint64{3, 4, 5}, w.given)
	require.Equal(t, map[string]bool{"a": true}, w.regiven)
}
