package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// share is a transport whose messages go to whichever consumer of the group has room, as those of a shared subscription do.
type share struct {
	messages <-chan *consume.Message
	done     sync.WaitGroup
}

func (s *share) Start(_ context.Context, deliver func(*consume.Message) bool) error {
	s.done.Go(func() {
		for m := range s.messages {
			for !deliver(m) {
				time.Sleep(time.Millisecond)
			}
		}
	})
	return nil
}

func (s *share) Publish(context.Context, []consume.Outgoing) error { return nil }
func (s *share) Redeliver()                                        {}
func (s *share) Connected() bool                                   { return true }
func (s *share) Close()                                            { s.done.Wait() }

// BenchmarkWorkers compares 1, 2 and 4 consumers that share one PostgreSQL and the messages of 4 nodes, in rounds that take turns, so that
// what else the machine does hits all of them. Each round stores 80,000 records in a new database. The figures are medians.
func BenchmarkWorkers(b *testing.B) {
	const nodes, batches, size = 4, 800, 100
	messages := make([][]byte, batches)
	edges := make([]*edgetest.Edge, nodes)
	for n := range edges {
		edges[n] = (&edgetest.Edge{
			Node: fmt.Sprint("gateway-", n), Epoch: "e1", Records: batches / nodes * size, Rand: rand.New(rand.NewPCG(1, uint64(n))),
		}).Prepare(b)
	}
	for i := range uint64(batches) {
		seqs := make([]uint64, size)
		for j := range seqs {
			seqs[j] = i/nodes*size + uint64(j) + 1
		}
		messages[i] = edges[i%nodes].Batch(b, max(1, seqs[0]-min(seqs[0], 30*size)), seqs...)
	}
	server := pgtest.Start(b)
	counts := []int{1, 2, 4}
	rates, costs := map[int][]float64{}, map[int][]float64{}
	b.ResetTimer()
	for round := range b.N {
		for i := range counts {
			n := counts[(i+round)%len(counts)]
			dsn, before := server.Database(b), cpu(b)
			took := shared(b, dsn, n, nodes, messages)
			costs[n] = append(costs[n], float64((cpu(b)-before).Microseconds())/(batches*size))
			rates[n] = append(rates[n], batches*size/took.Seconds())
		}
	}
	ratio := func(n int) float64 {
		all := make([]float64, b.N)
		for i := range all {
			all[i] = rates[n][i] / rates[1][i]
		}
		return median(all)
	}
	for _, n := range counts {
		b.ReportMetric(median(rates[n]), fmt.Sprintf("records/s-%d", n))
		b.ReportMetric(median(costs[n]), fmt.Sprintf("CPU-µs/record-%d", n))
		if n > 1 {
			b.ReportMetric(ratio(n), fmt.Sprintf("ratio-%d", n))
		}
	}
}

// shared stores the messages with n consumers and says how long that took.
func shared(b *testing.B, dsn string, n, nodes int, messages [][]byte) time.Duration {
	var acked sync.WaitGroup
	acked.Add(len(messages))
	queue := make(chan *consume.Message)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	consumers := make([]*consume.Consumer, n)
	var running, ready sync.WaitGroup
	ready.Add(n)
	for i := range consumers {
		db, err := store.Open(b.Context(), dsn, store.Options{})
		require.NoError(b, err)
		defer db.Close() //nolint:errcheck // the figures are taken
		sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
		require.NoError(b, err)
		consumers[i] = &consume.Consumer{
			Transport: &share{messages: queue}, Store: db, Opener: seal.NewOpener(nil, seal.Limits{}), Sealer: sealer, Log: slog.New(slog.DiscardHandler),
			Limits: consume.Limits{QueueMessages: 256, Lanes: db.Lanes()},
		}
		running.Go(func() { _ = consumers[i].Run(ctx, ready.Done) })
	}
	ready.Wait()
	began := time.Now()
	for i, m := range messages {
		queue <- &consume.Message{Topic: seal.BatchTopic(fmt.Sprint("gateway-", i%nodes), "default"), Payload: m, Ack: acked.Done}
	}
	acked.Wait()
	took := time.Since(began)
	close(queue)
	cancel()
	running.Wait()
	var tasks int64
	for _, c := range consumers {
		tasks += c.Counts.Tasks.Load()
	}
	require.Equal(b, int64(len(messages)*100), tasks)
	return took
}

// cpu is what this process, its PostgreSQL and the sessions of that have used of the processors, which tells more than the clock on a
// machine that does other things too.
func cpu(b *testing.B) time.Duration {
	self, used := os.Getpid(), map[int]int64{} // in ticks of 10 ms
	parent := map[int]int{}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent[pid], _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // user and system time, its own and of its children that ended
			n, _ := strconv.ParseInt(f, 10, 64)
			used[pid] += n
		}
	}
	var sum int64
	for pid, n := range used {
		if pid == self || parent[pid] == self || parent[parent[pid]] == self {
			sum += n
		}
	}
	return time.Duration(sum) * 10 * time.Millisecond
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}
