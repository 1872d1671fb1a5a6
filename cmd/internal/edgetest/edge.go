// Package edgetest simulates a broker and nodes for tests of the consumer: nodes that resend everything until it is receipted.
package edgetest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// Broker starts a broker for this test, with the given hooks or without access control, and returns its host:port.
func Broker(t testing.TB, hooks ...broker.Hook) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := broker.New(&broker.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if len(hooks) == 0 {
		hooks = []broker.Hook{&auth.AllowHook{}}
	}
	for _, hook := range hooks {
		require.NoError(t, server.AddHook(hook, nil))
	}
	require.NoError(t, server.AddListener(listeners.NewNet("tcp", listener)))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// Edge is a node with records 1 … Records in its spool.
type Edge struct {
	Node    string
	Epoch   string
	Records uint64
	Doubles float64 // share of records that repeat an earlier task
	Keys    seal.Keys
	Config  seal.Config
	Resend  time.Duration // timeout of a receipt
	Pace    time.Duration // between two groups of batches; 0 means 5 ms
	Rand    *rand.Rand
	Measure bool   // records hold events for a model, with the task's number as value
	Plain   uint64 // of this many tasks, all but one are of the class plain, which has no model; 0 means a single class

	mu      sync.Mutex
	pending map[uint64]time.Time // time of the last sending
	next    uint64
	gaps    int
	taskOf  []uint64 // the task of a record, by sequence
	done    chan struct{}
	opener  *seal.Opener
	sealer  *seal.Sealer
}

// Prepare creates the records. Call it first.
func (e *Edge) Prepare(t testing.TB) *Edge {
	t.Helper()
	var err error
	if e.Config == (seal.Config{}) {
		e.Config = seal.DefaultConfig()
		e.Config.Form = seal.FormProtobuf
	}
	e.sealer, err = seal.NewSealer(e.Config, e.Keys)
	require.NoError(t, err)
	e.opener = seal.NewOpener(e.Keys, seal.Limits{})
	e.pending, e.done, e.next = map[uint64]time.Time{}, make(chan struct{}), 1
	e.taskOf = make([]uint64, e.Records+1)
	for seq := uint64(1); seq <= e.Records; seq++ {
		e.taskOf[seq] = seq
		if seq > 1 && e.Rand.Float64() < e.Doubles {
			e.taskOf[seq] = e.taskOf[1+e.Rand.Uint64N(seq-1)]
		}
	}
	return e
}

// Tasks is the number of distinct tasks among the records.
func (e *Edge) Tasks() int {
	distinct := map[uint64]bool{}
	for _, n := range e.taskOf[1:] {
		distinct[n] = true
	}
	return len(distinct)
}

// Questions is the number of distinct tasks for a model.
func (e *Edge) Questions() int {
	distinct := map[uint64]bool{}
	for _, n := range e.taskOf[1:] {
		distinct[n] = e.Plain == 0 || n%e.Plain == 0
	}
	count := 0
	for _, asks := range distinct {
		if asks {
			count++
		}
	}
	return count
}

// Task returns the task of a record.
func (e *Edge) Task(seq uint64) *task.Task {
	n := e.taskOf[seq]
	if e.Measure {
		one := Measured(n, e.Node, float64(n))
		if e.Plain > 0 && n%e.Plain != 0 {
			one.Class = &task.Class{Name: "plain", Priority: 5}
		}
		return one
	}
	return &task.Task{
		EventID: fmt.Sprintf("%08x-%s-%s", n*2654435761%(1<<32), e.Node, e.Epoch), Device: fmt.Sprintf("device-%d", n%7), Profile: "pump", Source: "state",
		Origin: int64(n), Received: time.Now().UnixNano(), Of: 1, Class: &task.Class{Name: "default", Priority: 5}, Encoding: task.JSON,
		Data: fmt.Appendf(nil, `{"apiVersion":"v3","deviceName":"device-%d","readings":[{"resourceName":"speed","value":"%d"}]}`, n%7, n),
	}
}

// Large seals one record whose task holds about size bytes.
func (e *Edge) Large(t testing.TB, size int, seq uint64) []byte {
	t.Helper()
	one := e.Task(seq)
	one.Encoding, one.Data = task.Binary, make([]byte, size)
	return e.seal(t, 1, []uint64{seq}, [][]byte{one.Append(nil)})
}

// Batch seals the records as one message.
func (e *Edge) Batch(t testing.TB, floor uint64, seqs ...uint64) []byte {
	t.Helper()
	var tasks [][]byte
	for _, seq := range seqs {
		tasks = append(tasks, e.Task(seq).Append(nil))
	}
	return e.seal(t, floor, seqs, tasks)
}

func (e *Edge) seal(t testing.TB, floor uint64, seqs []uint64, tasks [][]byte) []byte {
	t.Helper()
	b := &seal.Batch{
		ID: fmt.Sprintf("%s-%d-%d", e.Node, seqs[0], e.Rand.Uint64()), Node: e.Node, Epoch: e.Epoch, Class: "default",
		Created: time.Now(), Floor: floor, Sequences: seqs, Tasks: tasks,
	}
	msg, err := e.sealer.Seal(nil, b)
	require.NoError(t, err)
	return msg
}

// Run sends until every record is receipted or ctx ends; it reports whether all are receipted.
func (e *Edge) Run(ctx context.Context, t testing.TB, urls ...string) bool {
	t.Helper()
	o := mqtt.NewClientOptions().SetClientID("edge-" + strings.ReplaceAll(e.Node, ".", "-")).SetProtocolVersion(4).SetCleanSession(false).SetConnectRetry(true).SetConnectRetryInterval(100 * time.Millisecond).
		SetMaxReconnectInterval(500 * time.Millisecond).SetWriteTimeout(5 * time.Second).SetKeepAlive(5 * time.Second).SetPingTimeout(2 * time.Second).
		SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe(seal.ReceiptTopic(e.Node), 1, e.receipt) })
	for _, url := range urls {
		o.AddBroker(url)
	}
	client := mqtt.NewClient(o)
	client.Connect()
	defer client.Disconnect(100)
	tick := time.NewTicker(cmp.Or(e.Pace, 5*time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-e.done:
			return true
		case <-ctx.Done():
			return false
		case <-tick.C:
			if client.IsConnectionOpen() {
				e.send(t, client)
			}
		}
	}
}

