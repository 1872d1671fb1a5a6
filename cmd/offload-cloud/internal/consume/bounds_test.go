package consume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
)

// A node name with a meaning in a URL must not direct a receipt to another topic.
func TestReceiptsArePostedToTheirNodeAlone(t *testing.T) {
	posts := make(chan string, 100)
	router := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { posts <- r.URL.EscapedPath() + "?" + r.URL.RawQuery }))
	defer router.Close()
	h := NewHTTP(HTTPConfig{Replies: router.URL + "/{node}/up"})
	for node, want := range map[string]string{
		"n1": "n1", "x#y": "x%23y", "x?y": "x%3Fy", "x%2fy": "x%252fy", "a b": "a%20b", "ü": "%C3%BC", "x;y": "x%3By", "..x": "..x", "x\\y": "x%5Cy",
	} {
		require.NoError(t, h.Publish(t.Context(), []Outgoing{{seal.ReceiptTopic(node), []byte("{}")}}), node)
		require.Equal(t, "/"+want+"/up/"+want+"/receipt?", <-posts)
	}
	for _, node := range []string{".", ".."} {
		require.Error(t, h.Publish(t.Context(), []Outgoing{{seal.ReceiptTopic(node), []byte("{}")}}), node)
	}
	// An unreachable node does not affect others, and an announcement has no node.
	require.Error(t, h.Publish(t.Context(), []Outgoing{{seal.ReceiptTopic(".."), nil}, {seal.AnnouncementTopic, nil}, {seal.ReceiptTopic("n2"), nil}}))
	require.Equal(t, "/n2/up/n2/receipt?", <-posts)
	require.Empty(t, posts)
}

// Concurrent large posts wait for each other, and an oversized post is refused before it is read.
func TestPostsAreReadWithinALimit(t *testing.T) {
	h := NewHTTP(HTTPConfig{Max: 1000, Reading: 2000, Log: slog.New(slog.DiscardHandler)})
	var mu sync.Mutex
	reading, most := 0, 0
	post := func(length int64) int {
		body := &slowBody{left: 1000, begin: func(by int) {
			mu.Lock()
			defer mu.Unlock()
			reading += by
			most = max(most, reading)
		}}
		r := httptest.NewRequest(http.MethodPost, "/"+topic, body)
		r.ContentLength = length
		w := httptest.NewRecorder()
		h.receive(w, r, func(*Message) bool { return true })
		return w.Code
	}
	require.Equal(t, http.StatusRequestEntityTooLarge, post(1001))
	require.Zero(t, most, "nothing of it was read")
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { require.Equal(t, http.StatusAccepted, post([]int64{1000, -1}[i%2])) })
	}
	all.Wait()
	require.LessOrEqual(t, most, 2)
}

// slowBody reports the begin and the end of reading.
type slowBody struct {
	left  int
	begin func(by int)
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		b.begin(-1)
		return 0, io.EOF
	}
	if b.left == 1000 {
		b.begin(1)
		time.Sleep(time.Millisecond)
	}
	n := min(len(p), 100, b.left)
	b.left -= n
	return n, nil
}

// An oversized message is skipped while it is read, acknowledged in order and quarantined without its content; the others pass.
func TestMQTTSkipsWhatIsTooLarge(t *testing.T) {
	address := mosquittotest.Start(t, "")
	in := make(chan *Message, 10)
	m := NewMQTT(MQTTConfig{URL: "tcp://" + address, ID: "consumer", Max: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	subscribed := make(chan struct{}, 10)
	m.OnSubscribed(func() { subscribed <- struct{}{} })
	require.NoError(t, m.Start(t.Context(), func(m *Message) bool { in <- m; go m.Ack(); return true }))
	<-subscribed
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + address).SetClientID("sender"))
	require.NoError(t, wait(client.Connect()))
	defer client.Disconnect(10)
	for _, size := range []int{10, 1 << 20, 20 << 20, 11} {
		require.NoError(t, wait(client.Publish(topic, 1, false, bytes.Repeat([]byte{0x7f}, size))))
	}
	require.Len(t, (<-in).Payload, 10)
	require.Len(t, (<-in).Payload, 1<<20)
	cut := <-in
	require.Empty(t, cut.Payload)
	require.Greater(t, cut.Cut, int64(20<<20))
	it := open(seal.NewOpener(nil, seal.Limits{}), cut)
	require.Equal(t, "too large", it.letter.Reason)
	require.Contains(t, it.letter.Detail, fmt.Sprint(cut.Cut))
	require.Len(t, (<-in).Payload, 11)

	m.Redeliver() // a new connection is a new subscription
	<-subscribed
	m.Close()
}

