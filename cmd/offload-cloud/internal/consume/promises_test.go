package consume

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/offload-cloud/internal/store"
	"app-offload/functions/task"
)

// prepared returns a consumer on a shelf, without a transport.
func prepared(limits Limits) (*Consumer, *shelf) {
	db := &shelf{}
	c := &Consumer{Log: slog.New(slog.DiscardHandler), Store: db, Limits: limits}
	c.prepare()
	return c, db
}

// batchOf returns an opened message of a node with the given number of records.
func batchOf(node string, records int) *item {
	return &item{message: &Message{}, batch: &store.Batch{Node: node, Records: make([]store.Record, records)}, records: records}
}

// The first attempt waits for a lock as long as the database allows. Attempts that split its group do not.
func TestAttemptsAfterABlockedOneAreHasty(t *testing.T) {
	c, db := prepared(Limits{})
	var hasty []bool
	db.failing(func(g *store.Group) error {
		hasty = append(hasty, g.Hasty)
		if touches(g, "n2") {
			return errLocked
		}
		return nil
	})
	o := &outcome{held: map[string]bool{}}
	require.NoError(t, c.storeGroup(t.Context(), []*item{batchOf("n1", 1), batchOf("n2", 1), batchOf("n3", 1)}, o))
	require.Equal(t, []bool{false, true, true, true, true}, hasty, "all; n1; n2 and n3; n2; n3")
	require.ErrorIs(t, o.why, errLocked)
	require.Len(t, o.done, 2)
	require.Len(t, o.blocked, 1)
	require.Equal(t, "n2", o.blocked[0].node())
	require.Zero(t, o.misses, "the last one passed")
}

// A successful transaction of the maximum size increases the limit of the next one.
func TestAGroupThatPassesLetsTheNextGrow(t *testing.T) {
	c, _ := prepared(Limits{GroupRecords: 100})
	c.groupMax.Store(8)
	require.NoError(t, c.storeGroup(t.Context(), []*item{batchOf("n1", 7)}, &outcome{}))
	require.EqualValues(t, 8, c.groupMax.Load())
	require.NoError(t, c.storeGroup(t.Context(), []*item{batchOf("n1", 4), batchOf("n2", 4)}, &outcome{}))
	require.EqualValues(t, 10, c.groupMax.Load())
}

// The pause before blocked messages are retried doubles with each blocked attempt, and starts again once no message is blocked.
func TestThePauseOfThoseThatWait(t *testing.T) {
	c, _ := prepared(Limits{BackoffMin: time.Second, BackoffMax: 5 * time.Second})
	w := newWaiting(c, 0)
	defer w.stop()
	blocked := func(why error) time.Duration {
		w.add(&outcome{blocked: []*item{batchOf("n1", 1)}, why: why})
		return w.pause
	}
	require.Nil(t, w.again())
	require.Equal(t, time.Second, blocked(nil), "they begin to wait")
	require.NotNil(t, w.again())
	require.Equal(t, time.Second, blocked(nil), "what only keeps its place behind them was not tried")
	require.Equal(t, 2*time.Second, blocked(errLocked))
	w.take()
	require.Equal(t, 4*time.Second, blocked(errLocked))
	require.Equal(t, 5*time.Second, blocked(errLocked))
	w.take()
	w.add(&outcome{})
	require.Zero(t, w.pause)
	require.Equal(t, time.Second, blocked(errLocked))
}

// A lane whose transaction has ended does not hang, even without messages.
func TestAnIdleLaneDoesNotHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, db := prepared(Limits{Patience: time.Second})
		db.failing(func(*store.Group) error {
			require.False(t, c.hangs(&c.lanes[0]))
			time.Sleep(time.Second)
			require.True(t, c.hangs(&c.lanes[0]))
			return nil
		})
		c.storeItems(t.Context(), []*item{batchOf("n1", 1)}, false, newWaiting(c, 0), make(chan *stored, 1))
		time.Sleep(time.Hour)
		require.False(t, c.hangs(&c.lanes[0]))
		require.True(t, c.roomy())
	})
}

