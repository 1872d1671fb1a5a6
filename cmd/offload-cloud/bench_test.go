package main

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/internal/pgtest"
	"app-offload/cmd/offload-cloud/internal/consume"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

// feed is a transport that delivers from memory, so that only the consumer and its database are measured.
type feed struct {
	messages [][]byte
	acked    sync.WaitGroup
}

func (f *feed) Start(_ context.Context, deliver func(*consume.Message) bool) error {
	go func() {
		for _, m := range f.messages {
			for !deliver(&consume.Message{Topic: "offload/v1/bench/batch/default", Payload: m, Ack: f.acked.Done}) {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	return nil
}

func (f *feed) Publish(context.Context, []consume.Outgoing) error { return nil }
func (f *feed) Redeliver()                                        {}
func (f *feed) Connected() bool                                   { return true }
func (f *feed) Close()                                            {}

// BenchmarkStored measures records from message to receipt, in batches of 100 small records, durable on this machine's disk.
func BenchmarkStored(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmark(b, "sqlite:"+filepath.Join(b.TempDir(), "cloud.db")) })
	b.Run("postgres", func(b *testing.B) { benchmark(b, pgtest.Start(b).Database(b)) })
}

func benchmark(b *testing.B, dsn string) {
	const size = 100
	edge := (&edgetest.Edge{Node: "bench", Epoch: "e1", Records: uint64(b.N) * size, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(b)
	f := &feed{}
	for i := range uint64(b.N) {
		seqs := make([]uint64, size)
		for j := range seqs {
			seqs[j] = i*size + uint64(j) + 1
		}
		f.messages = append(f.messages, edge.Batch(b, seqs[0], seqs...))
	}
	db, err := store.Open(b.Context(), dsn, store.Options{})
	require.NoError(b, err)
	defer db.Close() //nolint:errcheck // the figures are taken
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(b, err)
	c := &consume.Consumer{Transport: f, Store: db, Opener: seal.NewOpener(nil, seal.Limits{}), Sealer: sealer, Log: slog.New(slog.DiscardHandler), Limits: consume.Limits{Lanes: db.Lanes()}}
	f.acked.Add(b.N)
	b.ReportAllocs()
	b.ResetTimer()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, func() {}) }()
	f.acked.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(c.Counts.Tasks.Load())/float64(c.Counts.Commits.Load()), "records/commit")
	cancel()
	require.NoError(b, <-ended)
	require.Equal(b, int64(b.N*size), c.Counts.Tasks.Load())
}
