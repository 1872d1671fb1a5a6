package export

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
)

// Connections closed by the other side are counted from the first one on until a batch passes, and a hold has the time of the first. Connections that
// end otherwise, or with nothing in flight, do not count.
func TestClosingsAreCountedFromTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := trusting(testLimits())
		w.add(load(1, 2))
		w.lostConnection(true, time.Now())
		require.Zero(t, w.closings, "nothing was on its way")
		flow(w)
		w.lostConnection(false, time.Now())
		require.Zero(t, w.closings, "a link that broke")
		first := time.Now()
		for n := range 3 {
			w.connected(true)
			flow(w)
			if w.probe() {
				require.True(t, w.suspected())
			}
			w.lostConnection(true, time.Now())
			require.Equal(t, n+1, w.closings)
			require.Equal(t, first, w.closed)
			time.Sleep(time.Second)
		}
		w.probed()
		require.Zero(t, w.closings)
	})
}

// A suspect is in flight once it is published; before that only its probe is.
func TestWhenASuspectIsOnItsWay(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 1))
		require.False(t, w.suspected())
		w.entries[0].suspect = true
		require.False(t, w.suspected(), "it waits")
		require.True(t, w.probe())
		require.True(t, w.suspected(), "the probe goes")
		w.probed()
		require.False(t, w.suspected())
		flow(w)
		require.True(t, w.suspected())
		w.entries[0].suspect = false
		require.False(t, w.suspected(), "one of good repute is not")
	})
}

// A published batch counts as published on each later connection, and is published again if the broker lost it.
func TestWhatWasPublishedIsKnownOnLaterConnections(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 1))
		w.add(load(2, 2))
		first := w.next(time.Now())
		w.publish(first, time.Now())
		for range 2 {
			w.connected(true)
			require.True(t, first.again)
			require.False(t, w.entries[1].again, "it never went")
			require.Equal(t, sent, first.phase)
		}
		w.connected(false)
		require.Equal(t, waiting, first.phase)
	})
}

// There is a pause between the end of a trial and the next one, however many records wait to be tried.
func TestTrialsKeepTheirDistance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := refusing{window: trusting(testLimits())}
		r.refuse("a", 1, 100, reasonTooLarge, excess{})
		time.Sleep(time.Hour)
		r.refuse("a", 2, 50, reasonTooLarge, excess{})
		for _, s := range r.isolated {
			s.at = time.Now() // both are due
		}
		r.try(time.Now())
		require.Empty(t, r.given, "one was refused at this moment")
		time.Sleep(trialPause)
		r.try(time.Now())
		require.Equal(t, []uint64{2}, r.given, "the smaller one first")
		time.Sleep(trialTime)
		r.try(time.Now())
		require.Len(t, r.given, 1, "it has all of its time")
		time.Sleep(time.Nanosecond)
		r.try(time.Now())
		require.Equal(t, []uint64{2, 1}, r.given, "then another one is")
	})
}

// A hold is identified by reason and class: it keeps its start while its text changes, and all holds of a reason end together.
func TestHoldsAreOfAReasonAndAClass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h holds
		begin := time.Now()
		h.set("seal", "a", "one")
		time.Sleep(time.Second)
		h.set("seal", "b", "two")
		h.set("epoch", "a", "three")
		h.set("seal", "a", "four")
		require.Equal(t, []Hold{
			{Reason: "seal", Class: "a", Since: begin, Text: "four"},
			{Reason: "seal", Class: "b", Since: begin.Add(time.Second), Text: "two"},
			{Reason: "epoch", Class: "a", Since: begin.Add(time.Second), Text: "three"},
		}, h.list)
		h.clear("seal")
		require.Len(t, h.list, 1)
		require.Equal(t, -1, h.find("seal", "a"))
		require.Equal(t, 0, h.find("epoch", "a"))
	})
}

// The reason why sealing fails decides: a message above a limit or a malformed record is isolated; without a key, publishing pauses and the batch is
// published again.
func TestWhatCannotBeSealed(t *testing.T) {
	for name, row := range map[string]struct {
		err      error
		isolated string
		counted  string
	}{
		"too large":   {&seal.TooLargeError{Size: 9, Limit: 5, Whose: "Seal.MaxMessageKiB"}, reasonTooLarge, "too_large"},
		"malformed":   {&seal.MalformedError{}, reasonMalformed, "malformed"},
		"without key": {errors.New("no key"), "", ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			x, log := idle(t, newShelf(t), nil)
			r := &round{x: x}
			x.window.add(load(1, 1))
			attempt := x.window.publish(x.window.entries[0], time.Now())
			flow := x.flow
			j := x.job(x.window.entries[0], attempt)
			r.unsealed(job{}, row.err)
			require.Equal(t, flow+1, x.flow)
			require.Equal(t, sent, x.window.entries[0].phase, "what is no batch concerns no record")
			r.unsealed(j, row.err)
			if row.isolated == "" {
				require.Equal(t, waiting, x.window.entries[0].phase)
				require.Equal(t, time.Now().Add(sealRetry), x.hold)
				require.Equal(t, 0, x.holds.find(holdSeal, ""))
				require.Positive(t, log.with("no key"))
				require.True(t, x.finished(), "a stop does not wait for a key")
				time.Sleep(sealRetry)
				require.False(t, x.finished(), "the key may be there now")
				r.sealed(j)
				require.Empty(t, x.holds.list)
				return
			}
			require.Empty(t, x.window.entries, name)
			require.Equal(t, row.isolated, x.window.isolated[0].reason)
			require.EqualValues(t, 1, x.Stats().Errors[row.counted])
			require.Zero(t, x.hold)
		})
	}
}