// send publishes a few batches: first records with an overdue receipt, then new ones up to a window of 2,000.
func (e *Edge) send(t testing.TB, client mqtt.Client) {
	due, floor := e.due()
	for len(due) > 0 {
		n := min(len(due), 1+e.Rand.IntN(100))
		client.Publish(seal.BatchTopic(e.Node, "default"), 1, false, e.Batch(t, floor, due[:n]...))
		due = due[n:]
	}
}

func (e *Edge) due() (seqs []uint64, floor uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	for seq, at := range e.pending {
		if now.Sub(at) > e.Resend {
			seqs = append(seqs, seq)
		}
	}
	for ; e.next <= e.Records && len(e.pending) < 2000 && len(seqs) < 500; e.next++ {
		seqs = append(seqs, e.next)
		e.pending[e.next] = now
	}
	slices.Sort(seqs)
	floor = e.next
	for seq := range e.pending {
		floor = min(floor, seq)
	}
	for _, seq := range seqs {
		e.pending[seq] = now
	}
	return seqs, floor
}

func (e *Edge) receipt(_ mqtt.Client, m mqtt.Message) {
	r, err := e.opener.OpenReceipt(m.Payload())
	if err != nil || r.Node != e.Node || r.Epoch != e.Epoch {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, span := range r.Safe {
		for seq := span.First; seq <= span.Last; seq++ {
			delete(e.pending, seq)
		}
	}
	e.gaps += len(r.Gaps)
	if e.next > e.Records && len(e.pending) == 0 {
		select {
		case <-e.done:
		default:
			close(e.done)
		}
	}
}

// Gaps is the number of missing ranges in the receipts.
func (e *Edge) Gaps() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.gaps
}

// Left is the number of records without a receipt.
func (e *Edge) Left() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.pending) + int(e.Records-e.next+1)
}
