package functions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"app-offload/functions/answer/desk"
	"app-offload/functions/background"
	"app-offload/functions/batch"
	"app-offload/functions/check"
	"app-offload/functions/clock"
	"app-offload/functions/config"
	"app-offload/functions/decide"
	"app-offload/functions/export"
	"app-offload/functions/feedback"
	"app-offload/functions/fleet"
	"app-offload/functions/forward"
	"app-offload/functions/health"
	"app-offload/functions/host"
	"app-offload/functions/infer"
	"app-offload/functions/intake"
	"app-offload/functions/keys"
	"app-offload/functions/kin"
	"app-offload/functions/ledger"
	"app-offload/functions/local"
	"app-offload/functions/models/delivery"
	"app-offload/functions/receive"
	"app-offload/functions/say"
	"app-offload/functions/score"
	"app-offload/functions/seal"
	"app-offload/functions/shed"
	"app-offload/functions/spool"
	"app-offload/functions/task"
	"app-offload/functions/track"
)

// Logger is the part of EdgeX's LoggingClient that the service uses.
type Logger = say.Logger

// Deps are the service's dependencies.
type Deps struct {
	Name           string // of the service in EdgeX; it recognises its own results by it
	Log            Logger
	Secrets        keys.Secrets
	Publisher      local.Publisher // takes the results of local work
	NoBus          bool            // there is no MessageBus, and Publisher must not be used
	Clock          *clock.Clock    // stamps received events; nil is the machine's clock
	ClosePublisher func() error    // runs after the last result; may be nil
}

// Pipeline is the data path; see pipeline.go. It is safe for concurrent use.
type Pipeline struct {
	ctx    context.Context // ends when local work is to be abandoned
	rules  atomic.Pointer[decide.Rules]
	host   *host.Sampler
	local  *infer.Room // operators and models
	spool  *spool.Spool
	ledger *ledger.Ledger
	drops  *ledger.Drops
	clock  *clock.Clock

	kinship *kin.Kin  // recognises results of an app-offload
	shedder shed.Gate // detects when both paths are overloaded
	parker  parker    // holds parked tasks
	log     Logger

	scheduler *batch.Scheduler
	link      func() host.Link // the current measurement

	feedback *feedback.Feedback

	tracks     track.Tracks[*job] // keep the order per device and class
	working    sync.WaitGroup     // counts events and tasks that are not concluded
	background background.Queue   // work that committer and local workers must not wait for
	heavy      background.Queue   // likewise for classes with a model
	refused    atomic.Int64
	setAside   func(ev *task.Event, cause error) // quarantines an event that can never leave; nil accepts it

	dropLogged atomic.Int64 // time of the last warning about a dropped task
}

// Service is the whole edge service: the pipeline and everything that runs beside it. Call New, Start and Stop in this order and once each; all other
// methods may be called from any goroutine in between.
type Service struct {
	*Pipeline
	*receive.Receiver
	deps      Deps
	keys      *keys.Keyring
	exporter  *export.Exporter
	desk      *desk.Desk // publishes the cloud's answers
	forward   *forward.Forwarder
	member    *fleet.Member
	teller    *teller        // takes prices and the node's balance
	governor  *host.Governor // nil without one
	life      lifecycle
	examining sync.Mutex // held while the facts are read and the health is derived from them
	health    *health.Watch
	started   time.Time
	grace     time.Duration

	mu      sync.Mutex // guards cfg and problem, and serializes reloads
	cfg     config.Config
	problem string // why the last change of the configuration was rejected

	stopping   atomic.Bool
	deliveries atomic.Pointer[infer.Deliveries] // of models, nil where none is accepted
}

