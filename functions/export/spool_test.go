package export

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/badlink"
	"app-offload/functions/batch"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// keep appends n records of a device and waits until they are durable.
func keep(tb testing.TB, s *spool.Spool, device string, n, size int) {
	recs := make([]spool.Record, n)
	for i := range recs {
		recs[i] = spool.Record{Lane: 5, Class: "a", Time: time.Now().UnixNano(), Payload: append([]byte(device+"|"), make([]byte, size)...)}
	}
	done := make(chan error, 1)
	s.Append(recs, func(err error) { done <- err })
	require.NoError(tb, <-done)
}

// TestRestartsLoseNothing runs the exporter on the real spool through a link with faults, and stops both at any moment: once the last run has
// settled, every record ever kept is stored, and the spool's account balances. Devices are named by run, because after a restart fresh records go
// before old ones.
func TestRestartsLoseNothing(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	l := startLink(t, b.addr)
	dir, total := t.TempDir(), 0
	const lives = 3
	for life := range lives {
		s, err := spool.Open(dir, spool.DefaultConfig())
		require.NoError(t, err)
		cfg := quick(l.Addr)
		cfg.AckTimeout, cfg.ConnectTimeout, cfg.ReceiptTimeout, cfg.ReleaseAfter = "300ms", "300ms", "1s", "50ms"
		r := newRig(t, cfg, s, nil)
		var feed sync.WaitGroup
		for d := range 4 {
			total += 300
			feed.Go(func() {
				for range 15 {
					keep(t, s, fmt.Sprintf("d%d-%d", d, life), 20, 100)
				}
			})
		}
		if life%2 == 1 {
			require.NoError(t, l.Harm(badlink.Trouble{Down: badlink.Flow{Limit: 400}}))
		}
		time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
		if life%2 == 1 {
			require.NoError(t, l.Heal())
		}
		feed.Wait()
		if life == lives-1 {
			r.settled()
			st := s.Stats()
			require.EqualValues(t, total, st.Appended)
			require.EqualValues(t, total, st.Done)
		}
		r.halt()
		require.NoError(t, s.Close())
	}
	b.look(func() {
		require.Len(t, b.stored, total)
		require.Empty(t, b.overtook)
	})
}

// TestExpiredRecordsCostNoLink: the spool drops expired records, and the consumer learns why.
func TestExpiredRecordsCostNoLink(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s, err := spool.Open(t.TempDir(), spool.DefaultConfig())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	now := time.Now().UnixNano()
	done := make(chan error, 1)
	s.Append([]spool.Record{
		{Lane: 5, Class: "a", Time: now, Payload: []byte("d|1")},
		{Lane: 5, Class: "a", Time: now, Payload: []byte("d|2"), Expires: now + 1},
		{Lane: 5, Class: "a", Time: now, Payload: []byte("d|3")},
	}, func(err error) { done <- err })
	require.NoError(t, <-done)
	until(t, "its time is over", func() bool { return s.Fate(2) == spool.ReasonExpired })
	r := newRig(t, quick(b.addr), s, nil)
	defer r.halt()
	r.settled()
	until(t, "the others are stored", func() bool { return b.distinct() == 2 })
	b.receipt(&seal.Receipt{ID: "r", Node: node, Epoch: s.Epoch(), Created: time.Now(), Gaps: []seal.Range{{First: 2, Last: 2}}})
	until(t, "it is explained", func() bool { n := 0; b.look(func() { n = len(b.gone) }); return n == 1 })
	b.look(func() { require.True(t, strings.HasPrefix(b.gone[0].Reason, "expired")) })
}

// TestAGapOfAMillionMillionIsOneRange: a spool that lost its state skips sequences, and reports them in one message.
func TestAGapOfAMillionMillionIsOneRange(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	dir := t.TempDir()
	put := func(s *spool.Spool) uint64 {
		done, r := make(chan error, 1), []spool.Record{{Lane: 5, Class: "a", Payload: []byte("d|1")}}
		s.Append(r, func(err error) { done <- err })
		require.NoError(t, <-done)
		return r[0].Seq
	}
	s, err := spool.Open(dir, spool.DefaultConfig())
	require.NoError(t, err)
	before := put(s)
	require.NoError(t, s.Close())
	for _, state := range []string{"state-a", "state-b"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, state), make([]byte, 100), 0o600))
	}
	s, err = spool.Open(dir, spool.DefaultConfig())
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	after := put(s)
	require.Greater(t, after-before, uint64(1<<40))
	r := newRig(t, quick(b.addr), s, nil)
	defer r.halt()
	r.settled()
	b.receipt(&seal.Receipt{ID: "r", Node: node, Epoch: s.Epoch(), Created: time.Now(), Gaps: []seal.Range{{First: before + 1, Last: after - 1}}})
	until(t, "it is explained", func() bool { n := 0; b.look(func() { n = len(b.gone) }); return n > 0 })
	b.look(func() {
		require.Equal(t, []seal.GoneRange{{Range: seal.Range{First: before + 1, Last: after - 1}, Reason: spool.FateSkipped}}, b.gone)
	})
	require.Zero(t, r.Stats().Gone, "and no task is among it")
}

// BenchmarkExport measures the path from records in the real spool to their receipts, 1,000 records of 200 bytes a batch.
func BenchmarkExport(b *testing.B) {
	br := startBroker(b, anyPort, nil, nil, nil)
	s, err := spool.Open(b.TempDir(), spool.DefaultConfig())
	require.NoError(b, err)
	defer func() { _ = s.Close() }()
	for n := b.N; n > 0; n -= 1000 {
		keep(b, s, "d", min(n, 1000), 200)
	}
	b.ResetTimer()
	r := newRig(b, quick(br.addr), s, func(d *Deps) {
		sched, err := batch.New(batch.DefaultConfig(), s, classList{})
		require.NoError(b, err)
		d.Batches = sched
	})
	r.settled()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.StopTimer()
	r.halt()
}
