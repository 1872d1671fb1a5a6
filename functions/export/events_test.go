package export

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/batch"
	"app-offload/functions/mqtt"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// idle returns an exporter that does not run: settle processes its events.
func idle(t *testing.T, s store, change func(*Config, *Deps)) (*Exporter, *notes) {
	t.Helper()
	sched, err := batch.New(batch.DefaultConfig(), s, classList{})
	require.NoError(t, err)
	log := &notes{}
	cfg := quick("127.0.0.1:1")
	deps := Deps{Node: node, Batches: sched, Spool: s, Log: log, Sealer: newSealer(t), Opener: seal.NewOpener(testKeys(), seal.Limits{})}
	if change != nil {
		change(&cfg, &deps)
	}
	x, err := New(cfg, deps)
	require.NoError(t, err)
	return x, log
}

func (x *Exporter) settle() {
	for len(x.events) > 0 {
		(<-x.events)()
	}
}

// Messages of other parts of the node wait for a connection, within limits. Messages above the limit are counted, and so are those that arrive faster
// than they are processed.
func TestLettersAreBounded(t *testing.T) {
	var got []string
	x, _ := idle(t, newShelf(t), func(_ *Config, d *Deps) {
		d.Topics = func() map[string]func([]byte) {
			return map[string]func([]byte){"offload/v1/gw1/model": func(m []byte) { got = append(got, string(m)) }}
		}
	})
	for n := range maxLetters + 2 {
		x.Send("t", fmt.Append(nil, n))
		x.settle()
	}
	require.Len(t, x.letters, maxLetters)
	require.Equal(t, job{topic: "t", message: []byte("63")}, x.letters[63])
	require.EqualValues(t, 2, x.Stats().Errors["letters_full"])
	for range cap(x.events) + 3 {
		x.Send("t", nil)
	}
	require.EqualValues(t, 5, x.Stats().Errors["letters_full"])
	x.settle()

	x.Confirm(make([]seal.ConfirmedResult, maxConfirming))
	x.Confirm(make([]seal.ConfirmedResult, 1))
	x.settle()
	require.Len(t, x.confirming, maxConfirming)
	require.EqualValues(t, 1, x.Stats().Errors["confirm_full"])
	for range cap(x.events) + 2 {
		x.Confirm(nil)
	}
	require.EqualValues(t, 3, x.Stats().Errors["confirm_full"])
	x.settle()

	for _, m := range []mqtt.Message{
		{Topic: "offload/v1/gw1/model", Payload: []byte("m")},
		{Topic: "elsewhere", Payload: []byte("e")},
		{Topic: "offload/v1/gw1/model", Oversized: 9},
	} {
		x.receive(nil, m)
	}
	require.Equal(t, []string{"m"}, got)
	require.EqualValues(t, 1, x.Stats().Errors["unexpected_topic"])
	require.Equal(t, map[string]byte{
		"offload/v1/gw1/model": 1, seal.ReceiptTopic(node): 1, seal.ResultTopic(node): 1, seal.AnnouncementTopic: 1,
	}, x.dialer.topics())
}

// An unusable configuration creates no exporter.
func TestNewRefuses(t *testing.T) {
	cfg := quick("127.0.0.1:1")
	cfg.AckTimeout = "soon"
	_, err := New(cfg, Deps{Node: node})
	require.ErrorContains(t, err, "export configuration: ")
	require.ErrorContains(t, err, "AckTimeout")
	cfg = quick("127.0.0.1:1")
	cfg.AuthMode = mqtt.AuthUsernamePassword
	_, err = New(cfg, Deps{Node: node})
	require.ErrorContains(t, err, "AuthMode usernamepassword needs a source of credentials")
	_, err = New(cfg, Deps{Node: node, Credentials: func() (Credentials, error) { return Credentials{}, nil }})
	require.NoError(t, err)
}