// The stored texts of any message are short, and printable text stays readable.
func TestTextsAreBoundedAndEscapedOnce(t *testing.T) {
	for text, want := range map[string]string{
		`key "k1"`: `key "k1"`, "a\x1b[2Jb": `a\x1b[2Jb`, "tab\t": `tab\t`, "\xff\x00": `\xff\x00`, `\x7f`: `\x7f`, "\x7f": `\x7f`, "größer": "größer", "\u202e": `\u202e`, "\uFFFD\x00": "\uFFFD" + `\x00`,
	} {
		require.Equal(t, want, bounded(text, 100))
		require.Equal(t, want, bounded(bounded(text, 100), 100), "escaped once")
	}
	require.Equal(t, "xxxxx…", bounded(strings.Repeat("x", 1000), 5))
	rapid.Check(t, func(t *rapid.T) {
		text := bounded(string(rapid.SliceOf(rapid.Byte()).Draw(t, "text")), 20)
		require.LessOrEqual(t, len(text), 20+10+len("…"))
		require.True(t, isShown(text))
	})

	sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
	require.NoError(t, err)
	large := strings.Repeat("\x7f", 15<<20)
	_, err = sealer.Seal(nil, &seal.Batch{ID: large, Node: "n1", Epoch: "e1", Created: time.Now(), Sequences: []uint64{1}, Tasks: [][]byte{nil}})
	require.Error(t, err)
	require.Less(t, len(err.Error()), 10_000)
	payload := []byte(`{"specversion":"1.0","id":"` + strings.Repeat("\x7f", 15<<20) + `"}`)
	for where, m := range map[string]*Message{
		"a batch's id": {Topic: topic, Payload: payload}, "a topic": {Topic: "offload/v1/" + large[:60_000] + "/batch/x", Payload: []byte("{}")},
		"a kind": {Topic: "offload/v1/n1/" + large[:60_000], Payload: []byte("{}")},
	} {
		it := open(seal.NewOpener(nil, seal.Limits{}), m)
		require.NotNil(t, it.letter, where)
		require.Less(t, len(it.letter.Detail)+len(it.letter.Topic)+len(it.letter.Node), 4000, where)
	}
	require.True(t, utf8.ValidString(fate("\xff\x00\x1b")))
	require.True(t, isShown(fate("\x1b[2J\t\x00")))
}

// hanging is a reader that accepts nothing until it is released.
type hanging struct {
	goOn chan struct{}
	mu   sync.Mutex
	got  int
}

func (h *hanging) Write(p []byte) (int, error) {
	<-h.goOn
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got += bytes.Count(p, []byte{'\n'})
	return len(p), nil
}

