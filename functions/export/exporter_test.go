package export

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/stretchr/testify/require"

	"app-offload/functions/link"
	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

const anyPort = "127.0.0.1:0"

func TestEverythingIsExportedOnceAndInOrder(t *testing.T) {
	for _, confirm := range []string{ConfirmReceipt, ConfirmPuback} {
		t.Run(confirm, func(t *testing.T) {
			b := startBroker(t, anyPort, nil, nil, nil)
			s := newShelf(t)
			cfg := quick(b.addr)
			cfg.Confirm = confirm
			r := newRig(t, cfg, s, nil)
			for i := range 100 {
				s.put(fmt.Sprint("d", i%7), 10, 50)
			}
			r.settled()
			until(t, "the consumer has all", func() bool { return b.distinct() == 1000 })
			b.look(func() {
				require.Empty(t, b.overtook)
				for seq, n := range b.stored {
					require.Equal(t, 1, n, "record %d", seq)
				}
			})
			until(t, "the counts agree", func() bool { return r.Stats().Receipted == 1000 && r.Stats().Inflight == 0 })
			until(t, "what was published is acknowledged, which receipts may overtake", func() bool { st := r.Stats(); return st.Published == st.Acked })
			st := r.Stats()
			require.Zero(t, st.Resent)
			require.Empty(t, st.Errors)
			require.True(t, st.Connected)
			r.mu.Lock()
			slices.Sort(r.confirmed)
			require.Len(t, slices.Compact(r.confirmed), 1000)
			r.mu.Unlock()
			l := r.Link()
			require.True(t, l.Up)
			require.Positive(t, l.Goodput)
			require.Positive(t, l.RTT)
			require.GreaterOrEqual(t, l.RTT95, 0.0)
			until(t, "statements are acknowledged too", func() bool { return r.Link().InflightBytes == 0 })
		})
	}
}

func TestWithoutReceiptsOneWarningSaysWhatToDo(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.mute = true
	s := newShelf(t)
	cfg := quick(b.addr)
	cfg.ReceiptTimeout, cfg.MaxInflight = "30ms", 4
	began := time.Now()
	r := newRig(t, cfg, s, nil)
	s.put("d", 500, 50)
	until(t, "the silence is noticed", func() bool { return r.Stats().ReceiptsSilent })
	time.Sleep(300 * time.Millisecond)
	st := r.Stats()
	require.Equal(t, 1, st.Inflight, "one batch tries whether there is a consumer, and stays so")
	few := func() uint64 { return 8 + uint64(time.Since(began)/(600*time.Millisecond)) } // twenty timeouts each, after the first
	require.LessOrEqual(t, st.Published, 4+few(), "repetitions are few")
	require.Equal(t, 1, r.log.with("WARN", "start offload-cloud", "all records are kept"))
	require.Zero(t, r.log.with("puback"), "no advice deletes data")
	until(t, "a new connection is tried", func() bool { return r.Stats().Connections >= 2 })
	require.LessOrEqual(t, r.Stats().Connections, 1+few(), "as seldom as a repetition")
	held, leased := s.count()
	require.Equal(t, 500, held)
	require.Equal(t, 10, leased)

	b.look(func() { b.mute = false })
	r.settled()
	require.Positive(t, r.log.with("INFO", "receipts resumed"))
	b.look(func() { require.Empty(t, b.overtook) })
}

func TestGapsAreExplained(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	s.put("d", 10, 50)
	s.Take(5, "a", spool.Live, 7, 1<<20, nil) // 7 stays leased by another taker
	s.Drop([]uint64{1, 2}, "full")
	s.Drop([]uint64{3}, "expired")
	s.remove([]uint64{5}, spool.ReasonExpired)
	s.Release([]uint64{4, 6})
	r := newRig(t, quick(b.addr), s, nil)
	until(t, "the rest is there", func() bool { return b.distinct() == 5 })
	gaps := []seal.Range{{First: 1, Last: 3}, {First: 5, Last: 5}, {First: 7, Last: 7}, {First: 100, Last: 1 << 60}}
	ask := &seal.Receipt{ID: "r", Node: node, Epoch: "e1", Created: time.Now(), Gaps: gaps}
	b.receipt(ask)
	b.receipt(ask) // repeated immediately: answered once
	until(t, "the answer is there", func() bool { n := 0; b.look(func() { n = len(b.gone) }); return n > 0 })
	time.Sleep(50 * time.Millisecond)
	b.look(func() {
		require.Equal(t, []seal.GoneRange{
			{Range: seal.Range{First: 1, Last: 2}, Reason: "full"},
			{Range: seal.Range{First: 3, Last: 3}, Reason: "expired"},
			{Range: seal.Range{First: 5, Last: 5}, Reason: "expired"},
		}, b.gone, "7 is still held, 100 was never given out")
	})
	require.EqualValues(t, 4, r.Stats().Gone)
}

