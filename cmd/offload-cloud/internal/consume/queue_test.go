package consume

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/semaphore"

	"app-offload/cmd/offload-cloud/internal/ranges"
	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/seal"
)

// Missing and invalid values select the default; the smallest valid value is used.
func TestTheDefaultsOfLimits(t *testing.T) {
	usual := Limits{
		QueueMessages: 1024, QueueMiB: 64, GroupRecords: 5000, GroupMiB: 16, Lanes: 1, Patience: 5 * time.Second, CommitTimeout: time.Minute,
		BackoffMin: 100 * time.Millisecond, BackoffMax: 10 * time.Second, Grace: 5 * time.Second,
	}
	require.Equal(t, usual, Limits{}.withDefaults())
	require.Equal(t, usual, Limits{-1, -1, -1, -1, -1, -1, -1, -1, -1, -1}.withDefaults())
	least := Limits{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}
	require.Equal(t, least, least.withDefaults())
	require.Equal(t, lanesMax, Limits{Lanes: lanesMax + 1}.withDefaults().Lanes)
}

// With several lanes, a lane uses three quarters of the queue, and a message larger than the queue uses all of it. A message's places are released
// completely, and a message without room takes none.
func TestThePlacesOfAMessage(t *testing.T) {
	for _, c := range []struct {
		lanes       int
		limit, want int64
	}{{1, 8, 8}, {2, 8, 6}, {4, 1024, 768}, {4, 1, 1}, {4, 3, 3}, {4, 4, 3}} {
		consumer, _ := prepared(Limits{Lanes: c.lanes})
		require.Equal(t, c.want, consumer.share(c.limit), "%+v", c)
	}
	c, _ := prepared(Limits{Lanes: 2, QueueMiB: 1, QueueMessages: 4})
	for size, want := range map[int]int64{0: 0, 1: 1, 1 << 20: 1 << 20, 1<<20 + 1: 1 << 20} {
		require.Equal(t, want, c.weight(&Message{Payload: make([]byte, size)}))
	}
	large := &Message{Topic: topic, Payload: make([]byte, 2<<20)}
	l := &c.lanes[c.laneOf(large)]
	all := func() (list []int64) {
		for _, p := range c.places(l, large) {
			n := int64(0)
			for p.of.TryAcquire(1) {
				n++
			}
			p.of.Release(n)
			list = append(list, n)
		}
		return list
	}
	free := []int64{3, 3 << 18, 4, 1 << 20}
	require.Equal(t, free, all())
	require.True(t, c.room(l, large))
	require.Equal(t, []int64{2, 0, 3, 0}, all())
	require.False(t, c.room(l, large))
	require.Equal(t, []int64{2, 0, 3, 0}, all(), "what had no room took nothing")
	c.release(large)
	require.Equal(t, free, all())
}

// Half of the queue must be free, not counting lanes that hang; if all lanes hang, there is no room.
func TestTheRoomOfTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := prepared(Limits{Lanes: 2, QueueMessages: 8})
		fill := func(lane, n int) {
			for len(c.lanes[lane].queue) > 0 {
				<-c.lanes[lane].queue
			}
			for range n {
				c.lanes[lane].queue <- &Message{}
			}
		}
		began := time.Now()
		for _, s := range []struct {
			queued [2]int
			hangs  [2]bool
			roomy  bool
		}{
			{[2]int{4, 0}, [2]bool{}, true},
			{[2]int{4, 1}, [2]bool{}, false},
			{[2]int{2, 2}, [2]bool{}, true},
			{[2]int{4, 2}, [2]bool{true, false}, true},
			{[2]int{4, 3}, [2]bool{true, false}, false},
			{[2]int{0, 0}, [2]bool{true, true}, false},
		} {
			for i := range c.lanes {
				fill(i, s.queued[i])
				c.lanes[i].began.Store(nil)
				if s.hangs[i] {
					c.lanes[i].began.Store(&began)
				}
			}
			require.False(t, c.hangs(&c.lanes[0]), "not before the patience is over")
			time.Sleep(c.Limits.Patience)
			require.Equal(t, s.hangs[0], c.hangs(&c.lanes[0]))
			require.Equal(t, s.roomy, c.roomy(), "%+v", s)
			began = time.Now()
		}
	})
}

