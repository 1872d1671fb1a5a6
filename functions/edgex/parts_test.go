package edgex

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edgexfoundry/app-functions-sdk-go/v3/pkg/interfaces"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-messaging/v3/messaging"
	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/stretchr/testify/require"

	"app-offload/functions/local"
	"app-offload/functions/receive"
)

// lines is a log that keeps warnings and errors.
type lines struct {
	testLog
	mu   sync.Mutex
	list []string
}

func (l *lines) Warnf(format string, a ...any)  { l.add("WARN "+format, a...) }
func (l *lines) Errorf(format string, a ...any) { l.add("ERROR "+format, a...) }

func (l *lines) add(format string, a ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, fmt.Sprintf(format, a...))
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.list...)
}

// client is that of go-mod-messaging without a bus.
type client struct {
	messaging.MessageClient
	err        error // of every call
	sent       []types.MessageEnvelope
	topics     []string
	subscribed chan chan<- error
	ended      []string
}

func (c *client) Publish(m types.MessageEnvelope, topic string) error {
	c.sent, c.topics = append(c.sent, m), append(c.topics, topic)
	return c.err
}

func (c *client) Subscribe(_ []types.TopicChannel, errs chan error) error {
	if c.err == nil {
		c.subscribed <- errs
	}
	return c.err
}

func (c *client) Disconnect() error {
	c.ended = append(c.ended, "client")
	return c.err
}

func (c *client) Unsubscribe(topics ...string) error {
	c.ended = append(c.ended, topics...)
	return c.err
}

// A client whose subscription failed ends before its readers, and the next use makes another one.
func TestAFailedSubscriptionEndsItsClientAndReaders(t *testing.T) {
	c := &client{}
	b := NewBus(BusConfig{}, "t", nil)
	b.client = c
	for range 2 {
		b.abandon([]string{"x", "y"})
		require.Equal(t, []string{"client", "x", "y"}, c.ended)
		require.Nil(t, b.client)
	}
	b.client, c.ended = c, nil
	b.replace(&client{}) // of an earlier failure
	require.Same(t, c, b.client)
	b.replace(c)
	b.calls.Wait()
	require.Nil(t, b.client)
	require.Equal(t, []string{"client"}, c.ended)
}

// Each problem of the bus is logged once, and again when it returns after a time without one.
func TestProblemsOfTheBusAreLoggedOnce(t *testing.T) {
	log := &lines{}
	r := newReader(nil, &Bus{}, nil, log)
	require.NotEmpty(t, r.Problem(), "not connected yet")
	for _, problem := range []string{"a", "a", "b", "", "", "b"} {
		r.report(problem)
		require.Equal(t, problem, r.Problem())
	}
	require.Equal(t, []string{`WARN reading the MessageBus failed: error="a"`, `WARN reading the MessageBus failed: error="b"`, `WARN reading the MessageBus failed: error="b"`}, log.all())
}

// A result is published in the envelope of EdgeX 3, below the base topic; an error names the topic.
func TestAResultIsPublishedInAnEnvelope(t *testing.T) {
	c := &client{}
	b := NewBus(BusConfig{BaseTopicPrefix: "plant"}, "results", nil)
	b.client = c
	require.NoError(t, b.Publish("events/device/a", "application/json", "c-1", []byte("{}")))
	want := types.MessageEnvelope{CorrelationID: "c-1", ContentType: "application/json", Payload: []byte("{}")}
	want.ApiVersion = "v3"
	require.Equal(t, []types.MessageEnvelope{want}, c.sent)
	require.Equal(t, []string{"plant/events/device/a"}, c.topics)
	odd := local.Result{Event: dtos.Event{Tags: map[string]any{"x": math.NaN()}}}
	require.ErrorContains(t, NewResults(b, "app-offload").Publish(odd), "encoding result")
	require.Len(t, c.sent, 1)
	c.err = errors.New("broken pipe")
	again, err := b.attempt(want, "plant/x")
	require.True(t, again)
	require.ErrorIs(t, err, c.err)
	require.ErrorContains(t, err, "publishing 2 bytes on plant/x")
}

// A subscription lasts until the bus reports an error that is not about one message, and ends without error when it is stopped.
func TestASubscriptionEndsWithItsError(t *testing.T) {
	s := open(t, testConfig(t, "edge"))
	c := &client{subscribed: make(chan chan<- error, 1)}
	bus := NewBus(BusConfig{}, "intake", nil)
	bus.client = c
	r := newReader(s, bus, []string{"edgex/events/#"}, &lines{})
	gone := errors.New("connection refused")
	c.err = gone
	require.ErrorIs(t, r.listen(t.Context(), nil), gone)
	c.err = nil

	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- r.listen(ctx, make([]types.TopicChannel, 1)) }()
	errs := <-c.subscribed
	require.NotEmpty(t, r.Problem(), "it is not known to work yet")
	errs <- errors.New("unable to unmarshal payload of x")
	eventually(t, 10*time.Second, "it works", func() bool { return r.Problem() == "" })
	eventually(t, 10*time.Second, "the message is counted", func() bool { return s.Status().Events.Quarantined["malformed"] == 1 })
	errs <- gone
	require.ErrorIs(t, <-ended, gone)
	go func() { ended <- r.listen(ctx, make([]types.TopicChannel, 1)) }()
	<-c.subscribed
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, bus.Close())
	require.ErrorIs(t, r.listen(t.Context(), nil), ErrNoBus)
}