// New validates the configuration and opens everything that must be open before the first event, above all the spool. On an error it closes
// everything again.
func New(cfg config.Config, deps Deps) (_ *Service, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("invalid configuration:\n%w", err)
	}
	s := &Service{Pipeline: &Pipeline{log: deps.Log, parker: noParker{}, kinship: kin.New(cfg.Node, deps.Name, cfg.Intake.MaxHops, deps.Log), clock: deps.Clock.Or()}, deps: deps, cfg: cfg, started: time.Now()}
	s.health = health.NewWatch(s.clock)
	for _, remark := range cfg.Remarks() {
		s.log.Warnf("configuration: %s", remark)
	}
	s.grace, _ = time.ParseDuration(cfg.StopGrace) // validated above
	defer func() {
		if err != nil {
			err = errors.Join(err, s.life.stop(context.Background()))
		}
	}()
	for _, open := range []func() error{s.openBus, s.openHost, s.openSpool, s.openRules, s.openLearned, s.openAnswers, s.openExport, s.openLocal, s.openParking, s.openIntake} {
		if err := open(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Service) openBus() error {
	if s.deps.ClosePublisher != nil {
		s.life.onStop("MessageBus", func(context.Context) error { return s.deps.ClosePublisher() })
	}
	return nil
}

func (s *Service) openHost() (err error) {
	s.feedback = feedback.New(feedback.Config{
		Decisions: s.cfg.Writable.Policy.Decisions, Rules: s.rules.Load, Clock: s.clock, Log: s.log,
		Watts: func() float64 { return s.host.State().CoreWatts() },
	})
	if s.host, err = host.New(s.cfg.Host); err != nil {
		return err
	}
	s.governor, err = host.NewGovernor(s.cfg.Host, s.host.State, s.feedback.Lateness, s.log.Infof)
	return err
}

func (s *Service) openSpool() (err error) {
	s.keys = keys.NewKeyring(s.cfg.KeySecret, s.deps.Secrets)
	s.spool, err = spool.Open(s.cfg.Spool.Directory, s.cfg.Spool, spool.WithKeys(s.keys), spool.WithClock(s.clock), spool.WithProblems(func(err error) { s.log.Errorf("spool failed: error=%q", err) }))
	if err != nil {
		return fmt.Errorf("opening the spool in %s: %w", s.cfg.Spool.Directory, err)
	}
	s.life.onStop("spool", func(context.Context) error { return s.spool.Close() })
	saved, err := ledger.Load(s.cfg.Spool.Directory)
	if errors.Is(err, ledger.ErrDamaged) {
		s.log.Warnf("the account of the previous run is damaged, its local tasks are not counted: error=%q", err)
	} else if err != nil {
		return err
	}
	s.ledger = ledger.New(saved, ledger.Of(s.spool.Stats()))
	if s.drops, err = ledger.OpenDrops(s.cfg.Spool.Directory); err != nil && !errors.Is(err, ledger.ErrDamaged) {
		return err
	} else if err != nil {
		s.log.Warnf("cannot load the acknowledged drops, all count as new: error=%q", err)
	}
	s.drops.See(ledger.DroppedByClass(s.spool.Stats().Classes), true)
	s.life.onStop("ledger", func(context.Context) error { return s.saveBooks() })
	return nil
}

func (s *Service) openRules() error {
	model, err := score.New(s.cfg.Writable.Score)
	if err != nil {
		return err
	}
	rules, err := s.cfg.Rules(s.cfg.Writable, model, decide.Local{Reads: s.readsAll, Hard: s.judgedHard}, nil)
	if err != nil {
		return err
	}
	s.rules.Store(rules)
	return nil
}

// readsAll reports whether the local operators read all of a task. No task is decided before s.local exists.
func (s *Service) readsAll(t *task.Task) bool { return s.local.ReadsAll(t) }

// judgedHard reports whether a task for a model is judged hard before its run.
func (s *Service) judgedHard(t *task.Task) bool { return s.local.Judges(t) }

// openLearned loads the learned state of an earlier run, and opens the decision log.
func (s *Service) openLearned() (err error) {
	dir := cmp.Or(s.cfg.LearnedDirectory, s.cfg.Spool.Directory)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("making Offload.LearnedDirectory = %q: %w", dir, err)
	}
	every, _ := time.ParseDuration(s.cfg.LearnedInterval) // validated in New
	if err := s.feedback.OpenLearned(dir, every); err != nil {
		return err
	}
	s.life.onStop("learned state", func(context.Context) error { return s.feedback.CloseLearned() })
	on, err := s.feedback.OpenLog(s.cfg.DecisionLog, s.cfg.DecisionLogMiB, s.cfg.DecisionLogShare)
	if on {
		s.life.onStop("decision log", s.feedback.CloseLog)
	}
	return check.Access(err)
}