// Lines are only a view: a reader that hangs or has exited stops neither storage nor receipts.
func TestAReaderOfLinesHoldsNothingUp(t *testing.T) {
	fresh := func(n, size int) (all []store.Fresh) {
		for range n {
			all = append(all, store.Fresh{Node: "n1", Epoch: "e1", Sequence: 1, Task: textTask(size)})
		}
		return all
	}
	t.Run("it hangs", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counts Counts
			log := &bytes.Buffer{}
			h := &hanging{goOn: make(chan struct{})}
			p := newPrinter(h, &counts, 5*time.Second, slog.New(slog.NewTextHandler(log, nil)))
			began := time.Now()
			for range 100 {
				p.print(fresh(10, 100_000))
			}
			require.LessOrEqual(t, time.Since(began), 6*time.Second, "it is waited for once")
			dropped := counts.LinesDropped.Load()
			require.Greater(t, dropped, int64(800))
			close(h.goOn)
			synctest.Wait()
			for range 2 {
				p.print(fresh(10, 10))
			}
			p.close(time.Second)
			require.Equal(t, 1020, h.got+int(counts.LinesDropped.Load()), "each line is printed or counted")
			require.Equal(t, dropped, counts.LinesDropped.Load())
			require.Equal(t, 1, strings.Count(log.String(), "hangs, dropping lines"))
			require.Equal(t, 1, strings.Count(log.String(), "resumed"))
		})
	})
	t.Run("it hangs with many small ones, and then takes the largest", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counts Counts
			h := &hanging{goOn: make(chan struct{})}
			p := newPrinter(h, &counts, time.Second, slog.New(slog.DiscardHandler))
			for range 2000 {
				p.print(fresh(1, 10))
			}
			dropped := counts.LinesDropped.Load()
			require.Greater(t, dropped, int64(900))
			close(h.goOn)
			for range 3 {
				synctest.Wait()
				p.print(fresh(1, linesMax)) // uses the whole room
			}
			p.close(time.Second)
			require.Equal(t, dropped, counts.LinesDropped.Load())
			require.Equal(t, 2003, h.got+int(dropped))
		})
	})
	t.Run("it hangs at the stop", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &hanging{goOn: make(chan struct{})}
			p := newPrinter(h, &Counts{}, time.Second, slog.New(slog.DiscardHandler))
			p.print(fresh(1, 10))
			p.close(time.Second)
			close(h.goOn)
		})
	})
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"it is gone":       {syscall.EPIPE, "exited, printing no more lines"},
		"its pipe is gone": {&os.PathError{Err: syscall.EPIPE}, "exited, printing no more lines"},
		"it is closed":     {io.ErrClosedPipe, "exited, printing no more lines"},
		"its disk is full": {syscall.ENOSPC, "writing JSON lines failed"},
	} {
		t.Run(name, func(t *testing.T) {
			log := &bytes.Buffer{}
			p := newPrinter(failing{c.err}, &Counts{}, time.Second, slog.New(slog.NewTextHandler(log, nil)))
			for range 10 {
				p.print(fresh(3, 10))
			}
			p.close(time.Minute)
			require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
			require.Contains(t, log.String(), c.want)
		})
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A receipt answers the session of its batches and contains conflicts and the consumer's limits, for any number of ranges.
func TestReceiptsNameSessionConflictsAndLimits(t *testing.T) {
	b := newBench(t, Limits{})
	b.Takes = seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 2 << 20}
	r := store.Receipt{Node: "n1", Epoch: "e1", Session: "s1", Safe: spans(1, 1)}
	for i := range uint64(1500) {
		r.Conflicts = append(r.Conflicts, span(2*i, 2*i))
	}
	out, err := b.sealReceipts([]store.Receipt{r})
	require.NoError(t, err)
	require.Len(t, out, 2)
	conflicts := 0
	for _, o := range out {
		receipt, err := seal.NewOpener(nil, seal.Limits{}).OpenReceipt(o.Payload)
		require.NoError(t, err)
		require.Equal(t, "s1", receipt.Session)
		require.Equal(t, b.Takes, receipt.Limits)
		conflicts += len(receipt.Conflicts)
	}
	require.Equal(t, 1500, conflicts)
	b.noteConflicts([]store.Receipt{r})
	b.noteConflicts([]store.Receipt{r})
	require.Equal(t, 1, strings.Count(b.log.String(), "differ from those stored"))
	require.NoError(t, b.stop())
}

// Workers are woken for jobs alone.
func TestJobsWakeTheWorkers(t *testing.T) {
	woken := 0
	c := &Consumer{Transport: &pipe{}, Log: slog.New(slog.DiscardHandler), OnJobs: func() { woken++ }}
	in := make(chan *stored, 1)
	in <- &stored{results: []*store.Result{{}, {Jobs: 2}}}
	close(in)
	c.confirmAll(t.Context(), in)
	require.Equal(t, 1, woken)
}

// announcing is a pipe whose subscription the test establishes.
type announcing struct {
	*pipe
	subscribed func()
	fail       error
}

func (a *announcing) OnSubscribed(f func()) { a.subscribed = f }

func (a *announcing) Publish(ctx context.Context, out []Outgoing) error {
	return errors.Join(a.fail, a.pipe.Publish(ctx, out))
}

// Each new subscription is announced to the nodes: earlier batches may have had no receiver.
func TestTheConsumerAnnouncesItselfEachTimeItsSubscriptionStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sealer, err := seal.NewSealer(seal.DefaultConfig(), nil)
		require.NoError(t, err)
		a := &announcing{pipe: &pipe{}}
		c := &Consumer{Transport: a, Store: &shelf{}, Sealer: sealer, Log: slog.New(slog.DiscardHandler), Name: "c1", Takes: seal.ConsumerLimits{MaxMessage: 5, MaxData: 6}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx, func() {}) }()
		synctest.Wait()
		require.Empty(t, a.out)
		for i := range 3 {
			a.subscribed()
			synctest.Wait()
			require.Len(t, a.out, i+1)
			require.Equal(t, seal.AnnouncementTopic, a.out[i].Topic)
			said, err := seal.NewOpener(nil, seal.Limits{}).OpenAnnouncement(a.out[i].Payload)
			require.NoError(t, err)
			require.Equal(t, "c1", said.Consumer)
			require.Equal(t, c.Takes, said.Limits)
		}
		cancel()
		require.NoError(t, <-ended)
	})
}