// Statements go before letters, letters before batches, each once and in order, and no more than the writer takes.
func TestWhatGoesFirst(t *testing.T) {
	x, _ := idle(t, newShelf(t), nil)
	letter := func(topic string) job { return job{topic: topic} }
	x.statements = []job{letter("s1"), letter("s2")}
	x.letters = []job{letter("l1"), letter("l2"), letter("l3")}
	x.window.add(load(1, 1))
	r := &round{x: x, jobs: make(chan job, 3), want: make(chan struct{}, 1), asked: true, began: time.Now()}
	var got []string
	for range 4 {
		r.pump()
		for len(r.jobs) > 0 {
			j := <-r.jobs
			got = append(got, j.topic)
		}
	}
	require.Equal(t, []string{"s1", "s2", "l1", "l2", "l3", x.topic("a")}, got)
	require.Empty(t, x.statements)
	require.Empty(t, x.letters)
	x.hold = time.Now().Add(time.Hour)
	x.letters = []job{letter("l4")}
	r.pump()
	require.Empty(t, r.jobs, "while there is no key everything rests")
}

// A tick processes all events that have arrived until then.
func TestATickBooksWhatHasCome(t *testing.T) {
	x, _ := idle(t, newShelf(t), func(c *Config, _ *Deps) { c.ProbeEvery = "0s" })
	r := &round{x: x, jobs: make(chan job, 3), began: time.Now(), probed: time.Now()}
	n := 0
	for range 3 {
		x.events <- func() { n++ }
	}
	r.tick(t.Context(), time.Now())
	require.Equal(t, 3, n)
	x.events <- func() { n++ }
	r.tick(t.Context(), time.Now())
	require.Equal(t, 4, n)
}

// The loop sleeps until something is due: a probe, the end of a hold, another try of a rotation, or the end of patience with a broker.
func TestTheLoopSleepsUntilSomethingIsDue(t *testing.T) {
	for name, c := range map[string]struct {
		probe  string
		change func(r *round, now time.Time)
		want   time.Duration
	}{
		"nothing":             {"0s", func(*round, time.Time) {}, time.Minute},
		"nothing in flight":   {"0s", func(r *round, now time.Time) { r.began = now.Add(-time.Hour) }, time.Minute},
		"a probe":             {"10s", func(r *round, now time.Time) { r.probed = now.Add(-4 * time.Second) }, 6 * time.Second},
		"a probe, at once":    {"10s", func(r *round, now time.Time) { r.probed = now.Add(-time.Minute) }, 0},
		"a hold":              {"0s", func(r *round, now time.Time) { r.x.hold = now.Add(2 * time.Second) }, 2 * time.Second},
		"a hold that is over": {"0s", func(r *round, now time.Time) { r.x.hold = now.Add(-time.Second) }, time.Minute},
		"a rotation":          {"0s", func(r *round, now time.Time) { r.retry = now.Add(3 * time.Second) }, 3 * time.Second},
		"an acknowledgement": {"0s", func(r *round, now time.Time) {
			r.open.Store(1)
			r.began = now.Add(-r.x.window.ackPatience() + time.Second)
		}, time.Second},
		"no patience left": {"0s", func(r *round, now time.Time) {
			r.open.Store(1)
			r.began = now.Add(-time.Hour)
		}, 0},
	} {
		x, _ := idle(t, newShelf(t), func(cfg *Config, _ *Deps) { cfg.ProbeEvery = c.probe })
		now := time.Now()
		r := &round{x: x, s: &mqtt.Session{}, began: now, probed: now}
		c.change(r, now)
		require.Equal(t, c.want, r.pause(now), name)
		require.Equal(t, name == "no patience left", r.stuck(now), name)
	}
	x, _ := idle(t, newShelf(t), func(cfg *Config, _ *Deps) { cfg.ProbeEvery = "0s" })
	now := time.Now()
	r := &round{x: x, s: &mqtt.Session{}, began: now}
	x.link.Known(20e3, 0.04, now)
	x.link.Start(x.link.Open(), 20_000, 10_000, now)
	room := r.pause(now)
	require.Equal(t, x.times.ahead.Until(x.link, now), room, "until a message has left enough room")
	require.Less(t, room, time.Second)
	r.asked = true
	require.Equal(t, time.Minute, r.pause(now), "it is used by a batch that the scheduler has still to hand out")
}

// No further batch of a class is taken while one of its records is a suspect.
func TestTheClassOfASuspectIsExcluded(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, w *window) {
		w.add(load(1, 1))
		require.False(t, w.excluded(time.Now())[w.entries[0].class])
		w.entries[0].suspect = true
		require.True(t, w.excluded(time.Now())[w.entries[0].class])
	})
}

// The state of a class is kept while any of its records is in the window or isolated, however many classes there are.
func TestWhatIsKnownOfAClassIsKept(t *testing.T) {
	w := trusting(testLimits())
	w.add(load(1, 1))
	flown, isolated := w.class(w.entries[0].class), w.class("isolated")
	flown.isolated, isolated.isolated = 1, 1
	for n := range 2 * maxClasses {
		w.class(fmt.Sprint("passing ", n))
	}
	require.LessOrEqual(t, len(w.classes), maxClasses)
	require.Same(t, flown, w.class(w.entries[0].class))
	require.Same(t, isolated, w.class("isolated"))
}