// Blocked messages use half of the queue by number and by bytes; the first one is kept whatever its size.
func TestWhatMayWait(t *testing.T) {
	of := func(size int) *item {
		it := batchOf("n1", 1)
		it.message = &Message{Topic: topic, Payload: make([]byte, size)}
		return it
	}
	for name, s := range map[string]struct {
		sizes []int
		want  int
	}{
		"by number":       {[]int{1, 1, 1, 1, 1, 1}, 4},
		"by bytes":        {[]int{1 << 18, 1 << 18, 1}, 2},
		"just too large":  {[]int{1 << 18, 1<<18 + 1}, 1},
		"a large one":     {[]int{1 << 20}, 1},
		"with another":    {[]int{1 << 20, 1}, 1},
		"and those after": {[]int{1, 1 << 20, 1, 1}, 3},
	} {
		c, _ := prepared(Limits{QueueMessages: 8, QueueMiB: 1})
		for _, of := range []**semaphore.Weighted{&c.bytes, &c.slots, &c.lanes[0].bytes, &c.lanes[0].slots} {
			*of = semaphore.NewWeighted(math.MaxInt64) // places are not the subject here
		}
		w := newWaiting(c, 0)
		refused := 0
		for _, size := range s.sizes {
			it := of(size)
			require.True(t, c.room(&c.lanes[0], it.message))
			before := len(w.items)
			w.push(it)
			refused += 1 - (len(w.items) - before)
		}
		require.Len(t, w.items, s.want, name)
		require.EqualValues(t, refused, c.Counts.Refused.Load(), name)
		require.Equal(t, refused > 0, c.owed.Load(), name)
	}
}

// Three nodes are named, each once, and a long name is truncated.
func TestTheNodesThatWaitAreNamed(t *testing.T) {
	for want, nodes := range map[string][]string{
		"no node": {""}, "node n1": {"n1", "n1", ""}, "node n1, n2, n3": {"n1", "n2", "n3", "n1"}, "nodes n1, n2, n3 and others": {"n1", "n2", "n3", "n4"},
		"node " + strings.Repeat("n", 64) + "…": {strings.Repeat("n", 65)},
	} {
		w := &waiting{}
		for _, node := range nodes {
			it := batchOf(node, 1)
			if node == "" {
				it = &item{letter: &store.Letter{}}
			}
			w.items = append(w.items, it)
		}
		require.Equal(t, want, w.nodes())
	}
}