// Run can be called once, and not after Close.
func TestRunIsCalledOnce(t *testing.T) {
	x, _ := idle(t, newShelf(t), nil)
	ended := make(chan error)
	go func() { ended <- x.Run(t.Context()) }()
	until(t, "it tries to connect", func() bool { return x.Stats().Errors["connect"] > 0 })
	require.EqualError(t, x.Run(t.Context()), "export: Run was called twice")
	require.NoError(t, x.Close(t.Context()))
	require.NoError(t, <-ended)
	require.NoError(t, x.Run(t.Context()))
}

// Statements and results for another node, with a wrong seal, or unreadable are counted by kind and ignored.
func TestStatementsThatCannotBeReadAreCounted(t *testing.T) {
	x, log := idle(t, newShelf(t), nil)
	plain, err := seal.NewSealer(func() seal.Config { c := seal.DefaultConfig(); c.Cipher = seal.CipherNone; return c }(), nil)
	require.NoError(t, err)
	announcement, err := plain.SealAnnouncement(nil, &seal.Announcement{ID: "a", Consumer: "c", Created: time.Now()})
	require.NoError(t, err)
	result, err := plain.SealResult(nil, &seal.Result{ID: "1", Node: node, Created: time.Now(), EventID: "ev", OK: true, Completed: time.Now()})
	require.NoError(t, err)
	for range 3 {
		x.openAnnouncement(nil, announcement)
		x.openAnnouncement(nil, []byte("{"))
		x.openResult(result)
		x.openResult([]byte("{"))
	}
	x.settle()
	require.Equal(t, map[string]uint64{"announcement_forged": 3, "announcement_unreadable": 3, "result_forged": 3, "result_unreadable": 3}, x.Stats().Errors)
	require.Zero(t, x.Stats().Results)
	require.Zero(t, x.Stats().Repeats)
	require.Equal(t, 1, log.with("WARN", "reason=announcement_forged"), "one line a minute")
}

// The consumer's limits apply as soon as they are known; none blocks everything, and a statement without limits changes nothing.
func TestLimitsThatAreToldAreObeyed(t *testing.T) {
	x, log := idle(t, newShelf(t), nil)
	for _, row := range []struct {
		told, want seal.ConsumerLimits
		lines      int
	}{
		{seal.ConsumerLimits{}, seal.ConsumerLimits{}, 0},
		{seal.ConsumerLimits{MaxMessage: 1, MaxData: 1}, seal.ConsumerLimits{MaxMessage: leastMessage, MaxData: leastMessage}, 1},
		{seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 2 << 20}, seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 2 << 20}, 2},
		{seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 2 << 20}, seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 2 << 20}, 2},
		{seal.ConsumerLimits{}, seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 2 << 20}, 2},
		{seal.ConsumerLimits{MaxData: 3 << 20}, seal.ConsumerLimits{MaxData: 3 << 20}, 3},
	} {
		x.announced(&seal.Announcement{Limits: row.told})
		require.Equal(t, row.want, x.Stats().Consumer)
		require.Equal(t, row.lines, log.with("INFO", "consumer announced its limits"))
	}
}

// Consumers that share a subscription may have different limits, as while they are updated one after the other: the lower ones hold as long as
// receipts name them.
func TestTheLowestLimitsOfSeveralConsumersHold(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *window) {
		x, log := idle(t, newShelf(t), nil)
		low, high := seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 8 << 20}, seal.ConsumerLimits{MaxMessage: 2 << 20, MaxData: 4 << 20}
		receipt := func(l seal.ConsumerLimits) seal.ConsumerLimits {
			x.receipt(&seal.Receipt{Limits: l})
			return x.Stats().Consumer
		}
		require.Equal(t, high, receipt(high))
		for range 20 {
			time.Sleep(limitsLast / 10)
			require.Equal(t, seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 4 << 20}, receipt(low))
			require.Equal(t, seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 4 << 20}, receipt(high))
			require.Equal(t, seal.ConsumerLimits{MaxMessage: 1 << 20, MaxData: 4 << 20}, receipt(seal.ConsumerLimits{}))
		}
		require.Equal(t, 2, log.with("INFO", "consumer announced its limits"))
		time.Sleep(limitsLast)
		require.Equal(t, high, receipt(high), "the other consumer is gone")
		x.announced(&seal.Announcement{Limits: low})
		require.Equal(t, low, x.Stats().Consumer, "a consumer that has subscribed may have replaced the others")
	})
}

