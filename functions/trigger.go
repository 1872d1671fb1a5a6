package functions

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/edgexfoundry/go-mod-bootstrap/v3/bootstrap"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"

	"app-offload/functions/intake"
)

// TriggerType is the word in Trigger.Type that selects the service's own intake.
const TriggerType = "offload"

// source is what reads from a bus: the acknowledging subscriber on MQTT, and an ordered reader on any other bus.
type source interface {
	Start(ctx context.Context)
	Stop(ctx context.Context) error
	Problem() string // why nothing comes in, "" while it does
}

// Trigger is the service's own intake under the SDK's care. Because it belongs to the SDK's wait group, the SDK waits
// for the whole of the service to stop in order before the process ends.
type Trigger struct {
	service *Service
	source  source
}

var _ interfaces.Trigger = (*Trigger)(nil)

// NewTrigger makes the intake for the bus that EdgeX's configuration names.
func NewTrigger(s *Service, bus BusConfig, secrets Secrets) (*Trigger, error) {
	if bus.Disabled {
		return nil, fmt.Errorf("Trigger.Type %s needs the MessageBus, which MessageBus.Disabled switches off; use Trigger.Type http", TriggerType) //nolint:staticcheck // begins with a key
	}
	src, err := newSource(s, bus, secrets)
	if err != nil {
		return nil, err
	}
	problem := src.Problem
	s.intakeProblem.Store(&problem)
	return &Trigger{service: s, source: src}, nil
}

func newSource(s *Service, bus BusConfig, secrets Secrets) (source, error) {
	if _, err := intake.Filters(bus.BaseTopicPrefix, bus.SubscribeTopics); err != nil {
		return nil, err
	}
	for _, remark := range intake.FilterRemarks(bus.BaseTopicPrefix, bus.SubscribeTopics) {
		s.log.Warnf("%s", remark)
	}
	if !strings.EqualFold(bus.Type, "mqtt") {
		return newReader(s, NewBus(bus, "intake", secrets), bus.Topics()), nil
	}
	sub, err := intake.NewSubscriber(s.cfg.Intake, intake.Bus{
		URL: fmt.Sprintf("%s://%s:%d", bus.Protocol, bus.Host, bus.Port), Topics: bus.Topics(), ClientID: bus.ClientID() + "-intake",
		AuthMode: strings.ToLower(bus.AuthMode), SkipCertVerify: bus.Optional["SkipCertVerify"] == "true",
		Credentials: credentialsOf(bus, secrets),
		Skip:        s.isOwn, Remember: filepath.Join(s.cfg.Spool.Directory, "subscriptions.json"),
	}, Again{s.Pipeline}, s.quarantine, s.log)
	if err != nil {
		return nil, err
	}
	s.subscriber.Store(sub)
	return subscriberSource{sub}, nil
}

func credentialsOf(bus BusConfig, secrets Secrets) func() (intake.Credentials, error) {
	return func() (intake.Credentials, error) {
		s, err := secrets.GetSecret(bus.SecretName)
		if err != nil {
			return intake.Credentials{}, fmt.Errorf("reading secret %q for the MessageBus: %w", bus.SecretName, err)
		}
		return intake.Credentials{
			Username: s["username"], Password: s["password"],
			ClientCert: []byte(s["clientcert"]), ClientKey: []byte(s["clientkey"]), CACert: []byte(s["cacert"]),
		}, nil
	}
}

// subscriberSource says in words whether events come in.
type subscriberSource struct{ *intake.Subscriber }

func (s subscriberSource) Problem() string {
	switch c := s.Counts(); {
	case !c.Connected:
		return "not connected to the MQTT MessageBus"
	case !c.Subscribed:
		return "not subscribed at the MQTT MessageBus yet"
	}
	return ""
}

// Initialize begins to read. When the SDK's context ends, the whole service stops, while the SDK waits.
func (t *Trigger) Initialize(wg *sync.WaitGroup, ctx context.Context, _ <-chan interfaces.BackgroundMessage) (bootstrap.Deferred, error) {
	t.service.life.onStop("intake", t.source.Stop)
	t.source.Start(ctx)
	wg.Go(func() {
		<-ctx.Done()
		if err := t.service.Stop(); err != nil {
			t.service.log.Errorf("stopping: %v", err)
		}
	})
	return func() {}, nil
}

