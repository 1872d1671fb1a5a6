package receive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"app-offload/functions/intake"
	"app-offload/functions/intake/parse"
	"app-offload/functions/say"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// sink takes events, concludes each with err, and records them.
type sink struct {
	err    error
	after  time.Duration
	events []*task.Event
	slices []int // their lengths
}

func (s *sink) Submit(events []*task.Event, done func(i int, err error)) {
	s.events, s.slices = append(s.events, events...), append(s.slices, len(events))
	for i := range events {
		if s.after == 0 {
			done(i, s.err)
			continue
		}
		time.AfterFunc(s.after, func() { done(i, s.err) })
	}
}

// notes records the warnings.
type notes struct {
	noLog
	warned []string
}

func (n *notes) Warnf(format string, args ...any) {
	n.warned = append(n.warned, fmt.Sprintf(format, args...))
}

type noLog struct{}

func (noLog) Debugf(string, ...any) {}
func (noLog) Infof(string, ...any)  {}
func (noLog) Warnf(string, ...any)  {}
func (noLog) Errorf(string, ...any) {}

// receiver passes events on immediately, and skips messages on the topic "own".
func receiver(t *testing.T, to *sink, change func(*intake.Config)) *Receiver {
	t.Helper()
	return receiverTo(t, to, noLog{}, change)
}

func receiverTo(t *testing.T, to *sink, log say.Logger, change func(*intake.Config)) *Receiver {
	t.Helper()
	cfg := intake.DefaultConfig()
	cfg.ReorderWindow = "0s"
	if change != nil {
		change(&cfg)
	}
	r, err := Open(cfg, Deps{Sink: to, Again: to, Skip: func(topic string) bool { return topic == "own" }, Log: log})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, r.Orderer.Close(context.Background()))
		require.NoError(t, r.Quarantine.Close())
	})
	return r
}

func message(n int) Message {
	return Message{Topic: "t", ContentType: "application/json", CorrelationID: "c", Payload: fmt.Appendf(nil, `{"apiVersion":"v3","id":"%08d-0000-4000-8000-000000000000",`+
		`"deviceName":"d","profileName":"P","sourceName":"S","origin":%d,"readings":[{"id":"x","origin":1,"deviceName":"d","resourceName":"R","profileName":"P",`+
		`"valueType":"Float64","value":"1.5"}]}`, n, n+1)}
}

// Each message ends in one place: with the sink, skipped, quarantined or refused, and is counted there.
func TestEachMessageEndsInOnePlace(t *testing.T) {
	to := &sink{}
	r := receiver(t, to, func(c *intake.Config) { c.MaxEvents = 1 })
	require.NoError(t, r.Receive(message(1)))
	require.Equal(t, [2]string{"t", "c"}, [2]string{to.events[0].Topic, to.events[0].CorrelationID})
	require.NoError(t, r.Receive(Message{Topic: "own", Payload: message(2).Payload}))
	require.Error(t, r.Receive(Message{Topic: "x", ContentType: "application/json", Payload: []byte(`{"event":`)}))
	r.Reject(Message{Topic: "y"}, parse.Reject(parse.ReasonMalformed, "no envelope"))
	r.SetAside(to.events[0], parse.TooLargeToLeave(2, 1))
	pass, err := r.Gate.Enter(1)
	require.NoError(t, err)
	require.ErrorIs(t, r.Receive(message(3)), intake.ErrFullEvents)
	pass.Leave()
	to.err = errors.New("no room")
	require.ErrorIs(t, r.Receive(message(4)), to.err, "the sink's refusal is the caller's")
	require.Len(t, to.events, 2)
	c, messages := r.Counts()
	require.EqualValues(t, 2, c.Received)
	require.EqualValues(t, 1, c.Refused["events"])
	require.Equal(t, map[string]uint64{parse.ReasonMalformed: 2, parse.ReasonUnsendable: 1}, c.Quarantined)
	require.EqualValues(t, 5, messages, "with the test's own pass; neither what was refused nor what was quarantined")
	require.Len(t, r.Quarantined(), 3)
}

// A slice of messages larger than the limit in flight passes in parts, instead of waiting for itself.
func TestASliceLargerThanTheGatePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := &sink{after: time.Second}
		r := receiver(t, to, func(c *intake.Config) { c.MaxEvents = 2 })
		messages := []Message{message(0), {Topic: "own"}, {Topic: "x", ContentType: "application/json"}, message(1), message(2), message(3), message(4)}
		r.ReceiveInOrder(t.Context(), messages)
		require.Len(t, to.events, 5)
		for i, ev := range to.events {
			require.EqualValues(t, i+1, ev.Origin)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		require.Zero(t, r.Gate.Counts().Events, "each pass is returned")
	})
}

// Messages for which a stop leaves no time are counted, since a bus without acknowledgements does not redeliver them.
func TestWhatTheStopLeavesIsCounted(t *testing.T) {
	to := &sink{}
	r := receiver(t, to, nil)
	r.Gate.Shut()
	r.ReceiveInOrder(t.Context(), []Message{message(1), message(2)})
	c, _ := r.Counts()
	require.EqualValues(t, 2, c.Unheard)
	require.Empty(t, to.events)
}

// fixed is a source with a constant problem.
type fixed struct{ problem string }

func (fixed) Start(context.Context)      {}
func (fixed) Stop(context.Context) error { return nil }
func (f fixed) Problem() string          { return f.problem }