// speechless is a sealer that cannot seal a statement of gone records.
type speechless struct{ *seal.Sealer }

func (speechless) SealGone([]byte, *seal.Gone) ([]byte, error) { return nil, errors.New("no key") }

func TestAGapThatCannotBeExplainedIsCounted(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	s.put("d", 2, 50)
	s.Take(5, "a", spool.Live, 2, 1<<20, nil)
	s.Drop([]uint64{1}, "full")
	r := newRig(t, quick(b.addr), s, func(d *Deps) { d.Sealer = speechless{newSealer(t)} })
	until(t, "it is connected", func() bool { return r.Stats().Connected })
	b.receipt(&seal.Receipt{ID: "r", Node: node, Epoch: "e1", Created: time.Now(), Gaps: []seal.Range{{First: 1, Last: 1}}})
	until(t, "it is counted", func() bool { return r.Stats().Errors["gone"] == 1 })
	require.Zero(t, r.Stats().Gone)
	require.Equal(t, 1, r.log.with("WARN", "no key"))
}

// A receipt names only the first gaps. The answer also names the gone sequences right after them, or a consumer that was down for long would need
// thousands of receipts until it knows all.
func TestTheAnswerTellsOfFurtherGaps(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	s.put("d", 9, 50)
	s.Take(5, "a", spool.Live, 9, 1<<20, nil)
	for _, seq := range []uint64{1, 3, 5} {
		s.Drop([]uint64{seq}, "full")
	}
	s.Done([]uint64{2, 4})
	r := newRig(t, quick(b.addr), s, nil)
	until(t, "it is connected", func() bool { return r.Stats().Connected })
	b.receipt(&seal.Receipt{ID: "q", Node: node, Epoch: "e1", Created: time.Now(), Gaps: []seal.Range{{First: 2, Last: 1}}}) // none
	b.receipt(&seal.Receipt{ID: "r", Node: node, Epoch: "e1", Created: time.Now(), Gaps: []seal.Range{{First: 1, Last: 1}}})
	until(t, "the answer is there", func() bool { n := 0; b.look(func() { n = len(b.gone) }); return n > 0 })
	b.look(func() {
		require.Equal(t, []seal.GoneRange{
			{Range: seal.Range{First: 1, Last: 1}, Reason: "full"},
			{Range: seal.Range{First: 3, Last: 3}, Reason: "full"},
			{Range: seal.Range{First: 5, Last: 5}, Reason: "full"},
		}, b.gone, "2 and 4 are done, the rest is held")
	})
}

func TestReceiptsNobodyCanTrustAreCountedAndIgnored(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.mute = true
	s := newShelf(t)
	r := newRig(t, quick(b.addr), s, nil)
	s.put("d", 10, 50)
	until(t, "the batch is acknowledged", func() bool { return r.Stats().Acked == 1 })

	all := []seal.Range{{First: 0, Last: 1 << 62}}
	plain, err := seal.NewSealer(func() seal.Config { c := seal.DefaultConfig(); c.Cipher = seal.CipherNone; return c }(), nil)
	require.NoError(t, err)
	msg, err := plain.SealReceipt(nil, &seal.Receipt{ID: "x", Node: node, Epoch: "e1", Created: time.Now(), Safe: all})
	require.NoError(t, err)
	b.say(seal.ReceiptTopic(node), msg)
	b.say(seal.ReceiptTopic(node), []byte("{"))
	b.say(seal.ReceiptTopic(node), nil)
	b.say(seal.ResultTopic(node), []byte("nonsense"))
	b.receipt(&seal.Receipt{ID: "x", Node: "gw2", Epoch: "e1", Created: time.Now(), Safe: all})
	b.receipt(&seal.Receipt{ID: "x", Node: node, Epoch: "e0", Created: time.Now(), Safe: all})
	until(t, "all are counted", func() bool {
		e := r.Stats().Errors
		return e["receipt_forged"]+e["receipt_unreadable"] == 3 && e["receipt_foreign"] == 2 && e["result_unreadable"] == 1
	})
	require.Positive(t, r.Stats().Errors["receipt_forged"])
	held, _ := s.count()
	require.Equal(t, 10, held)

	// No receipt confirms a record that was never sent.
	r.halt()
	s.put("d", 1, 50)
	r.receipt(&seal.Receipt{Node: node, Epoch: "e1", Safe: all})
	held, _ = s.count()
	require.Equal(t, 11, held)
}