// linkMaxKiB is the largest message accepted from the link. Receipts are small; the cloud determines the size of results.
const linkMaxKiB = 4 << 10

func (s *Service) openExport() error {
	rules := s.rules.Load()
	scheduler, err := batch.New(s.cfg.Writable.Batch, s.spool, rules.Classes)
	if err != nil {
		return err
	}
	sealer, err := seal.NewSealer(s.cfg.Seal, s.keys)
	if err != nil {
		return err
	}
	if s.cfg.KeySecret == "" {
		s.log.Warnf("no keys configured: the broker can read batches, and any client that may publish there can send receipts, which delete records on this node, and answers, which it publishes on its MessageBus; set Offload.KeySecret, or restrict access at the broker: topics=%s#",
			seal.TopicRoot)
	}
	s.scheduler = scheduler
	s.exporter, err = export.New(s.cfg.Export, export.Deps{
		Node: s.cfg.Node, Batches: scheduler, Spool: backlogView{s.spool, func() (int64, int64) { return s.parker.Held() }}, Sealer: sealer,
		Opener: seal.NewOpener(s.keys, seal.Limits{MaxMessageKiB: linkMaxKiB}), MaxPacket: linkMaxKiB << 10, Log: s.log,
		Credentials: s.credentials, OnReceipted: s.receipted, OnResult: s.answered, OnProgress: func() { s.parker.Nudge() },
		Topics: s.topics,
	})
	if err != nil {
		return err
	}
	s.openFleet(sealer)
	s.link = s.exporter.Ahead
	s.life.onStop("exporter", s.exporter.Close)
	return nil
}

// receipted takes the records that a receipt confirmed.
func (s *Service) receipted(records []spool.Record) {
	s.feedback.Receipted(records)
	s.parker.Nudge()
}

func (s *Service) openLocal() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	s.ctx = ctx
	s.cfg.Local = s.cfg.Local.Sized(host.MemoryLimit())
	classes, publisher := s.rules.Load().Classes, s.results()
	operators, err := local.New(s.cfg.Local, classes, publisher, s.feedback.Observe)
	if err != nil {
		cancel()
		return err
	}
	s.local, err = infer.Open(ctx, s.cfg.Models, classes, infer.Deps{
		Processor: operators, Publisher: publisher, Clock: s.clock, Log: s.log, LinkUp: func() bool { return s.exporter.Link().Up },
	})
	if err != nil {
		cancel()
		return errors.Join(err, operators.Close(context.Background()))
	}
	s.rules.Load().Model.SetRuns(s.local.Seconds)
	s.local.OnNotice(func(text string) { s.log.Warnf("%s", text) })
	s.host.SetQueue(s.local.Queue)
	s.life.onStop("local processing", func(ctx context.Context) error {
		defer cancel()
		return errors.Join(s.local.Close(ctx), s.drain(ctx)) // the last results may still be on their way to the disk
	})
	if err := s.openDeliveries(); err != nil {
		return err
	}
	s.life.onStop("work in flight", s.drain)
	return nil
}

func (s *Service) openIntake() (err error) {
	s.Receiver, err = receive.Open(s.cfg.Intake, receive.Deps{
		Sink: s.Pipeline, Again: Again{s.Pipeline}, Skip: s.isOwn, Subscriptions: filepath.Join(s.cfg.Spool.Directory, "subscriptions.json"), Log: s.log,
	})
	if err != nil {
		return err
	}
	if s.cfg.Intake.Unsendable == intake.UnsendableRefuse {
		s.setAside = s.SetAside
	}
	// A message that has passed the gate may still be rejected and quarantined.
	s.life.onLast("quarantine", func(context.Context) error { return s.Quarantine.Close() })
	s.life.onStop("models", s.local.Shut) // tasks that wait for a model go to the spool
	s.life.onStop("orderer", s.Orderer.Close)
	s.life.onStop("gate", func(context.Context) error {
		s.Gate.Shut() // events that have passed the gate are awaited by "work in flight"
		return nil
	})
	return nil
}

