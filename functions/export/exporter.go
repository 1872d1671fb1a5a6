// Package export sends batches to the broker and receives the receipts.
//
// An Exporter takes batches from the scheduler while its window has room, seals them, publishes them with QoS 1 in the order in which it took them,
// and reports a batch to the spool as done when it is confirmed: by the consumer's receipt or, if so configured, by the broker's acknowledgement. A
// batch with an unknown fate is published again: nothing is lost, and the consumer ignores repetitions by (node, epoch, sequence). After a connection
// is lost, publishing restarts at the first unacknowledged batch. This keeps the order per device and class, except for messages that a broker
// acknowledged and then lost, or delivers more than a second later.
//
// The exporter blocks neither the spool nor the intake. Memory is bounded by the window. If the link is down for longer than Config.ReleaseAfter, the
// window is released too, and a broker whose acknowledgements are late gets no more messages until it acknowledges again. All goroutines have ended
// when Run returns.
//
// The files, and the owner of the state in each:
//
//	exporter.go   the Exporter and Run, whose goroutine owns the window; it alone calls the methods of window;
//	              counters, with a lock of their own
//	serve.go      one connection (round): the loop of that goroutine, and the feeder that waits for the scheduler
//	write.go      the round's writer, which seals and publishes, and the goroutine that awaits acknowledgements
//	session.go    dialling and subscribing with functions/mqtt; no state
//	window.go     batches in flight; classes.go: those of one class; confirm.go: acknowledgements, receipts and timeouts
//	suspects.go   batches in the window that the broker refused, and records that are dropped
//	consumer.go   messages of the consumer: announcements, limits, receipts, results and gaps; opened on the reading goroutine
//	holds.go      the reasons why records do not leave
//
// The other goroutines pass their findings to the owner of the window as functions (Exporter.events, round.post).
package export

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"app-offload/functions/batch"
	"app-offload/functions/clock"
	"app-offload/functions/host"
	"app-offload/functions/link"
	"app-offload/functions/mqtt"
	"app-offload/functions/say"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
)

// Batches is the part of the scheduler that the exporter uses; *batch.Scheduler implements it.
type Batches interface {
	Next(ctx context.Context) (*batch.Batch, error)
	SetLimit(bytes int)
	// Exclude sets the classes of which Next returns no batches for now.
	Exclude(classes map[string]bool)
	Drain()
}

// Spool is the part of the spool that the exporter uses; *spool.Spool implements it.
type Spool interface {
	Done(seqs []uint64)
	Release(seqs []uint64)
	Drop(seqs []uint64, reason string)
	FateRun(seq uint64) (fate string, last uint64)
	Floor() uint64
	Epoch() string
	// Session identifies this opening of the spool.
	Session() string
	// NewEpoch begins a new epoch and ends all leases.
	NewEpoch() (string, error)
	Fill() (records, bytes int64, share float64)
	// Flows reports whether the link works; while it does not, fresh records may become backlog.
	Flows(now bool)
}

// Sealer creates messages; *seal.Sealer implements it.
type Sealer interface {
	Seal(dst []byte, b *seal.Batch) ([]byte, error)
	SealGone(dst []byte, g *seal.Gone) ([]byte, error)
	SealConfirmation(dst []byte, c *seal.Confirmation) ([]byte, error)
	// Obey keeps messages within a consumer's limits.
	Obey(limits seal.ConsumerLimits)
}

// Opener opens messages from the cloud; *seal.Opener implements it.
type Opener interface {
	OpenReceipt(msg []byte) (*seal.Receipt, error)
	OpenResult(msg []byte) (*seal.Result, error)
	OpenAnnouncement(msg []byte) (*seal.Announcement, error)
}

// Logger is the exporter's logger; EdgeX's LoggingClient implements it.
type Logger = say.Logger

// Credentials are the node's secrets for the broker.
type Credentials = mqtt.Credentials

// Deps are the dependencies of an Exporter. The callbacks may be nil; they must not block.
type Deps struct {
	Node    string
	Batches Batches
	Spool   Spool
	Sealer  Sealer
	Opener  Opener
	Log     Logger
	// Credentials reads the node's secrets again for each connection. It is not called if AuthMode is "none". An error is retried: secrets may arrive
	// late.
	Credentials func() (Credentials, error)
	// MaxPacket is the largest message accepted from the broker, in bytes; 0 means 4 MiB. Larger ones are skipped and counted.
	MaxPacket int
	// OnReceipted is called with confirmed records, after the spool was updated.
	OnReceipted func(records []spool.Record)
	// OnResult is called with the result of a task in the cloud, possibly from several goroutines.
	OnResult func(r seal.Result)
	// OnProgress is called when the broker has acknowledged a message, so the link may have room again. It may be called from several goroutines.
	OnProgress func()
	// Topics returns further topics to subscribe to, each with its receiver, which is called on the client's goroutine in the order of the messages
	// and must not block. The exporter continues without a topic that the broker refuses. A changed set applies from the next connection on. Topics
	// may be nil, and is called from several goroutines.
	Topics func() map[string]func(message []byte)
}

