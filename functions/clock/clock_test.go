package clock

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

var today = time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC)

// steps are what NTP, a dead battery and an operator do to a wall clock.
var steps = []time.Duration{
	time.Hour, -time.Hour, 24 * time.Hour, -24 * time.Hour, 30 * 365 * 24 * time.Hour, -30 * 365 * 24 * time.Hour,
}

func TestAStampKeepsDurationsThroughSteps(t *testing.T) {
	for _, step := range steps {
		fake := NewFake(today)
		c := New(fake)
		then := c.Now()
		fake.Advance(3 * time.Second)
		fake.Step(step)
		fake.Advance(5 * time.Second)
		require.Equal(t, 8*time.Second, c.Since(then), "step of %v", step)
		require.Equal(t, 8*time.Second, c.Time().Sub(time.Unix(0, then)), "step of %v", step)
		require.Equal(t, step, c.Stepped())
		require.Equal(t, today.Add(step), c.Wall(then), "a stamp is shown by the clock as it is now")
	}
}

func TestTheTimeBetweenMomentsNeverComesFromAStep(t *testing.T) {
	const off, unknown = 2 * time.Hour, 0
	reboot := func(f *Fake) { f.Reboot(off) }
	rows := []struct {
		name string
		do   func(*Fake)
		want time.Duration
	}{
		{"a restart of the process", func(f *Fake) { f.Advance(off) }, off},
		{"a reboot between synchronised clocks", reboot, off},
		{"not synchronised before", func(f *Fake) { f.Reboot(off) }, unknown},
		{"not synchronised after", func(f *Fake) { f.Reboot(off); f.Synchronise(false) }, unknown},
		{"off for longer than is believable", func(f *Fake) { f.Reboot(31 * 24 * time.Hour) }, unknown},
		{"a clock that lost its time", func(f *Fake) { f.Reboot(off); f.Step(-50 * 365 * 24 * time.Hour) }, unknown},
	}
	for _, row := range rows {
		fake := NewFake(today)
		fake.Synchronise(row.name != "not synchronised before")
		then := New(fake).Moment()
		row.do(fake)
		require.Equal(t, row.want, New(fake).Moment().Since(then), row.name)
	}
	for _, step := range steps {
		fake := NewFake(today)
		then := New(fake).Moment()
		fake.Advance(off)
		fake.Step(step)
		require.Equal(t, off, New(fake).Moment().Since(then), "within a boot, a step of %v", step)
		fake.Synchronise(false)
		require.Equal(t, off, New(fake).Moment().Since(then), "the same, not synchronised")
		fake.Reboot(off)
		require.Zero(t, New(fake).Moment().Since(then), "a step of %v and a reboot, not synchronised", step)
	}
}

func TestTheMachineHasAClock(t *testing.T) {
	then, moment := System.Now(), System.Moment()
	require.WithinDuration(t, time.Now(), System.Wall(then), time.Minute)
	require.NotZero(t, moment.Wall)
	require.GreaterOrEqual(t, System.Now(), then)
	require.GreaterOrEqual(t, System.Moment().Since(moment), time.Duration(0))
	require.Same(t, System, (*Clock)(nil).Or())
}

// Tickers made at any moments wake the process together: ten of a second each, made in 500 ms, and two of half a second give two wakes a second.
func TestTickersTickTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		wakes, ticks := map[time.Time]int{}, 0
		var mu sync.Mutex
		var all sync.WaitGroup
		made := time.Now()
		for i := range 12 {
			every := time.Second
			if i >= 10 {
				every = time.Second / 2
			}
			tick := NewTicker(every)
			all.Go(func() {
				defer tick.Stop()
				for first := true; ; first = false {
					select {
					case at := <-tick.C:
						mu.Lock()
						wakes[at]++
						ticks++
						if first {
							delete(wakes, at) // the phase is found by then
						}
						mu.Unlock()
					case <-ctx.Done():
						return
					}
				}
			})
			time.Sleep(47 * time.Millisecond)
		}
		time.Sleep(time.Until(made.Add(10*time.Second + time.Millisecond)))
		cancel()
		all.Wait()
		require.LessOrEqual(t, len(wakes), 21, "two a second")
		require.GreaterOrEqual(t, ticks, 10*8+2*18)
		for at := range wakes {
			require.Zero(t, at.Sub(at.Truncate(time.Second/2)))
		}
	})
}

// A ticker that is stopped before its first tick stays stopped.
func TestATickerStaysStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(300 * time.Millisecond)
		tick := NewTicker(time.Second)
		tick.Stop()
		time.Sleep(5 * time.Second)
		select {
		case <-tick.C:
			t.Fatal("it ticks")
		default:
		}
	})
}