// The log has the first quarantined message of each reason, and the first time that blocked messages may fill a broker's window, until no message is blocked.
func TestWhatIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		for i := range 3 {
			b.pipe.send(fmt.Sprint("m", i), topic, []byte("no batch"))
			b.pipe.send(fmt.Sprint("w", i), "offload/v1/n1/other", b.edge.Batch(t, 1, 1))
			synctest.Wait()
		}
		b.pipe.send("good", topic, b.edge.Batch(t, 1, 1))
		for round := range uint64(2) {
			b.shelf.failing(func(*store.Group) error { return errLocked })
			for i := range uint64(windowMin + 1) {
				b.pipe.send(fmt.Sprint(i), topic, b.edge.Batch(t, 1, 30*round+i+2))
			}
			time.Sleep(time.Minute)
			b.shelf.failing(nil)
			time.Sleep(time.Minute)
		}
		require.NoError(t, b.stop())
		log := b.log.String()
		require.Equal(t, 2, strings.Count(log, "message quarantined"), log)
		require.Contains(t, log, "reason=malformed")
		require.Contains(t, log, `reason="wrong topic"`)
		require.Equal(t, 2, strings.Count(log, "max_inflight_messages"))
		require.Equal(t, 2, strings.Count(log, "rows are locked"))
	})
}

// While the broker rejects answers, they are taken from the database only now and then; without a connection none are taken.
func TestAnswersThatCannotBePublishedAreNotHurried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &desk{}
		c, p, _, _, stop := computing(t, d)
		set := func(down bool, lost error) (looks int) {
			p.mu.Lock()
			p.down, p.lost = down, lost
			p.mu.Unlock()
			d.mu.Lock()
			d.answers, d.looks = nil, 0
			for n := range 20 * answersMax {
				d.answers = append(d.answers, &store.Answered{ID: fmt.Sprint(n, "-c"), Node: "n1", EventID: "e", At: time.Now(), Sends: 1})
			}
			d.mu.Unlock()
			time.Sleep(time.Second)
			synctest.Wait()
			d.mu.Lock()
			defer d.mu.Unlock()
			return d.looks
		}
		require.Zero(t, set(true, nil))
		require.InDelta(t, time.Second/answersLook, set(false, errors.New("gone")), 1)
		require.Positive(t, c.Counts.ResultsFailed.Load())
		require.Zero(t, c.Counts.Results.Load())
		require.GreaterOrEqual(t, set(false, nil), 20, "all that is due, once it can be published")
		stop()
	})
}

// turns is a writer with the given sequence of failures.
type turns []error

func (w *turns) Write(p []byte) (int, error) {
	err := (*w)[0]
	*w = (*w)[1:]
	return len(p), err
}

// A writer of lines is logged each time that it begins to fail, and not while it works.
func TestFailingLinesAreLoggedOnce(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		results turns
		logged  int
	}{{turns{nil, nil}, 0}, {turns{nil, broken, broken, nil}, 1}, {turns{broken, nil, broken}, 2}} {
		var log bytes.Buffer
		n := len(c.results)
		p := newPrinter(&c.results, &Counts{}, time.Second, slog.New(slog.NewTextHandler(&log, nil)))
		for range n {
			p.push([]byte("{}\n"))
		}
		p.close(time.Minute)
		require.Empty(t, c.results)
		require.Equal(t, c.logged, strings.Count(log.String(), "writing JSON lines failed"), log.String())
	}
}

// A failure is logged when it begins and when it ends, and accepted dead letters are not a failure.
func TestAFailureIsLoggedWhenItBeginsAndEnds(t *testing.T) {
	var log bytes.Buffer
	c := &Consumer{Log: slog.New(slog.NewTextHandler(&log, nil))}
	logged := func(levels ...string) {
		t.Helper()
		var have []string
		for line := range strings.Lines(log.String()) {
			have = append(have, regexp.MustCompile(`level=(\w+)`).FindStringSubmatch(line)[1])
		}
		require.Equal(t, levels, have, log.String())
		log.Reset()
	}
	for range 2 {
		c.noteFull(&store.Result{Letters: 1})
	}
	logged()
	for range 2 {
		c.noteFull(&store.Result{Letters: 1, LettersRefused: 1})
		c.noteFull(&store.Result{})
	}
	logged("ERROR")
	for range 2 {
		c.noteFull(&store.Result{Letters: 1})
	}
	logged("INFO")
	c.noteFull(&store.Result{LettersRefused: 1})
	logged("ERROR")
}

// A node whose name is not allowed in topics costs the others no receipt, in any position.
func TestWhatNoTopicMayHaveIsLeftOut(t *testing.T) {
	for at := range 3 {
		out := []Outgoing{{"a", nil}, {"b", nil}, {"c", nil}}
		out[at].Topic = "x+y"
		fit, err := sendable(out, "+#\x00")
		require.ErrorContains(t, err, `"x+y"`)
		require.Equal(t, slices.Delete(slices.Clone(out), at, at+1), fit)
	}
}