// Exporter sends batches to the broker. Run drives it; the other methods are safe for concurrent use.
type Exporter struct {
	deps   Deps
	cfg    Config
	times  times
	dialer dialer
	link   *link.Link
	stats  *stats

	events  chan func() // for the owner of the window
	rotate  chan struct{}
	closing chan struct{}
	close   sync.Once
	stop    context.CancelFunc
	stopped context.Context
	done    chan struct{} // closed when Run returns
	begin   sync.Once
	earlier time.Time // until when statements for an earlier start are expected

	// Owned by the goroutine of Run.
	window     window
	backoff    mqtt.Backoff
	gone       time.Time // since when the link is down
	hold       time.Time // until when publishing is paused because sealing failed
	flow       uint64    // number of the current run of jobs; a failure to seal begins a new one
	drained    bool
	lastGone   string
	statements []job                  // about gone records, to be published
	confirming []seal.ConfirmedResult // to be confirmed to the cloud
	letters    []job                  // from other parts of the node
	goneAt     time.Time
	reported   say.Once   // problems, by kind
	asides     *say.Every // dropped records, by reason
	rivals     mqtt.Rival
	conflictAt time.Time // time of the latest attempt at a new epoch
	consumer   seal.ConsumerLimits
	maxMessage lowest
	maxData    lowest
	greeted    string // the consumer that announced itself last, quoted
	holds      holds
	said       say.Once        // the holds that were logged
	excluded   map[string]bool // as last passed to the scheduler
	wrong      *say.Every      // rejected statements, by kind
}

// New returns an exporter; Run starts it.
func New(cfg Config, deps Deps) (*Exporter, error) {
	t, err := cfg.parse()
	if err != nil {
		return nil, fmt.Errorf("export configuration: %w", err)
	}
	if cfg.AuthMode != mqtt.AuthNone && deps.Credentials == nil {
		return nil, fmt.Errorf("export: AuthMode %s needs a source of credentials", cfg.AuthMode)
	}
	x := &Exporter{
		deps: deps, cfg: cfg, times: t, link: link.New(), stats: newStats(),
		events: make(chan func(), 64), rotate: make(chan struct{}, 1), closing: make(chan struct{}),
		done: make(chan struct{}), asides: say.NewEvery(10 * time.Minute), wrong: say.NewEvery(time.Minute), rivals: mqtt.Rival{After: 5},
		backoff: mqtt.Backoff{Low: t.backoffMin, High: t.backoffMax}, earlier: time.Now().Add(afterStart),
	}
	x.stopped, x.stop = context.WithCancel(context.Background())
	x.window = window{limits: limits{
		batches: cfg.MaxInflight, bytes: cfg.MaxInflightKiB << 10, confirmReceipt: cfg.Confirm == ConfirmReceipt,
		receiptTimeout: t.receipt, ackTimeout: t.ack, refusedTries: cfg.RefusedTries, unheards: cfg.UnreceiptedTries,
		dropOversized: cfg.Oversized == OversizedDrop, trialPause: trialPause,
	}}
	needed := ""
	if cfg.Confirm == ConfirmReceipt {
		needed = seal.ReceiptTopic(deps.Node)
	}
	if x.deps.Topics == nil {
		x.deps.Topics = func() map[string]func([]byte) { return nil }
	}
	x.dialer = newDialer(x, needed)
	return x, nil
}

// topics returns the topics for a new connection.
func (x *Exporter) topics() map[string]byte {
	topics := map[string]byte{seal.ReceiptTopic(x.deps.Node): 1, seal.ResultTopic(x.deps.Node): 1, seal.AnnouncementTopic: 1}
	for topic := range x.deps.Topics() {
		topics[topic] = 1
	}
	return topics
}

// Link returns the measurements of the link to the cloud. It does not lock.
func (x *Exporter) Link() host.Link { return x.link.State() }

