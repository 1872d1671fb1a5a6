package consume

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/cmd/internal/edgetest"
	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

// pipe is a transport without a broker: the test delivers messages.
type pipe struct {
	deliver     func(*Message) bool
	mu          sync.Mutex
	out         []Outgoing
	acked       []string
	redelivered int
	down        bool
	refuse      error
	lost        error // of Publish
}

func (p *pipe) Start(_ context.Context, deliver func(*Message) bool) error {
	p.deliver = deliver
	return p.refuse
}

func (p *pipe) Publish(_ context.Context, out []Outgoing) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lost == nil {
		p.out = append(p.out, out...)
	}
	return p.lost
}

func (p *pipe) Redeliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.redelivered++
}

func (p *pipe) Connected() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.down
}
func (p *pipe) Close() {}

func (p *pipe) send(name, topic string, payload []byte) bool {
	return p.deliver(&Message{Topic: topic, Payload: payload, Ack: func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.acked = append(p.acked, name)
	}})
}

func (p *pipe) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.redelivered
}

// acks returns the acknowledgements since the last call.
func (p *pipe) acks() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	acked := p.acked
	p.acked = nil
	return acked
}

// shelf is a store whose failures the test controls.
type shelf struct {
	mu     sync.Mutex
	fail   func(g *store.Group) error
	groups []*store.Group
}

var (
	errPasses = errors.New("disk full")
	errStays  = errors.New("bad data")
	errLocked = errors.New("a row is locked")
	errSlow   = errors.New("it takes too long")
)

func (s *shelf) Blocked(err error) (locked, slow bool) {
	return errors.Is(err, errLocked), errors.Is(err, errSlow)
}

func (s *shelf) Permanent(err error) bool { return errors.Is(err, errStays) }

func (s *shelf) Commit(_ context.Context, g *store.Group) (*store.Result, error) {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail != nil { // without the lock, since it may sleep
		if err := fail(g); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = append(s.groups, g)
	result := &store.Result{Letters: len(g.Letters)}
	for _, b := range g.Batches {
		receipt := store.Receipt{Node: b.Node, Epoch: b.Epoch}
		for _, r := range b.Records {
			receipt.Safe = append(receipt.Safe, span(r.Sequence, r.Sequence))
			result.Fresh = append(result.Fresh, store.Fresh{Node: b.Node, Epoch: b.Epoch, Sequence: r.Sequence, Task: r.Task})
		}
		result.Receipts = append(result.Receipts, receipt)
	}
	return result, nil
}

func (s *shelf) failing(fail func(g *store.Group) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

// bench is a consumer with fakes around it.
type bench struct {
	*Consumer
	pipe  *pipe
	shelf *shelf
	log   *bytes.Buffer
	lines *bytes.Buffer
	edge  *edgetest.Edge
	stop  func() error
}

const topic = "offload/v1/n1/batch/default"

func newBench(t *testing.T, limits Limits) *bench {
	t.Helper()
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	b := &bench{pipe: &pipe{}, shelf: &shelf{}, log: &bytes.Buffer{}, lines: &bytes.Buffer{}}
	b.edge = (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 100, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(t)
	b.Consumer = &Consumer{
		Transport: b.pipe, Store: b.shelf, Opener: seal.NewOpener(nil, seal.Limits{}), Sealer: sealer, Lines: b.lines,
		Log: slog.New(slog.NewTextHandler(b.log, nil)), Limits: limits,
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	ready := make(chan struct{})
	go func() { ended <- b.Run(ctx, func() { close(ready) }) }()
	<-ready
	b.stop = func() error { cancel(); return <-ended }
	return b
}

func TestReceiptAndAcknowledgementFollowTheCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		hold := make(chan struct{})
		b.shelf.failing(func(*store.Group) error { <-hold; return nil })
		b.pipe.send("first", topic, b.edge.Batch(t, 1, 1, 2))
		synctest.Wait() // it is being stored now
		b.pipe.send("second", topic, b.edge.Batch(t, 1, 3))
		b.pipe.send("third", topic, b.edge.Batch(t, 1, 4))
		synctest.Wait()
		require.Empty(t, b.pipe.acks(), "nothing is durable yet")
		close(hold)
		synctest.Wait()
		require.Equal(t, []string{"first", "second", "third"}, b.pipe.acks())
		require.Len(t, b.shelf.groups, 2, "what came while the store was busy shares a transaction")
		require.Equal(t, int64(4), b.Counts.Tasks.Load())
		require.NoError(t, b.stop())

		receipt, err := seal.NewOpener(nil, seal.Limits{}).OpenReceipt(b.pipe.out[0].Payload)
		require.NoError(t, err)
		require.Equal(t, "offload/v1/n1/receipt", b.pipe.out[0].Topic)
		require.Equal(t, []seal.Range{{First: 1, Last: 1}, {First: 2, Last: 2}}, receipt.Safe)
		var line Line
		require.NoError(t, json.Unmarshal([]byte(strings.SplitN(b.lines.String(), "\n", 2)[0]), &line))
		require.Equal(t, "device-1", line.Device)
		require.Contains(t, string(line.Data), `"resourceName":"speed"`)
	})
}

func TestAFailingStoreIsTriedAgainAndLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		b.shelf.failing(func(*store.Group) error { return errPasses })
		b.pipe.send("one", topic, b.edge.Batch(t, 1, 1))
		time.Sleep(10 * time.Minute)
		require.Empty(t, b.pipe.acks())
		require.Empty(t, b.pipe.out)
		require.False(t, b.Counts.StoreUp.Load())
		require.Less(t, b.Counts.StoreErrors.Load(), int64(200), "the pauses grow")
		b.shelf.failing(nil)
		time.Sleep(10 * time.Second)
		require.Equal(t, []string{"one"}, b.pipe.acks())
		require.NoError(t, b.stop())
		require.Equal(t, 1, strings.Count(b.log.String(), "the store failed"))
		require.Equal(t, 1, strings.Count(b.log.String(), "the store works again"))
	})
}

