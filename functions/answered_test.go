package functions

import (
	"sync"
	"testing"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/stretchr/testify/require"

	"app-offload/functions/answer"
	"app-offload/functions/local"
	"app-offload/functions/models"
	"app-offload/functions/seal"
	"app-offload/functions/task"
)

// oracle answers every record of a cloud, repeatedly until the node confirms it.
type oracle struct {
	*cloud
	mu        sync.Mutex
	confirmed map[string]bool
}

func startOracle(t *testing.T, b *broker) *oracle {
	t.Helper()
	o := &oracle{cloud: startCloud(t, b, "n1", nil), confirmed: map[string]bool{}}
	require.NoError(t, b.Subscribe(seal.ConfirmTopic("n1"), 2, func(_ *mqtt.Client, _ packets.Subscription, p packets.Packet) {
		c, err := o.opener.OpenConfirmation(p.Payload)
		if err != nil {
			t.Errorf("opening a confirmation: %v", err)
			return
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, r := range c.Results {
			o.confirmed[r.ID] = true
		}
	}))
	return o
}

// answer publishes the result of a task.
func (o *oracle) answer(t *testing.T, one *task.Task) {
	t.Helper()
	payload, err := answer.Of(one, one.Received, answer.Cloud, models.Answer{Model: "bearing", Version: "1.4", Resource: "R", Label: "worn", Confidence: 0.75}).Encode()
	require.NoError(t, err)
	msg, err := o.sealer.SealResult(nil, &seal.Result{
		ID: "r-" + one.EventID, Node: "n1", Created: time.Now(), EventID: one.EventID, OK: true, ContentType: answer.ContentType, Payload: payload,
	})
	require.NoError(t, err)
	require.NoError(t, o.broker.Publish(seal.ResultTopic("n1"), msg, false, 1))
}

func (o *oracle) confirms(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.confirmed[id]
}

// The cloud's answer is published on the bus like a local result, once, also after the process that sent the task has ended.
func TestTheCloudsAnswerIsOnTheBusOnce(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	o := startOracle(t, b)
	c := testConfig(t, b, "cloud")
	pub := &bin{}
	s := open(t, c, pub)
	s.Start()
	ev := event("pump-1", 1)
	ev.CorrelationID = "c-1"
	s.Submit([]*task.Event{ev}, func(_ int, err error) { require.NoError(t, err) })
	eventually(t, 10*time.Second, "the task is in the cloud", func() bool { return len(o.tasks()) == 1 })
	one := o.tasks()[0]
	for range 3 {
		o.answer(t, one)
	}
	eventually(t, 10*time.Second, "the answer is confirmed", func() bool { return o.confirms("r-" + one.EventID) })
	eventually(t, 10*time.Second, "repetitions are counted", func() bool { return s.Status().Answers.Repeated == 2 })
	results := func() []local.Result {
		pub.mu.Lock()
		defer pub.mu.Unlock()
		return append([]local.Result(nil), pub.results...)
	}
	require.Len(t, results(), 1)
	got := results()[0]
	require.Equal(t, "c-1", got.CorrelationID)
	require.Equal(t, "R_bearing", got.Source)
	for tag, want := range map[string]string{
		"computedBy": "cloud", "modelVersion": "1.4", "confidence": "0.75", "provisional": "false", "originEventId": ev.ID,
		task.TagNode: "n1", task.TagService: "app-offload", task.TagHop: "1",
	} {
		require.Equal(t, want, got.Event.Tags[tag], tag)
	}
	require.NoError(t, s.Stop())

	// Another run: it has never seen the tasks, and answers arrive for one that was answered before and one that was not.
	other := *one
	other.EventID = event("pump-1", 2).ID
	s = open(t, c, pub)
	s.Start()
	eventually(t, 10*time.Second, "connected", func() bool { return s.Status().Export.Connected })
	o.answer(t, one)
	o.answer(t, &other)
	eventually(t, 10*time.Second, "the answer is confirmed", func() bool { return o.confirms("r-" + other.EventID) })
	require.Len(t, results(), 2)
	require.Equal(t, other.EventID, results()[1].Event.Tags["originEventId"])
	// An event that comes back from the bus is recognised as a result, and concluded.
	again := &task.Event{ID: got.Event.Id, Device: "pump-1", Profile: "P", Source: "R_bearing", Encoding: task.JSON, Raw: []byte("{}")}
	accepted := s.Counts().Accepted
	require.NoError(t, submitOne(t, s, again))
	require.Equal(t, accepted, s.Counts().Accepted)
	require.NoError(t, s.Stop())
}