// Each message must be of its topic's node and kind, with names and sequences that the tables can store.
func TestMessagesOfAnotherNodeOrKind(t *testing.T) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	opener := seal.NewOpener(nil, seal.Limits{})
	gone := func(node, epoch string, r ...seal.GoneRange) []byte {
		msg, err := sealer.SealGone(nil, &seal.Gone{ID: "1", Node: node, Epoch: epoch, Created: time.Now(), Ranges: r})
		require.NoError(t, err)
		return msg
	}
	confirm := func(node string) []byte {
		msg, err := sealer.SealConfirmation(nil, &seal.Confirmation{ID: "1", Node: node, Created: time.Now(), Results: []seal.ConfirmedResult{{ID: "7-1", Refused: strings.Repeat("x", textMax+1)}}})
		require.NoError(t, err)
		return msg
	}
	long := strings.Repeat("n", namesMax+1)
	span := func(first, last uint64) seal.GoneRange {
		return seal.GoneRange{Range: seal.Range{First: first, Last: last}, Reason: "full"}
	}
	batch := edgeOf(t, "n1").Batch(t, 1, 1)
	for name, c := range map[string]struct {
		topic  string
		msg    []byte
		reason string
	}{
		"gone":                     {"offload/v1/n1/gone", gone("n1", "e", span(1, 2)), ""},
		"gone of another":          {"offload/v1/n2/gone", gone("n1", "e", span(1, 2)), "wrong topic"},
		"gone of a long epoch":     {"offload/v1/n1/gone", gone("n1", long, span(1, 2)), "malformed"},
		"gone beyond all":          {"offload/v1/n1/gone", gone("n1", "e", span(1, 2), span(5, math.MaxInt64)), "malformed"},
		"gone, of a batch":         {"offload/v1/n1/gone", batch, "malformed"},
		"confirmation":             {"offload/v1/n1/confirm", confirm("n1"), ""},
		"confirmation of another":  {"offload/v1/n2/confirm", confirm("n1"), "wrong topic"},
		"confirmation of a long":   {"offload/v1/" + long + "/confirm", confirm(long), "malformed"},
		"confirmation, of a batch": {"offload/v1/n1/confirm", batch, "malformed"},
		"batch":                    {"offload/v1/n1/batch/x", batch, ""},
		"batch of another":         {"offload/v1/n2/batch/x", batch, "wrong topic"},
		"of no kind":               {"offload/v1/n1/receipt", batch, "wrong topic"},
		"of no topic of ours":      {"n1/batch", batch, "wrong topic"},
	} {
		it := open(opener, &Message{Topic: c.topic, Payload: c.msg})
		if c.reason != "" {
			require.NotNil(t, it.letter, name)
			require.Equal(t, c.reason, it.letter.Reason, "%s: %s", name, it.letter.Detail)
			require.Empty(t, it.node(), name)
			require.Zero(t, it.records, name)
			require.Len(t, storable([]*item{it}, false).Letters, 1)
			continue
		}
		require.Nil(t, it.letter, "%s: %+v", name, it.letter)
		require.Equal(t, "n1", it.node(), name)
		require.LessOrEqual(t, it.records, 1)
		if it.gone != nil {
			require.Equal(t, &store.Gone{Node: "n1", Epoch: "e", Spans: []ranges.Span{{First: 1, Last: 2, Fate: "full"}}}, it.gone)
			require.Zero(t, it.records)
			require.Len(t, it.message.Payload, it.bytes)
		}
		if it.confirmed != nil {
			require.Equal(t, 1, it.records)
			require.LessOrEqual(t, len(it.confirmed.Results[0].Refused), textMax+len("…"))
		}
		if it.batch != nil {
			require.Len(t, it.batch.Records[0].Raw, it.bytes)
		}
	}
	it := open(opener, &Message{Topic: "offload/v1/n1/batch/x", Cut: 70 << 20})
	require.Equal(t, "too large", it.letter.Reason)
	require.Contains(t, it.letter.Detail, "73400320 bytes")
}

// A batch that takes too long is stored in parts. If one record alone takes too long, or is locked, it and the records after it are blocked. Other
// messages are blocked as a whole.
func TestWhatIsLeftOfABatchInParts(t *testing.T) {
	for name, s := range map[string]struct {
		err     error
		it      *item
		slow    bool
		stored  int
		blocked bool
	}{
		"one is slow":      {errSlow, batchOf("n1", 8), true, 5, true},
		"one is locked":    {errLocked, batchOf("n1", 8), true, 4, true},
		"none":             {nil, batchOf("n1", 8), true, 8, false},
		"locked before":    {nil, batchOf("n1", 8), false, 0, true},
		"no batch":         {nil, &item{message: &Message{}, gone: &store.Gone{Node: "n1"}}, true, 0, true},
		"of an odd number": {nil, batchOf("n1", 7), true, 7, false},
	} {
		c, db := prepared(Limits{})
		stored := 0
		if s.it.batch != nil {
			for i := range s.it.batch.Records {
				s.it.batch.Records[i].Sequence = uint64(i)
			}
		}
		db.failing(func(g *store.Group) error {
			require.True(t, g.Hasty, name)
			records := g.Batches[0].Records
			if last := records[len(records)-1].Sequence; s.err != nil && last >= 5 {
				return s.err
			}
			require.EqualValues(t, stored, records[0].Sequence, name)
			stored += len(records)
			return nil
		})
		o := &outcome{held: map[string]bool{}}
		require.NoError(t, c.storeParts(t.Context(), s.it, o, s.slow))
		require.Equal(t, s.stored, stored, name)
		if s.blocked {
			require.Equal(t, []*item{s.it}, o.blocked, name)
			require.Equal(t, map[string]bool{"n1": true}, o.held, name)
			require.Empty(t, o.done, name)
			if s.it.batch != nil {
				require.Len(t, s.it.batch.Records, 8-stored, name)
			}
			continue
		}
		require.Empty(t, o.blocked, name)
		require.Equal(t, []*item{s.it}, o.done, name)
		require.NotEmpty(t, o.results, name)
	}
}