func TestMemoryIsBoundedAndWhatWasRefusedIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{QueueMessages: 8})
		b.shelf.failing(func(*store.Group) error { return errPasses })
		accepted := 0
		for i := range uint64(50) {
			if b.pipe.send(fmt.Sprint(i), topic, b.edge.Batch(t, 1, i+1)) {
				accepted++
			}
			synctest.Wait()
		}
		require.Equal(t, 8, accepted)
		require.Equal(t, int64(42), b.Counts.Refused.Load())
		b.shelf.failing(nil)
		time.Sleep(time.Minute)
		require.Len(t, b.pipe.acks(), 8)
		require.Equal(t, 1, b.pipe.redelivered)
		require.NoError(t, b.stop())
	})
}

// While the store fails, messages for a full queue are refused immediately, whether places or bytes are used up: the patience is only for a working store.
func TestAFullQueueRefusesAtOnceWhileTheStoreIsDown(t *testing.T) {
	for name, limits := range map[string]Limits{"places": {QueueMessages: 8}, "bytes": {QueueMiB: 1}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, limits)
				b.shelf.failing(func(*store.Group) error { return errPasses })
				b.pipe.send("0", topic, b.edge.Batch(t, 1, 1))
				synctest.Wait()
				require.False(t, b.Counts.StoreUp.Load())
				message := b.edge.Batch(t, 1, 2)
				if name == "bytes" {
					message = make([]byte, 300<<10)
				}
				since := time.Now()
				for i := range 50 {
					b.pipe.send(fmt.Sprint(i+1), topic, message)
				}
				require.Zero(t, time.Since(since), "nothing waited")
				require.Greater(t, b.Counts.Refused.Load(), int64(40))
				require.Less(t, b.Counts.Refused.Load(), int64(50), "there was room at first")
				b.shelf.failing(nil)
				time.Sleep(time.Minute)
				require.True(t, b.pipe.send("after", topic, b.edge.Batch(t, 1, 3)), "the store works again")
				require.NoError(t, b.stop())
			})
		})
	}
}

