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

// share is a transport whose messages go to any consumer of the group with room, like a shared subscription.
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

// BenchmarkWorkers compares 1, 2 and 4 consumers that share one PostgreSQL and the messages of their nodes, in alternating rounds, so that other load
// on the machine slows all of them. Each round stores all messages in a new database. The results are medians.
func BenchmarkWorkers(b *testing.B) {
	for _, load := range []struct{ nodes, batches, size int }{{4, 800, 100}, {1000, 4000, 10}} {
		b.Run(fmt.Sprintf("%d-nodes", load.nodes), func(b *testing.B) {
			messages := make([]*consume.Message, load.batches)
			edges := make([]*edgetest.Edge, load.nodes)
			for n := range edges {
				edges[n] = (&edgetest.Edge{
					Node: fmt.Sprint("gateway-", n), Epoch: "e1", Records: uint64(load.batches / load.nodes * load.size), Rand: rand.New(rand.NewPCG(1, uint64(n))),
				}).Prepare(b)
			}
			for i := range messages {
				first := uint64(i/load.nodes*load.size) + 1
				seqs := make([]uint64, load.size)
				for j := range seqs {
					seqs[j] = first + uint64(j)
				}
				floor := max(1, first-min(first, uint64(30*load.size)))
				edge := edges[i%load.nodes]
				messages[i] = &consume.Message{Topic: seal.BatchTopic(edge.Node, "default"), Payload: edge.Batch(b, floor, seqs...)}
			}
			compare(b, messages, load.size)
		})
	}
}

func compare(b *testing.B, messages []*consume.Message, size int) {
	server := pgtest.Start(b)
	counts := []int{1, 2, 4}
	rates, costs, ratios := map[int][]float64{}, map[int][]float64{}, map[int][]float64{}
	records := float64(len(messages) * size)
	b.ResetTimer()
	for round := range b.N {
		for i := range counts {
			n := counts[(i+round)%len(counts)]
			dsn, before := server.Database(b), cpu(b)
			took, tasks := shared(b, dsn, n, messages)
			require.Equal(b, int64(records), tasks)
			costs[n] = append(costs[n], float64((cpu(b)-before).Microseconds())/records)
			rates[n] = append(rates[n], records/took.Seconds())
		}
		for _, n := range counts {
			ratios[n] = append(ratios[n], rates[n][round]/rates[1][round])
		}
	}
	for _, n := range counts {
		b.ReportMetric(median(rates[n]), fmt.Sprintf("records/s-%d", n))
		b.ReportMetric(median(costs[n]), fmt.Sprintf("CPU-µs/record-%d", n))
		b.ReportMetric(median(ratios[n]), fmt.Sprintf("ratio-%d", n))
	}
}

// shared stores the messages with n consumers, and returns the time and the number of stored tasks.
func shared(b *testing.B, dsn string, n int, messages []*consume.Message) (took time.Duration, tasks int64) {
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
	for _, m := range messages {
		queue <- &consume.Message{Topic: m.Topic, Payload: m.Payload, Ack: acked.Done}
	}
	acked.Wait()
	took = time.Since(began)
	close(queue)
	cancel()
	running.Wait()
	for _, c := range consumers {
		tasks += c.Counts.Tasks.Load()
	}
	return took, tasks
}

// cpu returns the CPU time used by this process, its PostgreSQL and the database's sessions. On a machine with other load it is a better measure than
// elapsed time.
func cpu(b *testing.B) time.Duration {
	self, used := os.Getpid(), map[int]int64{} // in ticks of 10 ms
	parent := map[int]int{}
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(b, err)
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // the process has ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		parent[pid], _ = strconv.Atoi(fields[1])
		for _, f := range fields[11:15] { // user and system time, of the process and of its ended children
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