func TestResultsAreHandedOn(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	r := newRig(t, quick(b.addr), newShelf(t), nil)
	until(t, "the link is up", func() bool { return r.Link().Up })
	for _, n := range []string{node, "gw2"} {
		msg, err := b.sealer.SealResult(nil, &seal.Result{ID: "1", Node: n, Created: time.Now(), EventID: "ev", OK: true, Completed: time.Now()})
		require.NoError(t, err)
		b.say(seal.ResultTopic(node), msg)
	}
	until(t, "both are counted", func() bool { return r.Stats().Results == 1 && r.Stats().Errors["result_foreign"] == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, "ev", r.results[0].EventID)
}

func TestPoisonIsSetAsideAndTheRestGoesOn(t *testing.T) {
	small := func(o *mochi.Options) { o.Capabilities.MaximumPacketSize = 4096 }
	b := startBroker(t, anyPort, nil, small, nil)
	s := newShelf(t)
	cfg := quick(b.addr)
	cfg.RefusedTries = 3
	r := newRig(t, cfg, s, nil)
	s.put("d", 5, 50)
	s.putLarge("d", 8192)
	s.put("d", 50, 50)
	r.settled()
	require.Equal(t, "dropped:"+reasonTooLarge, s.Fate(6))
	b.look(func() {
		require.Len(t, b.stored, 55)
		require.Empty(t, b.overtook)
	})
	require.EqualValues(t, 1, r.Stats().SetAside)
	require.Equal(t, 1, r.log.with("WARN", "dropping record: seq=6 ", "ChunkSize"))
	require.Equal(t, 1, r.log.with("WARN", "export held: reason=too_large", "record 6", "max_packet_size"), "it was named before")
}

// stubborn is a sealer that fails until the test lets it succeed.
type stubborn struct {
	*seal.Sealer
	err atomic.Pointer[error]
}

func (s *stubborn) Seal(dst []byte, b *seal.Batch) ([]byte, error) {
	if err := s.err.Load(); err != nil {
		return dst, *err
	}
	return s.Sealer.Seal(dst, b)
}

func TestAKeyThatComesLateIsAwaited(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	sealer := &stubborn{Sealer: newSealer(t)}
	var err error = &seal.UnknownKeyError{KeyID: "k1"}
	sealer.err.Store(&err)
	r := newRig(t, quick(b.addr), s, func(d *Deps) { d.Sealer = sealer })
	s.put("d", 100, 50)
	until(t, "it is noticed", func() bool { return r.Stats().Errors["seal"] > 0 })
	held, _ := s.count()
	require.Equal(t, 100, held)
	sealer.err.Store(nil)
	r.settled()
	require.Equal(t, 1, r.log.with("WARN", "k1"))
	b.look(func() { require.Empty(t, b.overtook) })
}

func TestABatchThatCannotBecomeAMessageIsCut(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	s := newShelf(t)
	c := protobuf()
	c.MaxMessageKiB = 4
	sealer, err := seal.NewSealer(c, testKeys())
	require.NoError(t, err)
	r := newRig(t, quick(b.addr), s, func(d *Deps) { d.Sealer = sealer })
	for _, size := range []int{1000, 1000, 1000, 1000, 8000, 1000, 8000, 1000, 1000, 1000} {
		s.putLarge("d", size)
	}
	until(t, "all others are gone", func() bool { held, _ := s.count(); return held == 2 })
	require.Equal(t, spool.FateHeld, s.Fate(5))
	require.Equal(t, spool.FateHeld, s.Fate(7))
	b.look(func() {
		require.Len(t, b.stored, 8)
		require.Empty(t, b.overtook)
	})
	until(t, "both are isolated", func() bool { return r.Stats().Isolated == 2 })
	require.Equal(t, 1, r.log.with("WARN", "exceed Seal.MaxMessageKiB of 4096 bytes"), "one line, however many they are")
	require.Equal(t, holdOversized, r.Stats().Holds[0].Reason)
}

// secret is a store of credentials that can change or be empty.
type secret struct {
	mu    sync.Mutex
	value *Credentials
	reads int
}

func (s *secret) get() (Credentials, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.value == nil {
		return Credentials{}, errors.New("no such secret yet")
	}
	return *s.value, nil
}

func (s *secret) set(password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value = &Credentials{Username: "node", Password: password}
}

func TestSecretsMayComeLateAndBeRotated(t *testing.T) {
	g := &gate{password: "canary-one"}
	b := startBroker(t, anyPort, nil, nil, g)
	s, sec := newShelf(t), &secret{}
	cfg := quick(b.addr)
	cfg.AuthMode = mqtt.AuthUsernamePassword
	r := newRig(t, cfg, s, func(d *Deps) { d.Credentials = sec.get })
	s.put("d", 100, 50)
	until(t, "the secret was asked for", func() bool { return r.Stats().Errors["credentials"] > 2 })
	require.Equal(t, 1, r.log.with("WARN", "no such secret yet"), "a repeated failure is told once")
	require.Contains(t, r.Stats().Problem, "no such secret yet")
	sec.set("canary-one")
	r.settled()
	require.Empty(t, r.Stats().Problem)

	// Rotation under load: a new connection opens before the old one closes, and no record is lost or out of order.
	stop := make(chan struct{})
	var feed sync.WaitGroup
	feed.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				if held, _ := s.count(); held < 500 {
					s.put("d", 10, 50)
				}
			}
		}
	})
	for i := range 5 {
		next := fmt.Sprint("canary-", i)
		g.set(next)
		sec.set(next)
		made := r.Stats().Connections
		r.Rotate()
		until(t, "the new connection stands", func() bool { return r.Stats().Connections > made && r.Link().Up })
	}
	// New secrets that do not work leave the old connection alone.
	sec.set("canary-wrong")
	failures := r.Stats().Errors["connect"]
	r.Rotate()
	until(t, "the failure shows", func() bool { return r.Stats().Errors["connect"] > failures+1 })
	require.True(t, r.Link().Up)
	require.Empty(t, r.Stats().Problem, "there is a connection")
	made := r.Stats().Connections
	sec.set("canary-4")
	until(t, "the new secret is used", func() bool { return r.Stats().Connections > made })
	close(stop)
	feed.Wait()
	r.settled()
	b.look(func() { require.Empty(t, b.overtook) })
	require.Zero(t, r.log.with("WARN", "lost"), "the broker ends the old connection for the new one; that is no fault")
	require.Zero(t, r.log.with("canary"), "no secret in any line")
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", *sec.value, *sec.value, *sec.value), "canary")
}

func TestCloseSendsWhatIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("", func(t *testing.T) {
		b := startBroker(t, anyPort, nil, nil, nil)
		s := newShelf(t)
		r := newRig(t, quick(b.addr), s, nil)
		until(t, "the link is up", func() bool { return r.Link().Up })
		s.put("d", 1005, 50)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, r.Close(ctx))
		require.NoError(t, r.Close(ctx), "twice does no harm")
		held, leased := s.count()
		require.Zero(t, held)
		require.Zero(t, leased)
		require.False(t, r.Link().Up)
	})
	goroutinesBack(t, before)
}

func TestCloseEndsWithinItsGrace(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, addr := range map[string]func(t *testing.T) string{
		"broker gone": func(t *testing.T) string { return "127.0.0.1:1" },
		"broker hung": func(t *testing.T) string { return hungBroker(t, 0).addr },
		"hung before it answers the connection": func(t *testing.T) string {
			l, err := net.Listen("tcp", anyPort)
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			return l.Addr().String()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t)
			cfg := quick(addr(t))
			cfg.AckTimeout, cfg.ConnectTimeout = "1m", "1m"
			r := newRig(t, cfg, s, nil)
			s.put("d", 100, 50)
			time.Sleep(50 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			began := time.Now()
			_ = r.Close(ctx)
			require.Less(t, time.Since(began), 20*time.Second, "closing does not wait for the timeouts above")
			held, leased := s.count()
			require.Equal(t, 100, held)
			require.Zero(t, leased, "the leases have ended")
		})
	}
	goroutinesBack(t, before)
}

func TestCloseWithoutRun(t *testing.T) {
	s := newShelf(t)
	x, err := New(DefaultConfig(), Deps{Node: node, Spool: s, Log: &notes{}})
	require.NoError(t, err)
	require.NoError(t, x.Close(t.Context()))
	require.NoError(t, x.Run(t.Context()), "a Run that comes late ends at once")
}

func TestALongOutageHoldsNothing(t *testing.T) {
	b := startBroker(t, anyPort, nil, nil, nil)
	b.mute = true
	s := newShelf(t)
	cfg := quick(b.addr)
	cfg.ReleaseAfter = "100ms"
	r := newRig(t, cfg, s, nil)
	s.put("d", 500, 50)
	until(t, "the window holds something", func() bool { return r.Stats().Acked == 1 })
	b.stop()
	until(t, "the window is returned", func() bool { _, leased := s.count(); return leased == 0 })
	require.Zero(t, r.Stats().InflightBytes)
	require.False(t, r.Link().Up)
	until(t, "the link shows the backlog", func() bool { return r.Link().BacklogTasks == 500 })
	b2 := startBroker(t, b.addr, nil, nil, nil)
	r.settled()
	b2.look(func() { require.Len(t, b2.stored, 500) })
}

