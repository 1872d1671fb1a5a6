package functions

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/config"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// BenchmarkSubmit measures the pipeline from the parsed event to the spool's commit or the worker's answer, without bus and broker: the cost of
// deciding on top of both. Slices are as large as the intake makes them.
func BenchmarkSubmit(b *testing.B) {
	for _, name := range []string{"cloud", "edge"} {
		b.Run(name, func(b *testing.B) { benchmarkSubmit(b, name) })
	}
}

func benchmarkSubmit(b *testing.B, name string) {
	const slice = 64
	cfg := config.Default()
	cfg.Spool.Directory, cfg.Spool.QuotaMiB, cfg.Spool.Sync, cfg.Writable.Policy.Default = b.TempDir(), 64, "none", name
	cfg.Writable.Policy.LinkDown = "deadline"
	s, err := New(cfg, Deps{Name: "app-offload", Log: quiet{}, Secrets: noSecrets{}, Publisher: &bin{}})
	require.NoError(b, err)
	b.Cleanup(func() { _ = s.Stop() })
	events := make([]*task.Event, slice)
	for i := range events {
		events[i] = event(fmt.Sprint("d", i%8), i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += slice {
		var left sync.WaitGroup
		left.Add(slice)
		s.Submit(events, func(_ int, err error) {
			if err != nil {
				b.Error(err)
			}
			left.Done()
		})
		left.Wait()
		empty(s.spool)
	}
}

type quiet struct{}

func (quiet) Debugf(string, ...any) {}
func (quiet) Infof(string, ...any)  {}
func (quiet) Warnf(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}

// empty takes all records of the spool, as an exporter would.
func empty(s *spool.Spool) {
	var seqs []uint64
	for _, q := range s.Queues(nil) {
		for _, source := range []spool.Source{spool.Live, spool.Backlog} {
			for _, r := range s.Take(q.Lane, q.Class, source, 1<<20, 1<<30, nil) {
				seqs = append(seqs, r.Seq)
			}
		}
	}
	s.Done(seqs)
}