// The message about a silent consumer names the remedy, by what is known of the consumer.
func TestSilenceSaysWhatToDo(t *testing.T) {
	x, _ := idle(t, newShelf(t), nil)
	require.Contains(t, x.silence(), "no receipt has arrived for 2s; all records are kept: start offload-cloud for node \"gw1\"")
	x.announced(&seal.Announcement{Consumer: "c1"})
	require.Contains(t, x.silence(), "consumer=\"c1\" has announced itself at this broker; start offload-cloud if it is not running; otherwise check that the broker's access rules let this node read offload/v1/gw1/receipt")
}

// stuckSpool cannot begin a new epoch.
type stuckSpool struct {
	*shelf
	err error
}

func (s *stuckSpool) NewEpoch() (string, error) {
	if s.err != nil {
		return "", s.err
	}
	return s.shelf.NewEpoch()
}

// While a new epoch cannot begin, a conflict is a hold and is retried after a pause; then all records leave under the new epoch.
func TestAnEpochThatCannotBeginIsAHold(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, _ *window) {
		s := &stuckSpool{shelf: newShelf(t), err: errors.New("disk is read-only")}
		x, log := idle(t, s, nil)
		s.put("d", 3, 10)
		x.window.add(&batch.Batch{Class: "a", Records: s.Take(5, "a", spool.Live, 3, 1<<20, nil)})
		at := []seal.Range{{First: 7, Last: 9}}
		x.conflict(at, time.Now())
		list := x.held(time.Now())
		require.Len(t, list, 1)
		require.Equal(t, holdEpoch, list[0].Reason)
		require.Contains(t, list[0].Text, "under epoch e1, and a new one could not be begun: disk is read-only")
		require.Len(t, x.window.entries, 1)
		require.Equal(t, 1, log.with("WARN", "disk is read-only"))

		s.err = nil
		time.Sleep(conflictPause - 1)
		x.conflict(at, time.Now())
		require.Equal(t, "e1", s.Epoch())
		time.Sleep(time.Nanosecond)
		x.conflict(at, time.Now())
		require.Equal(t, "e2", s.Epoch())
		require.Empty(t, x.held(time.Now()))
		require.Empty(t, x.window.entries)
		_, leased := s.count()
		require.Zero(t, leased)
		require.EqualValues(t, 1, x.Stats().Epochs)
		require.EqualValues(t, 3, x.Stats().Errors["conflict"])
		require.Equal(t, 1, log.with("WARN", "seq=7", "newEpoch=e2"))
	})
}

// A record is dropped with its reason and counted; the log has the first of a reason, and later ones rarely.
func TestWhatIsGivenUpIsDroppedAndNamed(t *testing.T) {
	s := newShelf(t)
	x, log := idle(t, s, nil)
	s.put("d", 6, 10)
	s.Take(5, "a", spool.Live, 6, 1<<20, nil)
	x.window.asides = []aside{{[]uint64{1, 2}, "a", 20, reasonTooLarge, "why"}, {[]uint64{3}, "a", 10, reasonTooLarge, "why"}, {[]uint64{4}, "a", 10, reasonMalformed, "how"}}
	x.window.given = []uint64{6}
	x.setAside()
	x.setAside()
	require.EqualValues(t, 4, x.Stats().SetAside)
	for seq, fate := range map[uint64]string{1: "dropped:too_large", 2: "dropped:too_large", 3: "dropped:too_large", 4: "dropped:malformed", 5: spool.FateHeld, 6: spool.FateHeld} {
		require.Equal(t, fate, s.Fate(seq), seq)
	}
	held, leased := s.count()
	require.Equal(t, [2]int{2, 1}, [2]int{held, leased})
	require.Equal(t, 1, log.with("WARN", "dropping record: seq=1 ", `detail="why" count=2`))
	require.Equal(t, 1, log.with("DEBUG", "dropping record: seq=3 ", "bytes=10 reason=too_large"))
	require.Equal(t, 1, log.with("WARN", "dropping record: seq=4 ", "how"))
}