// Ahead is Link for a decision now: InflightBytes excludes the bytes that have left by now at the measured goodput. It does not lock.
func (x *Exporter) Ahead() host.Link { return x.link.Ahead(time.Now()) }

// Stats returns the counters.
func (x *Exporter) Stats() Stats { return x.stats.load() }

// Rotate opens a new connection with the current secrets, and closes the old one once the new one works.
func (x *Exporter) Rotate() {
	select {
	case x.rotate <- struct{}{}:
	default:
	}
}

// Close sends the remaining fresh records, waits for their confirmation as long as ctx allows and a consumer responds, and disconnects. Unconfirmed
// records stay in the spool and are sent after the next start: that is not an error. It may be called twice.
func (x *Exporter) Close(ctx context.Context) error {
	x.begin.Do(func() { close(x.done) }) // a Run that has not begun returns immediately
	x.close.Do(func() { close(x.closing) })
	defer x.stop()
	select {
	case <-x.done:
		return nil
	case <-ctx.Done():
		x.stop()
		<-x.done
		x.deps.Log.Infof("export stopped before all batches were confirmed; they stay in the spool and are sent after the next start")
		return nil
	}
}

// Run exports until ctx ends or Close is called. It may be called once.
func (x *Exporter) Run(ctx context.Context) error {
	first := false
	x.begin.Do(func() { first = true })
	if !first {
		select {
		case <-x.closing:
			return nil
		default:
			return errors.New("export: Run was called twice")
		}
	}
	defer close(x.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(x.stopped, cancel)()
	var watch sync.WaitGroup
	watch.Go(func() { x.watchBacklog(ctx) })
	defer watch.Wait()
	defer cancel()
	defer x.giveBack()

	x.gone = time.Now()
	var s *mqtt.Session
	for ctx.Err() == nil {
		if s == nil {
			s = x.connect(ctx)
		}
		if s != nil {
			s = x.serve(ctx, s)
		}
		if s == nil && !x.rest(ctx) {
			break
		}
	}
	if s != nil {
		s.End(mqtt.ErrStopped, disconnectGrace)
	}
	x.link.Close()
	return nil
}

// disconnectGrace is how long disconnecting from the broker may take.
const disconnectGrace = 250 * time.Millisecond

// watchBacklog keeps the backlog in the link's snapshot current, also while the link is down.
func (x *Exporter) watchBacklog(ctx context.Context) {
	t := clock.NewTicker(500 * time.Millisecond)
	for {
		x.link.Backlog(x.deps.Spool.Fill())
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// connect makes one attempt and returns nil if it fails. Receipts that the broker kept for the node may arrive before the attempt is complete; they
// are processed meanwhile.
func (x *Exporter) connect(ctx context.Context) *mqtt.Session {
	over := make(chan dialed, 1)
	go func() {
		s, trip, err := x.dialer.dial(ctx)
		over <- dialed{s, trip, err}
	}()
	for {
		select {
		case f := <-x.events:
			f()
		case d := <-over:
			return x.connected(ctx, d)
		}
	}
}

// dialed is the result of an attempt to connect.
type dialed struct {
	session *mqtt.Session // nil on an error
	trip    time.Duration
	err     error
}

// connected processes the result of an attempt.
func (x *Exporter) connected(ctx context.Context, d dialed) *mqtt.Session {
	if d.err == nil {
		x.holds.clear(holdSubscribe)
		x.link.RoundTrip(d.trip, time.Now())
		x.stats.do(func(s *Stats) { s.Connections++ })
		x.reported.Clear()
		x.deps.Log.Infof("connected to the broker: url=%s", x.cfg.Broker)
		return d.session
	}
	if ctx.Err() == nil {
		kind := "connect"
		if k, ok := errors.AsType[*kindError](d.err); ok {
			kind = k.kind
		}
		if kind == "subscribe" {
			x.holds.set(holdSubscribe, "", d.err.Error())
		}
		x.stats.do(func(s *Stats) {
			if !s.Connected { // the attempt may have been for a replacement, while a connection still works
				s.Problem = d.err.Error()
			}
		})
		x.complain(kind, d.err)
	}
	return nil
}

// rest waits before the next attempt, and returns false if there will be none. If the link stays down, it releases the window, so that an outage
// holds no memory.
func (x *Exporter) rest(ctx context.Context) bool {
	again := time.NewTimer(x.backoff.Next())
	defer again.Stop()
	release := time.NewTimer(max(0, x.times.release-time.Since(x.gone)))
	defer release.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-x.closing:
			return false // without a link there is nothing to wait for
		case <-x.rotate:
			return true // new secrets may fix the connection
		case <-release.C:
			x.giveBack()
		case <-again.C:
			return true
		}
	}
}

// giveBack ends all leases of the window.
func (x *Exporter) giveBack() {
	x.deps.Spool.Release(x.window.release())
	x.report()
}

// report publishes the window's occupancy.
func (x *Exporter) report() {
	w := &x.window
	unacked := 0
	for _, e := range w.entries {
		if e.phase != acked {
			unacked++
		}
	}
	held, silence := x.held(time.Now()), ""
	if w.silent() {
		silence = x.silence()
	}
	x.stats.do(func(s *Stats) {
		s.Inflight, s.InflightBytes, s.Unacked = len(w.entries), w.bytes, unacked
		s.ReceiptsSilent, s.Resent = w.silent(), uint64(w.resent)
		s.Silence = silence
		s.Holds, s.Isolated = held, len(w.isolated)
	})
}

// receive is called by the client for each message, in order. The message is acknowledged when it returns.
func (x *Exporter) receive(s *mqtt.Session, m mqtt.Message) {
	if m.Oversized > 0 {
		return // counted by oversized
	}
	switch m.Topic {
	case seal.ReceiptTopic(x.deps.Node):
		x.openReceipt(s, m.Payload)
	case seal.ResultTopic(x.deps.Node):
		x.openResult(m.Payload)
	case seal.AnnouncementTopic:
		x.openAnnouncement(s, m.Payload)
	default:
		if !x.deliverLetter(m.Topic, m.Payload) {
			x.stats.failed("unexpected_topic")
		}
	}
}

// Stats counts what the exporter did since its start, and describes its current state.
type Stats struct {
	Published   uint64            `json:"published"`   // batches published to the broker, including repetitions
	Acked       uint64            `json:"acked"`       // batches acknowledged by the broker
	Receipted   uint64            `json:"receipted"`   // records confirmed, by receipt or, if so configured, by PUBACK
	Resent      uint64            `json:"resent"`      // batches published again because of a missing receipt or a gap
	Connections uint64            `json:"connections"` // established; all after the first are reconnections
	SetAside    uint64            `json:"setAside"`    // records dropped; the spool counts them by reason
	Epochs      uint64            `json:"epochs"`      // new epochs begun because another spool uses the same one
	Repeats     uint64            `json:"repeats"`     // repetitions of unreceipted batches requested by a consumer's announcement
	Gone        uint64            `json:"gone"`        // records reported to the consumer as gone
	Results     uint64            `json:"results"`     // results received
	Confirmed   uint64            `json:"confirmed"`   // results confirmed to the cloud
	Bytes       uint64            `json:"bytes"`       // message bytes acknowledged
	Errors      map[string]uint64 `json:"errors"`      // by kind

	Inflight       int    `json:"inflight"`      // batches in flight
	InflightBytes  int    `json:"inflightBytes"` // bytes of their records
	Unacked        int    `json:"unacked"`       // of those batches, not acknowledged
	Connected      bool   `json:"connected"`
	Problem        string `json:"problem,omitempty"` // why there is no connection, for users
	ReceiptsSilent bool   `json:"receiptsSilent"`    // the broker acknowledges, but no receipts arrive
	Silence        string `json:"silence,omitempty"` // the remedy for that, for users

	Isolated int                 `json:"isolated"` // records that were refused alone and do not block others
	Holds    []Hold              `json:"holds"`    // why records do not leave although the link is up
	Consumer seal.ConsumerLimits `json:"consumer"` // the limits that the consumer announced
}

// stats is a Stats with a lock. The lock is never held during calls to other parts.
type stats struct {
	mu sync.Mutex
	s  Stats
}

func newStats() *stats { return &stats{s: Stats{Errors: map[string]uint64{}}} }

func (s *stats) do(f func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.s)
}

func (s *stats) failed(kind string) { s.do(func(s *Stats) { s.Errors[kind]++ }) }

func (s *stats) load() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.s
	c.Errors, c.Holds = maps.Clone(c.Errors), append([]Hold{}, c.Holds...)
	return c
}

// complain counts a failure, and logs it unless it repeats the previous one.
func (x *Exporter) complain(kind string, err error) {
	x.stats.failed(kind)
	if x.reported.Changed(kind, err) {
		x.deps.Log.Warnf("export failed, retrying: error=%q", err)
		return
	}
	x.deps.Log.Debugf("export still failing: error=%q", err)
}