// No source is not a problem; an expected one is until it is there, and from then on it reports its own.
func TestTheSourceSaysWhetherEventsComeIn(t *testing.T) {
	r := receiver(t, &sink{}, nil)
	require.Empty(t, r.Problem())
	require.Empty(t, r.Rival())
	r.ExpectSource()
	require.Contains(t, r.Problem(), "has not started")
	r.WatchSource(fixed{"away"})
	require.Equal(t, "away", r.Problem())
	src, err := r.MQTTSource(intake.Bus{URL: "tcp://127.0.0.1:1", Topics: []string{"a/#"}, ClientID: "c", AuthMode: "none"})
	require.NoError(t, err)
	require.Contains(t, src.Problem(), "not connected")
	require.Empty(t, r.Rival())
	c, messages := r.Counts()
	require.Contains(t, c.Skipped, "retained", "the subscriber counts from now on")
	require.Contains(t, c.Skipped, "unmatched")
	require.Zero(t, messages)
	_, err = r.MQTTSource(intake.Bus{URL: "nonsense"})
	require.Error(t, err)
}

// Events received over an MQTT bus are counted like those of any other, with the counters specific to such a bus; they are skipped by the receiver's
// rule, and the subscriptions are stored in the receiver's file.
func TestAnMQTTBusIsCounted(t *testing.T) {
	server := broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, server.AddHook(&auth.AllowHook{}, nil))
	listener := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	require.NoError(t, server.AddListener(listener))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })

	r, to := receiver(t, &sink{}, nil), &sink{}
	r.deps.Again, r.deps.Subscriptions = to, filepath.Join(t.TempDir(), "topics")
	r.deps.Skip = func(topic string) bool { return topic == "a/own" }
	src, err := r.MQTTSource(intake.Bus{URL: "tcp://" + listener.Address(), Topics: []string{"a/#"}, ClientID: "c", AuthMode: "none"})
	require.NoError(t, err)
	src.Start(t.Context())
	require.Eventually(t, func() bool { return src.Problem() == "" }, time.Minute, time.Millisecond)
	require.FileExists(t, r.deps.Subscriptions)
	publish := func(topic string, qos byte, payload []byte) {
		raw, err := json.Marshal(map[string]any{"apiVersion": "v3", "contentType": "application/json", "correlationID": "c", "payload": payload})
		require.NoError(t, err)
		require.NoError(t, server.Publish(topic, raw, false, qos))
	}
	publish("a/own", 1, message(9).Payload)
	publish("a/x", 1, message(1).Payload)
	publish("a/x", 1, message(1).Payload)
	publish("a/x", 0, message(2).Payload)
	publish("a/x", 1, bytes.Replace(message(2).Payload, []byte("1.5"), []byte("2.5"), 1))
	require.NoError(t, server.Publish("a/x", []byte("{"), false, 1))
	require.Eventually(t, func() bool { _, messages := r.Counts(); return messages >= 5 }, time.Minute, time.Millisecond)
	c, messages := r.Counts()
	require.EqualValues(t, 5, messages)
	require.Equal(t, [4]uint64{3, 1, 1, 1}, [4]uint64{c.Received, c.Unsafe, c.Repeated, c.SameID})
	require.EqualValues(t, 1, status.Sum(c.Quarantined))
	require.NoError(t, src.Stop(context.Background()))
	require.Len(t, to.events, 3)
	require.Contains(t, src.Problem(), "not connected")
}

// A source that is connected and not subscribed yet reports that.
func TestASourceWithoutSubscription(t *testing.T) {
	for want, c := range map[string]intake.SubscriberCounts{
		"not connected to the MQTT MessageBus":      {},
		"not subscribed at the MQTT MessageBus yet": {Connected: true},
		"": {Connected: true, Subscribed: true},
	} {
		require.Equal(t, want, problemOf(c))
	}
}

// An unusable quarantine folder keeps the receiver from opening, and a message that is not an event is the caller's error.
func TestWhatCannotBeOpenedOrRead(t *testing.T) {
	cfg := intake.DefaultConfig()
	cfg.QuarantineDir = filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(cfg.QuarantineDir, nil, 0o600))
	r, err := Open(cfg, Deps{})
	require.ErrorContains(t, err, cfg.QuarantineDir)
	require.Nil(t, r)
	require.Error(t, receiver(t, &sink{}, nil).Receive(Message{Topic: "x", ContentType: "application/json", Payload: []byte("{")}))
}

// A warning says whether a quarantined message is not an event, or one that fits no message.
func TestTheWarningSaysWhatWasQuarantined(t *testing.T) {
	for reason, want := range map[string]string{parse.ReasonMalformed: "is not an event", parse.ReasonUnsendable: "holds an event that fits no message"} {
		var log notes
		r := receiverTo(t, &sink{}, &log, nil)
		r.Reject(Message{Topic: "y"}, parse.Reject(reason, "why"))
		require.Len(t, log.warned, 1)
		require.Contains(t, log.warned[0], want)
		require.Contains(t, log.warned[0], `topic="y"`)
	}
}

// Messages that arrived together are passed on together, as far as there is room: a slice is one commit. A skipped message does not split it.
func TestMessagesOfOneReaderGoOnTogether(t *testing.T) {
	to := &sink{}
	r := receiver(t, to, nil)
	r.ReceiveInOrder(t.Context(), []Message{message(1), message(2), {Topic: "own"}, message(3)})
	require.Equal(t, []int{3}, to.slices)
	c, _ := r.Counts()
	require.Zero(t, status.Sum(c.Refused))
	synctest.Test(t, func(t *testing.T) {
		to := &sink{after: time.Second}
		r := receiver(t, to, func(c *intake.Config) { c.MaxEvents = 2 })
		r.ReceiveInOrder(t.Context(), []Message{message(1), message(2), message(3)})
		require.Equal(t, []int{2, 1}, to.slices, "what has room does not wait for the rest")
		time.Sleep(time.Second)
		c, _ := r.Counts()
		require.Zero(t, status.Sum(c.Refused), "waiting is no refusal")
	})
}