// An unreachable cluster is logged as such, once, and not as a stream that is not ready.
func TestAClusterThatIsNotReachedIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	ctx, cancel := context.WithCancel(t.Context())
	lines, out := io.Pipe()
	n := NewNATS(NATSConfig{URLs: "nats://" + listener.Addr().String(), Durable: "d", Log: slog.New(slog.NewTextHandler(out, nil))})
	ended := make(chan error, 1)
	go func() {
		ended <- n.Start(ctx, func(*Message) bool { return true })
		_ = out.Close()
	}()
	first, err := bufio.NewReader(lines).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, first, "cannot connect to a server of the cluster, still trying")
	require.Contains(t, first, "no servers available")
	cancel()
	go func() { _, _ = io.Copy(io.Discard, lines) }()
	require.ErrorIs(t, <-ended, context.Canceled)
	n.Close()
}

// Close waits for the message that is being delivered: its acknowledgement still reaches the server.
func TestClosingWaitsForTheMessageBeingDelivered(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	conn, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: mqttStream, Subjects: []string{mqttPrefix + ">"}})
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), mqttPrefix+"offload.v1.n1.batch.default", nil)
	require.NoError(t, err)

	n, begun := NewNATS(NATSConfig{URLs: s.ClientURL(), Durable: "d", Log: slog.New(slog.DiscardHandler)}), make(chan struct{})
	require.NoError(t, n.Start(t.Context(), func(m *Message) bool {
		close(begun)
		for begin := time.Now(); !n.conn.IsClosed() && time.Since(begin) < 200*time.Millisecond; { // Close does not close it before the end of this
			runtime.Gosched()
		}
		m.Ack()
		return true
	}))
	<-begun
	n.Close()
	consumer, err := js.Consumer(t.Context(), mqttStream, "d")
	require.NoError(t, err)
	info, err := consumer.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.NumAckPending)
}

// Posts share a connection: the responses are read completely.
func TestPostsShareAConnection(t *testing.T) {
	var connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, strings.Repeat("x", 3000)) }))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()
	h := NewHTTP(HTTPConfig{Replies: server.URL})
	for range 5 {
		require.NoError(t, h.Publish(t.Context(), []Outgoing{{"offload/v1/n1/receipt", []byte("x")}}))
	}
	require.EqualValues(t, 1, connections.Load())
}

// A broken router is not tried for each receipt, and not after the timeout.
func TestPostsThatFailEnd(t *testing.T) {
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer server.Close()
	h := NewHTTP(HTTPConfig{Replies: server.URL})
	out := make([]Outgoing, 2*errorsMax)
	for i := range out {
		out[i] = Outgoing{"offload/v1/n1/receipt", []byte("x")}
	}
	require.ErrorContains(t, h.Publish(t.Context(), out), "502")
	require.EqualValues(t, errorsMax, asked.Load())
	over, cancel := context.WithCancel(t.Context())
	cancel()
	err := h.Publish(over, out)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 0, strings.Count(err.Error(), "\n"), "the first failure ends it")
	require.EqualValues(t, errorsMax, asked.Load())
}

// A consumer subscribes to batches and statements about gone records, to confirmations if it publishes results, or to the given topics instead.
func TestMQTTSubscribesToItsTopics(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  MQTTConfig
		want []string
	}{
		"batches":       {MQTTConfig{}, []string{"offload/v1/+/batch/#", "offload/v1/+/gone"}},
		"confirmations": {MQTTConfig{Confirm: true}, []string{"offload/v1/+/batch/#", "offload/v1/+/gone", "offload/v1/+/confirm"}},
		"a group":       {MQTTConfig{Share: "g"}, []string{"$share/g/offload/v1/+/batch/#", "$share/g/offload/v1/+/gone"}},
		"others":        {MQTTConfig{Below: []string{"a/b", "+/c"}, Confirm: true}, []string{"offload/v1/a/b", "offload/v1/+/c"}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan []string, 10)
			c.cfg.URL, c.cfg.ID, c.cfg.Log = "tcp://"+deaf(t, 0, asked), "consumer", slog.New(slog.DiscardHandler)
			m := NewMQTT(c.cfg)
			require.NoError(t, m.Start(t.Context(), (&inbox{}).deliver))
			defer m.Close()
			require.ElementsMatch(t, c.want, <-asked)
		})
	}
}