// Each duration has limits, which are themselves allowed.
func TestDurationsHaveBounds(t *testing.T) {
	for key, bounds := range map[string][2]time.Duration{
		"ReceiptTimeout": {10 * time.Millisecond, 24 * time.Hour}, "AckTimeout": {10 * time.Millisecond, time.Hour},
		"ConnectTimeout": {10 * time.Millisecond, 10 * time.Minute}, "KeepAlive": {time.Second, 18 * time.Hour},
		"BackoffMin": {time.Millisecond, time.Hour}, "BackoffMax": {time.Millisecond, 24 * time.Hour},
		"ReleaseAfter": {0, 24 * time.Hour}, "LinkAhead": {10 * time.Millisecond, time.Hour}, "ProbeEvery": {0, 24 * time.Hour},
	} {
		for d, ok := range map[time.Duration]bool{bounds[0]: true, bounds[1]: true, bounds[0] - 1: false, bounds[1] + 1: false} {
			c := DefaultConfig()
			c.BackoffMin, c.BackoffMax = "1ms", "24h"
			if key == "BackoffMax" {
				c.BackoffMax = "1ms"
			}
			reflect.ValueOf(&c).Elem().FieldByName(key).SetString(d.String())
			if err := c.Validate(); ok {
				require.NoError(t, err, "%s %s", key, d)
			} else {
				require.ErrorContains(t, err, "Export."+key, d.String())
			}
		}
	}
}

func TestConfig(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"no broker":                   {func(c *Config) { c.Broker = "" }, "Export.Broker"},
		"one of several is wrong":     {func(c *Config) { c.Broker = "tcp://a:1, b" }, "Export.Broker"},
		"unknown scheme":              {func(c *Config) { c.Broker = "http://a:1" }, "unknown scheme; use tcp"},
		"certificates need TLS":       {func(c *Config) { c.AuthMode = mqtt.AuthClientCert }, "must use ssl://"},
		"unknown mode":                {func(c *Config) { c.AuthMode = "token" }, "Export.AuthMode"},
		"the mode needs a secret":     {func(c *Config) { c.AuthMode, c.SecretName = mqtt.AuthUsernamePassword, "" }, "Export.SecretName"},
		"unknown confirmation":        {func(c *Config) { c.Confirm = "hope" }, "Export.Confirm"},
		"a duration is no duration":   {func(c *Config) { c.AckTimeout = "30" }, "Export.AckTimeout"},
		"back-off that shrinks":       {func(c *Config) { c.BackoffMin, c.BackoffMax = "1m", "1s" }, "Export.BackoffMax"},
		"an empty window":             {func(c *Config) { c.MaxInflight = 0 }, "Export.MaxInflight"},
		"a password in the address":   {func(c *Config) { c.Broker = "tcp://u:canary@h:1" }, "secret store"},
		"a client id with a line end": {func(c *Config) { c.ClientID = "gw\n" }, "Export.ClientID"},
		"a client id that is no text": {func(c *Config) { c.ClientID = "gw\xff" }, "Export.ClientID"},
		"all problems, not the first": {func(c *Config) { c.KeepAlive, c.MaxInflightKiB = "0s", 0 }, "Export.MaxInflightKiB"},
	} {
		t.Run(name, func(t *testing.T) {
			c := DefaultConfig()
			tc.change(&c)
			err := c.Validate()
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestClassNamesMakeOneTopicLevel(t *testing.T) {
	require.Equal(t, "default", level(""))
	require.Equal(t, "a_b_c_d", level("a/b+c#d"))
	require.Equal(t, "größe", level("größe"))
	require.False(t, strings.ContainsAny(level("\x00"), "\x00"))
}

// A rotation requested during a connection attempt would be lost with the old secrets: it is repeated.
func TestARotationDuringADialIsMadeUpFor(t *testing.T) {
	for _, again := range []bool{false, true} {
		x := &Exporter{link: link.New(), stats: newStats(), rotate: make(chan struct{}, 1)}
		x.deps.Log, x.backoff = &notes{}, mqtt.Backoff{Low: time.Second, High: time.Second}
		r := &round{x: x, dialing: true}
		if again {
			r.dialNext(t.Context())
		}
		require.Nil(t, r.rotated(t.Context(), dialed{err: errors.New("refused")}))
		require.Len(t, x.rotate, map[bool]int{false: 0, true: 1}[again])
	}
}