// isOwn reports whether a message on the topic is a result of this service that no class takes. It counts such messages.
func (s *Service) isOwn(topic string) bool {
	if !local.OwnTopic(topic, s.deps.Name) || s.rules.Load().Classes.Takes(s.cfg.Node, s.deps.Name) {
		return false
	}
	s.kinship.Own()
	return true
}

// StartSource starts a source. The service stops it before anything that takes events, and includes its Problem in the health.
func (s *Service) StartSource(ctx context.Context, src receive.Source) {
	s.WatchSource(src)
	s.life.onStop("intake", src.Stop)
	src.Start(ctx)
}

// Start begins sampling, exporting and saving. It returns immediately.
func (s *Service) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.host.Run(ctx) })
	running.Go(func() { s.everySecond(ctx) })
	running.Go(func() { s.feedback.SaveLearned(ctx) })
	if s.governor != nil {
		running.Go(func() { s.governor.Run(ctx) })
	}
	running.Go(func() {
		if err := s.exporter.Run(context.Background()); err != nil { // Close ends it
			s.log.Errorf("exporter stopped: error=%q", err)
		}
	})
	s.life.onLast("samplers", func(context.Context) error {
		cancel()
		running.Wait()
		return nil
	})
}

// everySecond copies the link's measurement to the node state, counts overdue outcomes, and saves the account.
func (s *Service) everySecond(ctx context.Context) {
	tick := clock.NewTicker(time.Second)
	report := health.NewReport(s.clock, s.log)
	for {
		link := s.exporter.Link()
		s.host.SetLink(link)
		s.feedback.Link(link.Up, s.clock.Time())
		report.Write(s.Health())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.feedback.Sweep(s.clock.Time())
			s.member.Tick(time.Now())
		}
		s.drops.See(ledger.DroppedByClass(s.spool.Stats().Classes), false)
		if err := s.saveBooks(); err != nil {
			s.log.Debugf("saving the account failed: error=%q", err)
		}
	}
}

// Stop ends the service: the gate shuts, work in flight is done, the last batches leave, state is saved, the spool closes. It takes at most the
// configured grace; records not exported by then stay in the spool.
func (s *Service) Stop() error {
	s.stopping.Store(true)
	if s.local != nil {
		s.local.StopWaiting() // or the intake would wait for tasks that wait for the bus
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.grace)
	defer cancel()
	return s.life.stop(ctx)
}

func (s *Service) credentials() (export.Credentials, error) {
	name := s.cfg.Export.SecretName
	secret, err := s.deps.Secrets.GetSecret(name)
	if err != nil {
		return export.Credentials{}, fmt.Errorf("reading secret %q for the broker: %w", name, err)
	}
	return export.Credentials{
		Username: secret["username"], Password: secret["password"],
		ClientCert: []byte(secret["clientcert"]), ClientKey: []byte(secret["clientkey"]), CACert: []byte(secret["cacert"]),
	}, nil
}

// SecretsChanged must be called when the secret store reports a change.
func (s *Service) SecretsChanged() {
	if err := s.keys.Refresh(); err != nil {
		s.log.Errorf("reading the changed secret failed: secret=%s error=%q", s.cfg.KeySecret, err)
	}
	s.exporter.Rotate()
}

// topics returns the topics subscribed to on the link besides receipts and results, as far as the configuration uses them.
func (s *Service) topics() map[string]func([]byte) {
	topics := map[string]func([]byte){}
	if d := s.deliveries.Load(); d != nil {
		topics[delivery.Topic(s.cfg.Node)] = d.Take
	}
	if s.member.Status() != nil {
		topics[seal.FleetTopic(s.cfg.Node)] = s.member.Take
	}
	if s.rules.Load().Model.Credits() {
		topics[seal.CreditTopic(s.cfg.Node)] = s.teller.take
	}
	return topics
}

// openDeliveries starts accepting models. Its stop runs before that of the model store.
func (s *Service) openDeliveries() error {
	d, err := s.local.Deliveries(s.cfg.Node, s.exporter.Send, s.log)
	if d != nil {
		s.deliveries.Store(d)
		s.life.onStop("deliveries of models", d.Close)
	}
	return err
}
