package edgex

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"

	"app-offload/functions"
	"app-offload/functions/intake"
	"app-offload/functions/receive"
)

// reader reads messages from a bus without acknowledgements, such as Redis pub/sub: in order, in slices of arrived messages, and no faster than the
// pipeline accepts them.
type reader struct {
	service *functions.Service
	log     functions.Logger
	bus     *Bus
	wanted  []string // filters, as configured
	topics  []string // subscribed to: they cover all wanted topics, each message once, and possibly more

	pingEvery, pingTime time.Duration // interval and time limit of pings

	cancel    context.CancelFunc // ends the reading
	giveUp    context.CancelFunc // ends the wait for room for messages already read
	in        chan receive.Message
	reading   sync.WaitGroup
	consuming sync.WaitGroup
	mu        sync.Mutex
	problem   string
}

func newReader(s *functions.Service, bus *Bus, topics []string, log functions.Logger) *reader {
	return &reader{
		service: s, log: log, bus: bus, wanted: topics, topics: intake.Flat(topics), problem: "not connected to the MessageBus yet",
		pingEvery: 5 * time.Second, pingTime: 3 * time.Second,
	}
}

func (r *reader) Problem() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// report records a change of the connection and logs it once.
func (r *reader) report(problem string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if problem != "" && problem != r.problem {
		r.log.Warnf("reading the MessageBus failed: error=%q", problem)
	}
	r.problem = problem
}

// Start subscribes, and does so again whenever the bus reports an error.
func (r *reader) Start(context.Context) {
	ctx, cancel := context.WithCancel(context.Background())
	patience, giveUp := context.WithCancel(context.Background())
	r.cancel, r.giveUp = cancel, giveUp
	r.in = make(chan receive.Message, r.service.Config().Intake.MaxSlice)
	var channels []types.TopicChannel
	for _, topic := range r.topics {
		ch := make(chan types.MessageEnvelope)
		channels = append(channels, types.TopicChannel{Topic: topic, Messages: ch})
		r.reading.Go(func() { r.forward(ctx, ch) })
	}
	r.reading.Go(func() { r.subscribe(ctx, channels) })
	r.consuming.Go(func() { r.consume(patience) })
}

// subscribe tries until it succeeds, and again after a failure: a gateway may start before its bus.
func (r *reader) subscribe(ctx context.Context, channels []types.TopicChannel) {
	for ctx.Err() == nil {
		if err := r.listen(ctx, channels); err != nil {
			r.report(err.Error())
			r.bus.abandon(r.topics)
			wait(ctx, retryBus)
		}
	}
}

// wait pauses, unless the context ends before.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// settled is how long a new subscription must be without an error to count as successful. On Redis the client reports success although the connection
// is refused, and reports the error a moment later; its reader does not resume. On a machine so slow that the moment is longer, the error still ends
// the subscription when it arrives.
const settled = 200 * time.Millisecond

// listen subscribes, and returns an error of the subscription, or nil at the end of ctx. It reports a bus that hangs, and keeps the subscription: the
// bus may have taken messages, which it delivers once it continues.
func (r *reader) listen(ctx context.Context, channels []types.TopicChannel) error {
	client, err := r.bus.connected()
	if err != nil {
		return err
	}
	errs := make(chan error, 8*len(channels)) // errors of an abandoned subscription stay unread
	subscribed := r.bus.subscribe(client, channels, errs)
	var well <-chan time.Time
	reading := false
	ping := time.NewTicker(r.pingEvery)
	defer ping.Stop()
	for {
		select {
		case err := <-subscribed:
			if err != nil {
				return err
			}
			well = time.After(settled)
		case <-well:
			reading = true
			r.report("")
		case <-ping.C:
			if problem := r.ping(ctx); problem != "" || reading {
				r.report(problem)
			}
		case err := <-errs:
			if !isBadMessage(err) {
				return err
			}
			r.service.Reject(receive.Message{Topic: strings.Join(r.topics, ",")}, err)
		case <-ctx.Done():
			return nil
		}
	}
}

// ping returns the problem of a Redis that does not answer, "" otherwise: its client does not notice a server that hangs or that has vanished without
// closing the connection. Any bytes are an answer, also a refusal, and so is the end of the connection; a subscription reports a server that has ended.
func (r *reader) ping(parent context.Context) string {
	if !strings.EqualFold(r.bus.cfg.Type, "redis") {
		return ""
	}
	ctx, cancel := context.WithTimeout(parent, r.pingTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(r.bus.cfg.Host, strconv.Itoa(r.bus.cfg.Port)))
	if err == nil {
		end := context.AfterFunc(ctx, func() { _ = c.Close() })
		_, _ = c.Write([]byte("PING\r\n"))
		_, _ = c.Read(make([]byte, 1))
		end()
		_ = c.Close()
	}
	if ctx.Err() == nil || parent.Err() != nil {
		return ""
	}
	return fmt.Sprintf("Redis does not answer a ping within %s", r.pingTime)
}

// isBadMessage reports whether the error is about one message, after which the client continues to read. The error has no type.
func isBadMessage(err error) bool {
	return strings.HasPrefix(err.Error(), "unable to unmarshal payload")
}

// forward passes one topic's messages on. The bus's own reader waits meanwhile, which holds it back. Messages already read are always passed on: the
// consumer outlives the readers.
func (r *reader) forward(ctx context.Context, from <-chan types.MessageEnvelope) {
	for {
		select {
		case m := <-from:
			if !intake.Selects(r.wanted, m.ReceivedTopic) {
				continue
			}
			r.in <- receive.Message{Topic: m.ReceivedTopic, ContentType: m.ContentType, CorrelationID: m.CorrelationID, Payload: m.Payload}
		case <-ctx.Done():
			return
		}
	}
}

func (r *reader) consume(patience context.Context) {
	s := slicer{in: r.in, max: r.service.Config().Intake.MaxSlice}
	for {
		messages, ok := s.next()
		if !ok {
			return
		}
		r.service.ReceiveInOrder(patience, messages)
	}
}

// Stop ends reading and passes on the messages already read, until ctx ends. Messages sent from now on are lost, as on any bus without
// acknowledgements.
func (r *reader) Stop(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.giveUp)()
	r.cancel()
	r.reading.Wait()
	close(r.in)
	r.consuming.Wait()
	r.giveUp()
	return r.bus.Close()
}

// slicer collects messages that have already arrived, so that one run of the pipeline serves them all.
type slicer struct {
	in  <-chan receive.Message
	max int
	buf []receive.Message
}

// next blocks for one message, then adds the messages that have arrived, up to max. It returns false when the channel is closed and empty.
func (s *slicer) next() ([]receive.Message, bool) {
	m, ok := <-s.in
	if !ok {
		return nil, false
	}
	s.buf = append(s.buf[:0], m)
	for len(s.buf) < s.max {
		select {
		case m, ok := <-s.in:
			if !ok {
				return s.buf, true
			}
			s.buf = append(s.buf, m)
		default:
			return s.buf, true
		}
	}
	return s.buf, true
}