// Only topics of a configured filter are passed on, whatever else the subscription delivers, with topic, type and correlation.
func TestOnlyWhatIsWantedIsPassedOn(t *testing.T) {
	r := newReader(nil, &Bus{}, []string{"edgex/events/device/+/P/#"}, &lines{})
	r.in = make(chan receive.Message, 4)
	from := make(chan types.MessageEnvelope)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { r.forward(ctx, from); close(ended) }()
	for _, topic := range []string{"edgex/events/device/s/Q/d/S", "edgex/events/device/s/P/d/S", "edgex/events/core/s/P/d/S"} {
		from <- types.MessageEnvelope{ReceivedTopic: topic, ContentType: "application/json", CorrelationID: "c", Payload: []byte(topic)}
	}
	cancel()
	<-ended
	close(r.in)
	var got []receive.Message
	for m := range r.in {
		got = append(got, m)
	}
	const want = "edgex/events/device/s/P/d/S"
	require.Equal(t, []receive.Message{{Topic: want, ContentType: "application/json", CorrelationID: "c", Payload: []byte(want)}}, got)
}

// One run of the pipeline takes the arrived messages, and no more than configured.
func TestSlicesHoldWhatHasArrived(t *testing.T) {
	in := make(chan receive.Message, 9)
	s := slicer{in: in, max: 4}
	for n := range 7 {
		in <- receive.Message{Topic: fmt.Sprint(n)}
	}
	for _, want := range []string{"0123", "456"} {
		list, ok := s.next()
		require.True(t, ok)
		got := ""
		for i := range list {
			got += list[i].Topic
		}
		require.Equal(t, want, got)
	}
	in <- receive.Message{}
	close(in)
	list, ok := s.next()
	require.True(t, ok)
	require.Len(t, list, 1)
	_, ok = s.next()
	require.False(t, ok)
}

// call is one call of the SDK's pipeline.
type call struct {
	interfaces.AppFunctionContext
	topic string
}

func (c call) GetValue(key string) (string, bool) {
	return c.topic, key == interfaces.RECEIVEDTOPIC
}
func (c call) InputContentType() string { return "application/json" }
func (c call) CorrelationID() string    { return "c-1" }

// The SDK's pipeline ends with the adapter, which returns nil or the problem of the event.
func TestTheAdapterAnswersForTheEvent(t *testing.T) {
	s := open(t, testConfig(t, "cloud"))
	adapt := Adapter(s)
	const envelope = `{"apiVersion":"v3","requestId":"6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11","event":`
	more, answer := adapt(call{topic: "edgex/events/device/svc/P/d/S"}, []byte(envelope+string(event("d", 1))+"}"))
	require.False(t, more)
	require.Nil(t, answer)
	require.EqualValues(t, 1, s.Counts().Accepted)
	more, answer = adapt(call{}, "text")
	require.False(t, more)
	require.ErrorContains(t, answer.(error), "is string instead of bytes")
	require.NoError(t, s.Stop())
	more, answer = adapt(call{}, []byte(envelope+string(event("d", 2))+"}"))
	require.False(t, more)
	require.Error(t, answer.(error), "it has stopped")
}

// source never delivers anything; its stop may fail.
type source struct{ err error }

func (source) Start(context.Context)        {}
func (source) Problem() string              { return "" }
func (s source) Stop(context.Context) error { return s.err }

// The end of the SDK's context stops the service while the SDK waits. Only errors are logged.
func TestTheTriggerStopsTheService(t *testing.T) {
	for _, fault := range []error{nil, errors.New("cannot disconnect")} {
		log := &lines{}
		s := open(t, testConfig(t, "edge"))
		trigger := &Trigger{service: s, source: source{fault}, log: log}
		ctx, cancel := context.WithCancel(t.Context())
		var sdk sync.WaitGroup
		_, err := trigger.Initialize(&sdk, ctx, nil)
		require.NoError(t, err)
		cancel()
		sdk.Wait()
		if fault == nil {
			require.Empty(t, log.all())
			continue
		}
		require.Contains(t, strings.Join(log.all(), "\n"), "ERROR stopping: ")
		require.Contains(t, strings.Join(log.all(), "\n"), fault.Error())
	}
}
