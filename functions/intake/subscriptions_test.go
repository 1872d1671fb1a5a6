package intake

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/mqtt/mosquittotest"
)

func publishOn(t *testing.T, url, topic string, retained bool, n int) {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("publisher"))
	require.NoError(t, wait(client.Connect()))
	defer client.Disconnect(100)
	require.NoError(t, wait(client.Publish(topic, 1, retained, message(t, "device", n))))
}

func stopSubscriber(t *testing.T, s *Subscriber) { require.NoError(t, s.Stop(context.Background())) }

// TestTopicsThatAreNoLongerConfiguredAreUnsubscribed: the session at the broker has the configured topics, over several restarts.
func TestTopicsThatAreNoLongerConfiguredAreUnsubscribed(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	file := filepath.Join(t.TempDir(), "subscriptions.json")
	all := Bus{URL: url, Remember: file, Topics: []string{"edgex/events/device/#", "edgex/other/#"}}
	narrow := Bus{URL: url, Remember: file, Topics: []string{"edgex/events/device/svc/profile/device/Float"}}

	s := startSubscriber(t, testConfig(), all, &testSink{})
	stopSubscriber(t, s)
	// In the broker's queue for the old subscription already.
	publishOn(t, url, "edgex/events/device/svc/profile/device/Integer", false, 1)

	sink := &testSink{}
	s = startSubscriber(t, testConfig(), narrow, sink)
	eventually(t, func() bool { return s.Counts().Unmatched == 1 }, "skipped")
	publishOn(t, url, "edgex/events/device/svc/profile/device/Unsigned", false, 2)
	publishOn(t, url, "edgex/other/x", false, 3)
	publishOn(t, url, "edgex/events/device/svc/profile/device/Float", false, 4)
	eventually(t, func() bool { return len(sink.got()) == 1 }, "the configured topic")
	require.Equal(t, []int64{4}, sink.got())
	require.Equal(t, uint64(1), s.Counts().Unmatched, "the others are not delivered any more")
	require.Equal(t, uint64(2), s.Counts().Received)
	eventually(t, func() bool { return s.Counts().Acked == 2 }, "acknowledged as well")
	require.Equal(t, 1, s.log.(*logLines).count("unsubscribed from"))
	stopSubscriber(t, s)

	s = startSubscriber(t, testConfig(), narrow, &testSink{})
	require.Zero(t, s.log.(*logLines).count("unsubscribed from"), "once is enough")
}

// TestAMessageOnNoConfiguredTopicIsNotProcessed, also if the old subscription is not remembered.
func TestAMessageOnNoConfiguredTopicIsNotProcessed(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	s := startSubscriber(t, testConfig(), Bus{URL: url, Topics: []string{"edgex/#"}}, &testSink{})
	stopSubscriber(t, s)
	sink := &testSink{}
	bus := Bus{URL: url, Topics: []string{"edgex/events/+/mine/#"}, Remember: filepath.Join(t.TempDir(), "subscriptions.json")}
	require.NoError(t, os.WriteFile(bus.Remember, []byte("{damaged"), 0o600))
	s = startSubscriber(t, testConfig(), bus, sink)
	publishTo(t, url, 1, 11)
	publishOn(t, url, "edgex/events/device/mine/x", false, 11)
	eventually(t, func() bool { return s.Counts().Acked == 11 }, "all acknowledged")
	require.Equal(t, []int64{11}, sink.got())
	require.Equal(t, uint64(10), s.Counts().Unmatched)
	require.Equal(t, 1, s.log.(*logLines).count("matches no configured topic"))
}

// TestRetainedMessagesAreNotEvents: the broker sends them again at each subscription. One that is published while the service is subscribed, or has a
// session, is an event like any other.
func TestRetainedMessagesAreNotEvents(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	publishOn(t, url, "edgex/events/device/svc/profile/device/early", true, 1)
	sink := &testSink{}
	for n := range 4 {
		s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
		eventually(t, func() bool { return s.Counts().Retained >= 1 }, "skipped")
		if n == 1 {
			publishOn(t, url, "edgex/events/device/svc/profile/device/live", true, 2)
			eventually(t, func() bool { return len(sink.got()) == 1 }, "a live one")
		}
		eventually(t, func() bool { c := s.Counts(); return c.Acked == c.Received }, "acknowledged")
		stopSubscriber(t, s)
		if n == 2 {
			publishOn(t, url, "edgex/events/device/svc/profile/device/queued", true, 3)
		}
	}
	require.Equal(t, []int64{2, 3}, sink.got())
}

// TestAnotherClientWithTheSameIDIsNamed: both take the connection from each other without end; after a few rounds log and status name the id.
func TestAnotherClientWithTheSameIDIsNamed(t *testing.T) {
	url := "tcp://" + mosquittotest.Start(t, "")
	s := startSubscriber(t, testConfig(), Bus{URL: url}, &testSink{})
	require.Empty(t, s.Rival())
	stop := make(chan struct{})
	var other sync.WaitGroup
	other.Go(func() { // reconnects as soon as this one is connected
		for n := uint64(1); ; {
			if c := s.Counts(); c.Subscribed && c.Connections >= n {
				client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("app-offload").SetCleanSession(false).SetAutoReconnect(false))
				if client.Connect().WaitTimeout(time.Second) {
					n = c.Connections + 1
					client.Disconnect(0)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	defer other.Wait()
	defer close(stop)
	eventually(t, func() bool { return s.Rival() != "" }, "noticed")
	require.Contains(t, s.Rival(), `another client uses ClientID "app-offload"`)
	eventually(t, func() bool { return s.log.(*logLines).count(`another client uses ClientID "app-offload"`) == 1 }, "in the log, once")
}

// A broker that restarts several times also closes connections that worked. That it is away in between shows that there is no other client.
func TestABrokerThatRestartsIsNoOtherClient(t *testing.T) {
	program, address := mosquittotest.Program(t), mosquittotest.FreeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	conf := filepath.Join(t.TempDir(), "conf")
	require.NoError(t, os.WriteFile(conf, []byte("user root\nallow_anonymous true\nlistener "+port+" 127.0.0.1\n"), 0o600))
	broker := mosquittotest.Run(t, program, conf, address)
	s := startSubscriber(t, testConfig(), Bus{URL: "tcp://" + address}, &testSink{})
	for n := 1; n <= 4; n++ {
		eventually(t, func() bool { return s.Counts().Subscribed }, "connected")
		require.NoError(t, broker.Process.Kill())
		_ = broker.Wait()
		eventually(t, func() bool { return s.log.(*logLines).count("lost the connection") == n }, "noticed")
		require.Empty(t, s.Rival(), "restart %d", n)
		broker = mosquittotest.Run(t, program, conf, address)
	}
	require.Zero(t, s.log.(*logLines).count("another client"))
}