// A lock on the whole table is detected after a number of attempts, for any number of messages.
func TestALockOnEverythingIsFoundOut(t *testing.T) {
	c, db := prepared(Limits{})
	attempts := 0
	db.failing(func(*store.Group) error { attempts++; return errLocked })
	var items []*item
	for i := range 1000 {
		items = append(items, batchOf(fmt.Sprint("n", i), 1))
	}
	o := &outcome{held: map[string]bool{}}
	require.NoError(t, c.storeGroup(t.Context(), items, o))
	require.Equal(t, missesMax+1, attempts)
	require.Len(t, o.blocked, len(items))
	require.Equal(t, missesMax+1, o.misses)
}

// New messages use the normal lock timeout, blocked ones a short one.
func TestOnlyWhatHasWaitedIsHasty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Limits{})
		var hasty []bool
		b.shelf.failing(func(g *store.Group) error {
			hasty = append(hasty, g.Hasty)
			if len(hasty) == 1 {
				return errLocked
			}
			return nil
		})
		b.pipe.send("one", topic, b.edge.Batch(t, 1, 1))
		time.Sleep(time.Minute)
		b.pipe.send("two", topic, b.edge.Batch(t, 1, 2))
		time.Sleep(time.Minute)
		require.NoError(t, b.stop())
		require.Equal(t, []bool{false, true, false}, hasty)
	})
}

// Refused messages are requested from the broker once there is room and the store works, and not before.
func TestWhatWasRefusedIsAskedForWhenItCanBeTaken(t *testing.T) {
	c, _ := prepared(Limits{QueueMessages: 2})
	p := &pipe{}
	c.Transport = p
	c.requestRedelivery()
	require.Zero(t, p.asked(), "nothing was refused")
	c.refused.Store(true)
	c.Counts.StoreUp.Store(false)
	c.requestRedelivery()
	require.Zero(t, p.asked(), "the store fails")
	c.Counts.StoreUp.Store(true)
	c.lanes[0].queue <- &Message{}
	c.lanes[0].queue <- &Message{}
	c.requestRedelivery()
	require.Zero(t, p.asked(), "there is no room")
	<-c.lanes[0].queue
	c.requestRedelivery()
	c.requestRedelivery()
	require.Equal(t, 1, p.asked())
}

// A closed listener accepts no posts, and a listener that was never opened can be closed.
func TestAClosedListenerTakesNoPosts(t *testing.T) {
	require.EqualValues(t, []int64{postMax, 64 << 20}, []int64{NewHTTP(HTTPConfig{}).cfg.Max, NewHTTP(HTTPConfig{}).cfg.Reading})
	require.EqualValues(t, 100<<20, NewHTTP(HTTPConfig{Max: 100 << 20}).cfg.Reading, "a message fits")
	require.EqualValues(t, 100<<20, NewHTTP(HTTPConfig{Reading: 100 << 20}).cfg.Reading)
	h := NewHTTP(HTTPConfig{Address: "127.0.0.1:0", Log: slog.New(slog.DiscardHandler)})
	h.Close()
	require.NoError(t, h.Start(t.Context(), func(*Message) bool { return true }))
	address := h.addr.String()
	require.True(t, h.Connected())
	h.Close()
	h.Close()
	require.False(t, h.Connected())
	_, err := net.Dial("tcp", address)
	require.Error(t, err)
}

// A broker that accepts messages but does not acknowledge them is named after the timeout.
func TestABrokerThatDoesNotAcknowledge(t *testing.T) {
	m := NewMQTT(MQTTConfig{URL: "tcp://" + deaf(t, 0, make(chan []string, 10)), ID: "consumer", Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, m.Start(t.Context(), (&inbox{}).deliver))
	defer m.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := m.Publish(ctx, []Outgoing{{"offload/v1/n1/receipt", []byte("x")}})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, "publishing to offload/v1/n1/receipt: the broker does not acknowledge")
}