// An acknowledgement shows that the connection works: the backoff is reset. An empty message shows no more; a batch is counted.
func TestAnAcknowledgementShowsThatTheConnectionWorks(t *testing.T) {
	x, _ := idle(t, newShelf(t), nil)
	for _, message := range [][]byte{nil, []byte("letter")} {
		r := &round{x: x}
		fresh := x.backoff
		x.backoff.Next()
		x.window.warm, x.window.probing = false, true
		r.puback(job{message: message}, time.Now())
		require.True(t, r.acked)
		require.Equal(t, fresh, x.backoff)
		require.Equal(t, message == nil, x.window.warm)
		require.Zero(t, x.Stats().Acked)
	}
	x.window.add(load(1, 2))
	attempt := x.window.publish(x.window.next(time.Now()), time.Now())
	(&round{x: x}).puback(job{attempt: attempt, message: make([]byte, 7)}, time.Now())
	require.EqualValues(t, 1, x.Stats().Acked)
	require.EqualValues(t, 7, x.Stats().Bytes)
}

// unknowing is a spool that knows only the records it holds.
type unknowing struct{ *shelf }

func (unknowing) FateRun(uint64) (string, uint64) { return spool.FateUnknown, 1 << 40 }

// The answer to a gap is why its records will never arrive: dropped, also above the oldest held record, or too long ago. Held and unassigned
// sequences get no answer.
func TestWhyARecordWillNeverCome(t *testing.T) {
	s := newShelf(t)
	x, _ := idle(t, s, nil)
	s.put("d", 5, 10)
	s.Take(5, "a", spool.Live, 5, 1<<20, nil)
	s.Drop([]uint64{3}, "full")
	s.Done([]uint64{4})
	for seq, want := range map[uint64]string{1: "", 3: "full", 4: spool.FateDone, 5: "", 6: "", 99: ""} {
		reason, _ := x.fate(seq, s.Floor())
		require.Equal(t, want, reason, seq)
	}
	ranges, count := x.fates([]seal.Range{{First: 1, Last: 3}})
	require.Equal(t, []seal.GoneRange{{Range: seal.Range{First: 3, Last: 3}, Reason: "full"}}, ranges)
	require.EqualValues(t, 1, count)

	x.deps.Spool = unknowing{s}
	reason, last := x.fate(2, 4)
	require.Equal(t, "unknown", reason)
	require.EqualValues(t, 3, last, "from 4 on they may be there")
	reason, _ = x.known(2, 4)
	require.Empty(t, reason, "the consumer has not asked for it")
	reason, last = x.fate(4, 4)
	require.Empty(t, reason)
	require.EqualValues(t, int64(1)<<40, last)
}

// limiting records the limit of batches.
type limiting struct {
	Batches
	limit int
}

func (l *limiting) SetLimit(bytes int) { l.limit = bytes }

// Batches are as large as an unmeasured link may be given immediately, and no larger than the known limits of broker and consumer.
func TestBatchesFollowWhatIsKnownOfTheirWay(t *testing.T) {
	l := &limiting{}
	x, _ := idle(t, newShelf(t), func(_ *Config, d *Deps) { d.Batches = l })
	for name, row := range map[string]struct{ ceiling, consumer, want int }{
		"nothing is known":         {0, 0, unmeasuredAhead / 4},
		"the broker takes less":    {5000, 0, 5000},
		"the broker takes more":    {1 << 20, 0, unmeasuredAhead / 4},
		"the consumer takes more":  {0, 16 << 20, unmeasuredAhead / 4},
		"a record alone may leave": {1, 0, 1},
	} {
		x.window.ceiling, x.consumer.MaxMessage = row.ceiling, int64(row.consumer)
		x.tune()
		require.Equal(t, row.want, l.limit, name)
	}
	x.window.ceiling, x.consumer.MaxMessage = 0, 8<<10
	x.tune()
	require.Less(t, l.limit, 8<<10)
	require.Positive(t, l.limit)
}