// A slow but working store gets the time it needs: the transport blocks instead of being refused.
func TestABusyStoreHoldsTheBrokerBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{QueueMiB: 1, QueueMessages: 2})
		b.shelf.failing(func(*store.Group) error { time.Sleep(time.Second); return nil })
		for i := range uint64(20) {
			require.True(t, b.pipe.send(fmt.Sprint(i), topic, b.edge.Batch(t, 1, i+1)))
		}
		time.Sleep(time.Minute)
		require.Len(t, b.pipe.acks(), 20)
		require.Zero(t, b.Counts.Refused.Load())
		require.NoError(t, b.stop())
	})
}

func TestABadMessageHarmsOnlyItself(t *testing.T) {
	tests := []struct {
		name, topic string
		payload     func(b *bench) []byte
		reason      string
	}{
		{"random bytes", topic, func(*bench) []byte { return []byte("\x00\x01rubbish") }, "malformed"},
		{"nothing", topic, func(*bench) []byte { return nil }, "malformed"},
		{"a batch under another node's name", "offload/v1/n2/batch/default", func(b *bench) []byte { return b.edge.Batch(t, 1, 9) }, "wrong topic"},
		{"a batch where statements go", "offload/v1/n1/gone", func(b *bench) []byte { return b.edge.Batch(t, 1, 9) }, "malformed"},
		{"an unknown kind", "offload/v1/n1/other", func(b *bench) []byte { return b.edge.Batch(t, 1, 9) }, "wrong topic"},
		{"a sequence no database can count to", topic, func(b *bench) []byte { return b.edge.Batch(t, 1<<63, 9) }, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Limits{})
				b.pipe.send("bad", tt.topic, tt.payload(b))
				b.pipe.send("good", topic, b.edge.Batch(t, 1, 1))
				synctest.Wait()
				require.Equal(t, []string{"bad", "good"}, b.pipe.acks())
				require.Len(t, b.pipe.out, 1, "only the good one is receipted")
				require.NoError(t, b.stop())
				var letters []*store.Letter
				for _, g := range b.shelf.groups {
					letters = append(letters, g.Letters...)
				}
				require.Len(t, letters, 1)
				require.Equal(t, tt.reason, letters[0].Reason)
			})
		})
	}
}

func TestWhatTheStoreRefusesForGoodIsTakenOutOfItsGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		b.shelf.failing(func(g *store.Group) error {
			time.Sleep(time.Second) // so that all but the first one share a group
			for _, batch := range g.Batches {
				if batch.Records[0].Sequence == 3 {
					return errStays
				}
			}
			return nil
		})
		for i := range uint64(5) {
			b.pipe.send(fmt.Sprint(i+1), topic, b.edge.Batch(t, 1, i+1))
		}
		time.Sleep(time.Minute)
		require.Len(t, b.pipe.acks(), 5)
		require.Len(t, b.pipe.out, 4)
		require.Equal(t, int64(1), b.Counts.DeadLetters.Load())
		require.Equal(t, int64(4), b.Counts.Tasks.Load())
		require.NoError(t, b.stop())
	})
}

func TestAStopStoresWhatIsQueuedAndGivesUpWithinTheGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		b.shelf.failing(func(*store.Group) error { time.Sleep(500 * time.Millisecond); return nil })
		for i := range uint64(5) {
			b.pipe.send(fmt.Sprint(i), topic, b.edge.Batch(t, 1, i+1))
		}
		require.NoError(t, b.stop())
		require.Len(t, b.pipe.acks(), 5)

		b = newBench(t, Limits{Grace: time.Second})
		b.shelf.failing(func(*store.Group) error { return errPasses })
		b.pipe.send("one", topic, b.edge.Batch(t, 1, 1))
		began := time.Now()
		require.NoError(t, b.stop())
		require.LessOrEqual(t, time.Since(began), 2*time.Second)
		require.Empty(t, b.pipe.acks())
	})
}

