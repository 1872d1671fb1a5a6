package intake

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func smallGate() *Gate { return NewGate(Config{MaxEvents: 3, MaxMiB: 1}) }

func TestGateRefusesAndCounts(t *testing.T) {
	g := smallGate()
	var passes []Pass
	for range 3 {
		p, err := g.Enter(10)
		require.NoError(t, err)
		passes = append(passes, p)
	}
	_, err := g.Enter(10)
	require.ErrorIs(t, err, ErrFullEvents)
	passes[0].Leave()
	_, err = g.Enter(1 << 20)
	require.ErrorIs(t, err, ErrFullBytes)
	g.Shut()
	_, err = g.Enter(1)
	require.ErrorIs(t, err, ErrClosed)
	require.Equal(t, GateCounts{Events: 2, Bytes: 20, Entered: 3, RefusedEvents: 1, RefusedBytes: 1, RefusedClosed: 1}, g.Counts())
	Pass{}.Leave() // none: nothing happens
}

func TestGateLetsAGiantInAlone(t *testing.T) {
	g := smallGate()
	giant, err := g.Enter(5 << 20)
	require.NoError(t, err, "or it would never get in")
	_, err = g.Enter(1)
	require.ErrorIs(t, err, ErrFullBytes)
	giant.Leave()
	_, err = g.Enter(1)
	require.NoError(t, err)
}

func TestGateWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(Config{MaxEvents: 1, MaxMiB: 1})
		first, err := g.Wait(t.Context(), 1)
		require.NoError(t, err)
		time.AfterFunc(time.Minute, first.Leave)
		began := time.Now()
		second, err := g.Wait(t.Context(), 1)
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Since(began))

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = g.Wait(short, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		second.Leave()
		_, err = g.Wait(short, 1)
		require.ErrorIs(t, err, context.DeadlineExceeded, "there is room, but it is too late")
	})
}

func TestGateCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := smallGate()
		p, err := g.Enter(1)
		require.NoError(t, err)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorContains(t, g.Close(short), "1 events in progress")
		time.AfterFunc(time.Minute, p.Leave)
		began := time.Now()
		require.NoError(t, g.Close(t.Context()))
		require.Equal(t, time.Minute, time.Since(began))
	})
}

func TestGateShutWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(Config{MaxEvents: 1, MaxMiB: 1})
		_, err := g.Enter(1)
		require.NoError(t, err)
		var waiting sync.WaitGroup
		for range 5 {
			waiting.Go(func() {
				_, err := g.Wait(t.Context(), 1)
				require.ErrorIs(t, err, ErrClosed)
			})
		}
		synctest.Wait()
		g.Shut()
		waiting.Wait()
	})
}

// TestGateKeepsItsBooks: in any order of calls, no limit is exceeded, and events that have left no longer count.
func TestGateKeepsItsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewGate(Config{MaxEvents: 5, MaxMiB: 1})
		var inside []Pass
		bytes := 0
		for _, step := range rapid.SliceOf(rapid.IntRange(-1, 600<<10)).Draw(t, "steps") {
			if step < 0 {
				if len(inside) > 0 {
					bytes -= inside[0].bytes
					inside[0].Leave()
					inside = inside[1:]
				}
				continue
			}
			fits := len(inside) < 5 && (bytes+step <= 1<<20 || len(inside) == 0)
			p, err := g.Enter(step)
			require.Equal(t, fits, err == nil)
			if fits {
				inside, bytes = append(inside, p), bytes+step
			}
			require.Equal(t, []int{len(inside), bytes}, []int{g.Counts().Events, g.Counts().Bytes})
		}
	})
}

func BenchmarkGate(b *testing.B) {
	g := NewGate(DefaultConfig())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p, err := g.Enter(100)
			if err != nil {
				b.Error(err)
				return
			}
			p.Leave()
		}
	})
}
