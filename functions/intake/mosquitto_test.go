package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// startMosquitto runs Debian's broker, which is where only root looks for it. Where there is none it skips the test, but in CI the
// test fails.
func startMosquitto(t *testing.T) string {
	const binary = "/usr/sbin/mosquitto"
	if _, err := os.Stat(binary); err != nil {
		require.Empty(t, os.Getenv("CI"), "CI has to install mosquitto")
		t.Skip("mosquitto is not installed")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	port := listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, listener.Close())
	config := filepath.Join(t.TempDir(), "mosquitto.conf")
	require.NoError(t, os.WriteFile(config, fmt.Appendf(nil, "listener %d 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n", port), 0o600))
	broker := exec.Command(binary, "-c", config)
	require.NoError(t, broker.Start())
	t.Cleanup(func() {
		_ = broker.Process.Kill()
		_ = broker.Wait()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	eventually(t, func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "mosquitto listens")
	return "tcp://" + address
}

func publishTo(t *testing.T, url string, from, to int) {
	client := mqtt.NewClient(mqtt.NewClientOptions().AddBroker(url).SetClientID("publisher"))
	require.NoError(t, wait(client.Connect()))
	defer client.Disconnect(100)
	var last mqtt.Token
	for n := from; n < to; n++ {
		last = client.Publish(testTopic, 1, false, message(t, "device", n))
	}
	require.NoError(t, wait(last))
}

func wait(token mqtt.Token) error {
	if !token.WaitTimeout(time.Minute) {
		return errors.New("the broker does not answer")
	}
	return token.Error()
}

// TestMosquittoDeliversAgainInOrder: what was under way at a kill comes again, first and in order, and so does what was
// published meanwhile.
func TestMosquittoDeliversAgainInOrder(t *testing.T) {
	url := startMosquitto(t)
	first := &testSink{holding: true}
	killed := startSubscriber(t, testConfig(), Bus{URL: url}, first)
	publishTo(t, url, 1, 101)
	eventually(t, func() bool { return len(first.got()) == 20 }, "its window is 20")
	kill(killed)
	publishTo(t, url, 101, 151)

	second := &testSink{}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, second)
	eventually(t, func() bool { return s.Counts().Acked == 150 }, "all")
	require.Equal(t, sequence(1, 151), second.got())
	first.answer()
	requireNothingLeft(t, s, url)
}

// TestMosquittoDeliversInOrderWhateverIsDoneFirst: where acknowledgements came in another order than the messages, it would not.
func TestMosquittoDeliversInOrderWhateverIsDoneFirst(t *testing.T) {
	url := startMosquitto(t)
	var mu sync.Mutex
	var got []int64
	sink := &shufflingSink{refuse: func(ev *task.Event) bool {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, ev.Origin)
		return false
	}}
	s := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publishTo(t, url, 1, 1501)
	eventually(t, func() bool { return s.Counts().Acked == 1500 }, "all")
	require.Equal(t, sequence(1, 1501), got)
	require.Zero(t, s.Counts().Duplicates)
	requireNothingLeft(t, s, url)
}

// requireNothingLeft asks the broker by coming back: it delivers whatever it still holds.
func requireNothingLeft(t *testing.T, s *Subscriber, url string) {
	require.NoError(t, s.Stop(context.Background()))
	sink := &testSink{}
	next := startSubscriber(t, testConfig(), Bus{URL: url}, sink)
	publishTo(t, url, 1000, 1001)
	eventually(t, func() bool { return next.Counts().Acked == 1 }, "a new one")
	require.Equal(t, sequence(1000, 1001), sink.got(), "and nothing before it")
}

// shufflingSink answers from a goroutine each, in no order.
type shufflingSink struct{ refuse func(*task.Event) bool }

func (s *shufflingSink) Submit(events []*task.Event, done func(i int, err error)) {
	for i, ev := range events {
		var err error
		if s.refuse != nil && s.refuse(ev) {
			err = errors.New("refused")
		}
		go func() {
			time.Sleep(time.Duration(rand.IntN(5)) * time.Millisecond)
			done(i, err)
		}()
	}
}