func TestARefusedSubscriptionEndsTheConsumer(t *testing.T) {
	c := &Consumer{Transport: &pipe{refuse: errStays}, Store: &shelf{}, Log: slog.New(slog.DiscardHandler)}
	require.ErrorIs(t, c.Run(t.Context(), func() { t.Error("it is not ready") }), errStays)
}

// A stop while the broker is awaited is no failure.
func TestAStopEndsTheWaitForTheBroker(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &Consumer{Transport: &pipe{refuse: ctx.Err()}, Store: &shelf{}, Log: slog.New(slog.DiscardHandler)}
	require.NoError(t, c.Run(ctx, func() { t.Error("it is not ready") }))
}

func TestReceiptsAreCutAndGapsNamedOnce(t *testing.T) {
	b := newBench(t, Limits{})
	r := store.Receipt{Node: "n1", Epoch: "e1", Gaps: spans(2, 5)}
	for i := range uint64(2500) {
		r.Safe = append(r.Safe, span(2*i, 2*i))
	}
	out, err := b.sealReceipts([]store.Receipt{r})
	require.NoError(t, err)
	require.Len(t, out, 3)
	named, gaps := 0, 0
	for _, o := range out {
		receipt, err := seal.NewOpener(nil, seal.Limits{}).OpenReceipt(o.Payload)
		require.NoError(t, err)
		named, gaps = named+len(receipt.Safe), gaps+len(receipt.Gaps)
	}
	require.Equal(t, []int{2500, 1}, []int{named, gaps})

	b.noteGaps([]store.Receipt{r})
	require.Equal(t, int64(4), b.Counts.Gaps.Load())
	b.noteGaps([]store.Receipt{{Node: "n1", Epoch: "e1"}})
	require.Zero(t, b.Counts.Gaps.Load())
	require.NoError(t, b.stop())
}

func TestANodesWordIsNotTheStores(t *testing.T) {
	require.Equal(t, "node: stored", fate("stored"))
	require.Equal(t, "unexplained", fate(""))
	require.LessOrEqual(t, len(fate(strings.Repeat("ü", 100))), reasonsMax)
}

// Any message on any topic becomes a batch, a statement or a letter, and never causes a panic. The decoders have fuzz targets of their own.
func TestWhateverArrivesIsOpenedOrSetAside(t *testing.T) {
	opener := seal.NewOpener(nil, seal.Limits{MaxDataMiB: 1})
	edge := (&edgetest.Edge{Node: "n1", Epoch: "e1", Records: 100, Rand: rand.New(rand.NewPCG(1, 1))}).Prepare(t)
	valid := edge.Batch(t, 1, 1, 2, 3)
	rapid.Check(t, func(t *rapid.T) {
		payload := append([]byte(nil), valid...)
		for range rapid.IntRange(0, 5).Draw(t, "bits") {
			payload[rapid.IntRange(0, len(payload)-1).Draw(t, "at")] ^= rapid.Byte().Draw(t, "by")
		}
		payload = payload[:rapid.IntRange(0, len(payload)).Draw(t, "length")]
		where := rapid.SampledFrom([]string{topic, "offload/v1/n1/gone", "offload/v1/n1/confirm", "offload/v1/n2/batch/x", "offload/v1/", "x"}).Draw(t, "topic")
		it := open(opener, &Message{Topic: where, Payload: payload})
		if it.letter != nil {
			require.NotEmpty(t, it.letter.Reason)
			return
		}
		require.True(t, (it.batch != nil) != (it.gone != nil))
	})
}

func span(first, last uint64) ranges.Span { return ranges.Span{First: first, Last: last} }

func spans(first, last uint64) []ranges.Span { return []ranges.Span{span(first, last)} }