// A line contains the whole record, readable if that is exact, without unnecessary JSON escapes, for any number of lines.
func TestLinesHaveAllOfTheirRecord(t *testing.T) {
	one := &task.Task{
		EventID: "e", Chunk: 1, Of: 2, Device: "<d>", Profile: "p", Source: "s", Resource: "r", Critical: true, Origin: 7, Class: &task.Class{Name: "c"},
		Encoding: task.JSON, Data: []byte(`{"a":"<&>"}`),
	}
	text, broken, bare := *one, *one, *one
	text.Encoding, broken.Data, bare.Encoding, bare.Class = task.Text, []byte("{"), task.CBOR, nil
	var fresh []store.Fresh
	for i, x := range []*task.Task{one, &text, &broken, &bare, textTask(linesMax / 8), one} {
		fresh = append(fresh, store.Fresh{Node: "n", Epoch: "e1", Sequence: uint64(i), Task: x})
	}
	var out bytes.Buffer
	p := newPrinter(&out, &Counts{}, time.Second, slog.New(slog.DiscardHandler))
	p.print(fresh)
	p.close(time.Minute)
	lines := strings.Split(out.String(), "\n")
	require.Len(t, lines, 7)
	const head = `{"node":"n","epoch":"e1","sequence":%d,"event":"e","chunk":1,"of":2,"device":"<d>","profile":"p","source":"s","resource":"r","class":"%s","critical":true,"origin":7,%s}`
	require.Equal(t, fmt.Sprintf(head, 0, "c", `"data":{"a":"<&>"}`), lines[0])
	require.Equal(t, fmt.Sprintf(head, 1, "c", `"dataText":"{\"a\":\"<&>\"}"`), lines[1])
	require.Equal(t, fmt.Sprintf(head, 2, "c", `"dataBase64":"ew=="`), lines[2])
	require.Equal(t, fmt.Sprintf(head, 3, "", `"dataBase64":"eyJhIjoiPCY+In0="`), lines[3])
	require.Equal(t, fmt.Sprintf(head, 5, "c", `"data":{"a":"<&>"}`), lines[5])
}

// The record of a letter is stored at its place, or in a conflict under an epoch of its own, named by its bytes.
func TestTheRecordOfALetterIsOpenedAnew(t *testing.T) {
	raw := textTask(1).Append(nil)
	for reason, epoch := range map[string]string{"record": "e1", store.Conflict: fmt.Sprintf("e1 conflict-%x", sha256.Sum256(raw))[:len("e1 conflict-")+12]} {
		g, err := Open(nil, &store.Letter{Node: "n", Epoch: "e1", Sequence: 7, IsRecord: true, Reason: reason, Raw: raw})
		require.NoError(t, err)
		require.Len(t, g.Batches, 1)
		require.Equal(t, []any{"n", epoch}, []any{g.Batches[0].Node, g.Batches[0].Epoch})
		require.Equal(t, []store.Record{{Sequence: 7, Task: textTask(1), Raw: raw}}, g.Batches[0].Records)
	}
	_, err := Open(nil, &store.Letter{IsRecord: true, Raw: []byte("rubbish")})
	require.Error(t, err)
}

// inNATS is a JetStream message that records what happens to it.
type inNATS struct {
	jetstream.Msg
	data  []byte
	acked *int
	naked *time.Duration
}

func (m inNATS) Data() []byte                           { return m.data }
func (m inNATS) Subject() string                        { return mqttPrefix + toSubject(topic) }
func (m inNATS) Ack() error                             { *m.acked++; return nil }
func (m inNATS) NakWithDelay(after time.Duration) error { *m.naked = after; return nil }

// An oversized message is passed on without its bytes, and a refused message arrives again after a while.
func TestNATSMessagesAreHandedOn(t *testing.T) {
	for size, max := range map[int]int64{0: 0, 9: 0, 10: 10, 11: 10} {
		for _, takes := range []bool{true, false} {
			var got *Message
			n := NewNATS(NATSConfig{Max: max, Log: slog.New(slog.DiscardHandler)})
			n.deliver = func(m *Message) bool { got = m; return takes }
			msg := inNATS{data: bytes.Repeat([]byte{'x'}, size), acked: new(int), naked: new(time.Duration)}
			n.receive(msg)
			require.Equal(t, topic, got.Topic)
			if size > 10 {
				require.EqualValues(t, size, got.Cut)
				require.Empty(t, got.Payload)
			} else {
				require.Zero(t, got.Cut)
				require.Len(t, got.Payload, size)
			}
			require.Equal(t, !takes, *msg.naked > 0)
			require.Zero(t, *msg.acked)
			got.Ack()
			require.Equal(t, 1, *msg.acked)
		}
	}
}