// reader takes messages off a bus that knows no acknowledgement, such as Redis pub/sub: in order, in slices of what has
// already arrived, and no faster than the pipeline takes them.
type reader struct {
	service *Service
	bus     *Bus
	wanted  []string // filters, as configured
	topics  []string // subscribed to: they bring all that is wanted, each message once, and may bring more

	cancel    context.CancelFunc // ends the reading
	giveUp    context.CancelFunc // ends the waiting for room, for what was read
	in        chan Message
	reading   sync.WaitGroup
	consuming sync.WaitGroup
	mu        sync.Mutex
	problem   string
}

func newReader(s *Service, bus *Bus, topics []string) *reader {
	return &reader{service: s, bus: bus, wanted: topics, topics: intake.Flat(topics), problem: "not connected to the MessageBus yet"}
}

func (r *reader) Problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// report notes a change of the connection and logs it once.
func (r *reader) report(problem string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem != "" && problem != r.problem {
		r.service.log.Warnf("MessageBus: %s", problem)
	}
	r.problem = problem
}

// Start subscribes, and does so again whenever the bus says that something is wrong.
func (r *reader) Start(context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	patience, giveUp := context.WithCancel(context.Background())
	r.cancel, r.giveUp = cancel, giveUp
	r.in = make(chan Message, r.service.cfg.Intake.MaxSlice)
	var channels []types.TopicChannel
	for _, topic := range r.topics {
		ch := make(chan types.MessageEnvelope)
		channels = append(channels, types.TopicChannel{Topic: topic, Messages: ch})
		r.reading.Go(func() { r.forward(ctx, ch) })
	}
	r.reading.Go(func() { r.subscribe(ctx, channels) })
	r.consuming.Go(func() { r.consume(patience) })
}

// subscribe tries until it works, and again when it does not any more: a gateway may well be up before its bus.
func (r *reader) subscribe(ctx context.Context, channels []types.TopicChannel) {
	for ctx.Err() == nil {
		if err := r.listen(ctx, channels); err != nil {
			r.report(err.Error())
			r.bus.abandon(r.topics)
			wait(ctx, retryBus)
		}
	}
}

// settled is how long a new subscription must be without an error to count as one. On Redis the client says that it has
// subscribed although the connection is refused, and tells of it a moment later; its reader has then ended for good. On a
// machine so slow that the moment is longer, the error still ends the subscription when it comes.
const settled = 200 * time.Millisecond

// listen subscribes, and returns what goes wrong with the subscription, or nil at the end of ctx.
func (r *reader) listen(ctx context.Context, channels []types.TopicChannel) error {
	client, err := r.bus.connected()
	if err != nil {
		return err
	}
	errs := make(chan error, 8*len(channels)) // those of an abandoned subscription nobody reads
	if err := client.Subscribe(channels, errs); err != nil {
		return err
	}
	well := time.After(settled)
	for {
		select {
		case <-well:
			r.report("")
		case err := <-errs:
			if !isBadMessage(err) {
				return err
			}
			r.service.quarantine.Add(strings.Join(r.topics, ","), "", nil, err)
		case <-ctx.Done():
			return nil
		}
	}
}

// isBadMessage reports whether the error is about one message, after which the client reads on. It has no type.
func isBadMessage(err error) bool {
	return strings.HasPrefix(err.Error(), "unable to unmarshal payload")
}

// forward passes one topic's messages on. The bus's own reader waits meanwhile, which is what holds it back. What was
// read is always passed on: the consumer outlives the readers.
func (r *reader) forward(ctx context.Context, from <-chan types.MessageEnvelope) {
	for {
		select {
		case m := <-from:
			if !intake.Selects(r.wanted, m.ReceivedTopic) {
				continue
			}
			r.in <- Message{m.ReceivedTopic, m.ContentType, m.CorrelationID, m.Payload}
		case <-ctx.Done():
			return
		}
	}
}

func (r *reader) consume(patience context.Context) {
	s := slicer{in: r.in, max: r.service.cfg.Intake.MaxSlice}
	for {
		messages, ok := s.next()
		if !ok {
			return
		}
		r.service.ReceiveInOrder(patience, messages)
	}
}

// Stop ends reading and hands on what was read, as long as ctx allows. What the bus sends from now on nobody hears; that
// is the nature of a bus without acknowledgement.
func (r *reader) Stop(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.giveUp)()
	r.cancel()
	r.reading.Wait()
	close(r.in)
	r.consuming.Wait()
	r.giveUp()
	return r.bus.Close()
}
