package mqtt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"
)

// choosy is a broker that refuses every subscription to a secret.
type choosy struct{ auth.AllowHook }

func (choosy) OnACLCheck(_ *broker.Client, topic string, write bool) bool {
	return write || topic != "secret"
}

func startChoosy(t *testing.T) (*broker.Server, Address) {
	server := broker.New(&broker.Options{InlineClient: true, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, server.AddHook(&choosy{}, nil))
	listener := listeners.NewTCP(listeners.Config{ID: "t", Address: "127.0.0.1:0"})
	require.NoError(t, server.AddListener(listener))
	require.NoError(t, server.Serve())
	t.Cleanup(func() { _ = server.Close() })
	at, err := ParseAddress("tcp://" + listener.Address())
	require.NoError(t, err)
	return server, at
}

// kept is a keeper that records its callbacks.
type kept struct {
	*Keeper
	mu     sync.Mutex
	up     []*Session
	down   []error
	failed []error
	got    []string
}

func keep(t *testing.T, at Address) (*kept, context.CancelFunc) {
	k := &kept{}
	k.Keeper = &Keeper{
		Options: Options{
			Brokers: []Address{at}, ClientID: "c", KeepAlive: time.Minute, PingTimeout: time.Minute, ConnectTimeout: time.Minute, Stall: time.Minute,
			ReadBuffer: 4 << 10, MaxPacket: 1 << 20, ManualAck: true,
			Receive: func(s *Session, m Message) {
				k.mu.Lock()
				k.got = append(k.got, string(m.Payload))
				k.mu.Unlock()
				m.Ack()
			},
		},
		Backoff: Backoff{Low: time.Millisecond, High: time.Millisecond},
		Up:      func(s *Session) { k.mu.Lock(); k.up = append(k.up, s); k.mu.Unlock() },
		Down: func(s *Session, lived time.Duration) {
			k.mu.Lock()
			k.down = append(k.down, s.Cause())
			k.mu.Unlock()
		},
		Failed: func(err error) { k.mu.Lock(); k.failed = append(k.failed, err); k.mu.Unlock() },
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { k.Run(ctx) })
	stop := func() { cancel(); running.Wait() }
	t.Cleanup(func() { stop(); k.End() })
	return k, stop
}

func (k *kept) counts() (up, down, failed int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.up), len(k.down), len(k.failed)
}

// A session that is lost, cut or renewed is replaced; Up and Down are called once for each, and Await returns only a live one.
func TestAKeeperReplacesItsSession(t *testing.T) {
	server, at := startChoosy(t)
	k, stop := keep(t, at)
	for n, end := range []func(*Session){
		func(*Session) { k.Renew() },
		func(s *Session) { s.Cut() },
		func(s *Session) { s.Fail(errors.New("of another cause")) },
		func(*Session) {
			cl, ok := server.Clients.Get("c")
			require.True(t, ok)
			cl.Stop(errors.New("the broker closes it"))
		},
	} {
		s, err := k.Await(t.Context())
		require.NoError(t, err)
		require.True(t, s.Alive())
		require.NoError(t, s.Cause())
		require.Same(t, s, k.Session())
		require.Equal(t, n > 0, s.Remembered)
		end(s)
		select {
		case <-s.Lost():
		case <-time.After(time.Minute):
			require.Fail(t, "it is not noticed", n)
		}
		require.False(t, s.Alive())
		require.Error(t, s.Cause())
		require.Eventually(t, func() bool { up, down, _ := k.counts(); return up == n+2 && down == n+1 }, time.Minute, time.Millisecond)
		require.NotSame(t, s, k.Session())
	}
	require.ErrorContains(t, k.down[2], "of another cause")
	_, _, failed := k.counts()
	require.Zero(t, failed)
	s := k.Session()
	stop()
	require.True(t, s.Alive(), "acknowledgements can still leave")
	k.End()
	require.False(t, s.Alive())
	require.Nil(t, k.Session())
	late, err := Dial(t.Context(), k.Options)
	require.NoError(t, err)
	k.set(late)
	require.False(t, late.Alive(), "a connection that stands after the end is closed")
	require.Eventually(t, func() bool { cl, ok := server.Clients.Get("c"); return !ok || cl.Closed() }, time.Minute, time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = k.Await(ctx)
	require.ErrorIs(t, err, context.Canceled)

	other := &Keeper{Options: k.Options}
	old, err := Dial(t.Context(), k.Options)
	require.NoError(t, err)
	defer old.End(ErrStopped, 0)
	other.Renew() // while it is dialled
	other.set(old)
	select {
	case <-old.Lost():
	case <-time.After(time.Minute):
		require.Fail(t, "a session with old secrets stays")
	}
}

// Each failed attempt is reported, and attempts end with the context.
func TestAKeeperTriesAgain(t *testing.T) {
	at, err := ParseAddress("tcp://127.0.0.1:1")
	require.NoError(t, err)
	k, stop := keep(t, at)
	require.Eventually(t, func() bool { _, _, failed := k.counts(); return failed > 3 }, time.Minute, time.Millisecond)
	require.Nil(t, k.Session())
	stop()
	up, down, failed := k.counts()
	require.Zero(t, up+down)
	time.Sleep(5 * time.Millisecond)
	_, _, again := k.counts()
	require.Equal(t, failed, again)
}

// Published messages arrive, refused topics are named in order, and unsubscribed topics are no longer received.
func TestASessionSubscribes(t *testing.T) {
	server, at := startChoosy(t)
	k, _ := keep(t, at)
	s, err := k.Await(t.Context())
	require.NoError(t, err)
	for range 2 {
		refused, err := s.Subscribe(t.Context(), map[string]byte{"a": 1, "secret": 1, "b": 1})
		require.NoError(t, err)
		require.Equal(t, []string{"secret"}, refused)
	}
	refused, err := s.Subscribe(t.Context(), map[string]byte{"secret": 1})
	require.NoError(t, err)
	require.Equal(t, []string{"secret"}, refused, "all of them")
	publish := func(topic, text string) {
		token := s.Publish(topic, []byte(text))
		<-token.Done()
		require.NoError(t, token.Error())
		require.NotNil(t, Finished(token))
	}
	publish("a", "one")
	publish("secret", "two")
	publish("b", "three")
	got := func() []string { k.mu.Lock(); defer k.mu.Unlock(); return append([]string(nil), k.got...) }
	require.Eventually(t, func() bool { return len(got()) == 2 }, time.Minute, time.Millisecond)
	require.Empty(t, server.Topics.Messages("#"), "nothing is retained")
	require.NoError(t, s.Unsubscribe(t.Context(), "a"))
	publish("a", "four")
	publish("b", "five")
	require.Eventually(t, func() bool { return len(got()) == 3 }, time.Minute, time.Millisecond)
	require.Equal(t, []string{"one", "three", "five"}, got())
	s.Cut()
	<-s.Lost()
	_, err = s.Subscribe(t.Context(), map[string]byte{"a": 1})
	require.Error(t, err, "the session has ended")
}

// A failed login is not a network fault, and names the secret; a session that cannot publish ends with the cause soon.
func TestHowASessionFails(t *testing.T) {
	_, at := startChoosy(t)
	broken := errors.New("the secret store is away")
	_, err := Dial(t.Context(), Options{Brokers: []Address{at}, ClientID: "x", ConnectTimeout: time.Minute, Login: func() (Login, error) { return Login{}, broken }})
	var login *LoginError
	require.ErrorAs(t, err, &login)
	require.ErrorIs(t, err, broken)
	require.Equal(t, broken.Error(), login.Error())
	k, _ := keep(t, at)
	s, err := k.Await(t.Context())
	require.NoError(t, err)
	s.FailSoon(errors.New("full"))
	<-s.Lost()
	require.EqualError(t, s.Cause(), "publishing: full")
	s.Fail(errors.New("another"))
	require.EqualError(t, s.Cause(), "publishing: full", "the first cause stays")
}

// A failed connection returns an error with its cause, and no session.
func TestADialThatFailsLeavesNoSession(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	silent, err := ParseAddress("tcp://" + l.Addr().String())
	require.NoError(t, err)
	defer l.Close()
	gone, err := ParseAddress("tcp://127.0.0.1:1")
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, c := range map[string]struct {
		ctx     context.Context
		at      Address
		timeout time.Duration
		want    string
	}{
		"refused":             {t.Context(), gone, time.Minute, "connection refused"},
		"no answer":           {t.Context(), silent, 50 * time.Millisecond, ""},
		"the caller gives up": {ended, silent, time.Minute, "cancel"}, // "context canceled" or "operation was canceled", by where it was noticed
	} {
		s, err := Dial(c.ctx, Options{Brokers: []Address{c.at}, ClientID: "x", ConnectTimeout: c.timeout, Stall: time.Minute, KeepAlive: time.Minute, PingTimeout: time.Minute})
		require.Nil(t, s, name)
		require.Error(t, err, name)
		require.ErrorContains(t, err, c.want, name)
	}

	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer other.Close()
	at, err := ParseAddress("tcp://" + other.Addr().String())
	require.NoError(t, err)
	late, giveUp := context.WithCancel(t.Context())
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := other.Accept()
		if err == nil {
			_, _ = packets.ReadPacket(c)
			accepted <- c
		}
		giveUp() // after the CONNECT, to which there is no answer
	}()
	_, err = Dial(late, Options{Brokers: []Address{at}, ClientID: "x", ConnectTimeout: time.Hour, Stall: time.Minute, KeepAlive: time.Minute, PingTimeout: time.Minute})
	require.ErrorIs(t, err, context.Canceled)
	c := <-accepted
	defer c.Close()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.Copy(io.Discard, c)
	require.NoError(t, err, "the connection is closed")
}

// A subscription without an answer is an error.
func TestASubscriptionNeedsAnAnswer(t *testing.T) {
	_, at := startChoosy(t)
	k, _ := keep(t, at)
	s, err := k.Await(t.Context())
	require.NoError(t, err)
	s.timeout = 0
	s.Cut()
	<-s.Lost()
	refused, err := s.Subscribe(t.Context(), map[string]byte{"secret": 1})
	require.Error(t, err)
	require.Nil(t, refused)
	require.Error(t, s.Unsubscribe(t.Context(), "a"))
}

// A broker that refuses a connection answers with a number; the error names what it refused.
func TestARefusalNamesWhatIsRefused(t *testing.T) {
	for code, want := range map[byte]string{
		packets.ErrRefusedIDRejected:            `the broker rejects ClientID "gate-1": identifier rejected`,
		packets.ErrRefusedBadUsernameOrPassword: `the broker refuses user "plant" with ClientID "gate-1": check its access rules, and the secret: bad user name or password`,
		packets.ErrRefusedNotAuthorised:         `the broker refuses user "plant" with ClientID "gate-1": check its access rules, and the secret: not Authorized`,
		packets.ErrRefusedServerUnavailable:     "server Unavailable",
		0x86:                                    "network Error : the broker refuses the connection with the unknown return code 134",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			for c, err := l.Accept(); err == nil; c, err = l.Accept() {
				_, _ = packets.ReadPacket(c)
				refused := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
				refused.ReturnCode = code
				_ = refused.Write(c)
				_ = c.Close()
			}
		}()
		at, err := ParseAddress("tcp://" + l.Addr().String())
		require.NoError(t, err)
		_, err = Dial(t.Context(), Options{
			Brokers: []Address{at}, ClientID: "gate-1", Stall: time.Minute, ConnectTimeout: time.Minute, KeepAlive: time.Minute, PingTimeout: time.Minute,
			Login: func() (Login, error) { return Login{Username: "plant", Password: "canary"}, nil },
		})
		require.EqualError(t, err, want)
	}
}

// A broker whose answer to a subscription has other codes than one for each filter is an error, and nothing more.
func TestAnOddAnswerToASubscriptionIsAnError(t *testing.T) {
	for want, codes := range map[string][]byte{
		"connection lost": {0, 0, 0},
		"the broker has answered only 1 of 2 filters": {0},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			for p, err := packets.ReadPacket(c); err == nil; p, err = packets.ReadPacket(c) {
				answer := connack
				if _, is := p.(*packets.SubscribePacket); is {
					answer = append([]byte{packets.Suback << 4, byte(2 + len(codes)), 0, byte(p.Details().MessageID)}, codes...)
				}
				_, _ = c.Write(answer)
			}
		}()
		at, err := ParseAddress("tcp://" + l.Addr().String())
		require.NoError(t, err)
		s, err := Dial(t.Context(), Options{
			Brokers: []Address{at}, ClientID: "c", Stall: time.Minute, ConnectTimeout: time.Minute, KeepAlive: time.Minute, PingTimeout: time.Minute,
		})
		require.NoError(t, err)
		defer s.End(ErrStopped, 0)
		_, err = s.Subscribe(t.Context(), map[string]byte{"a": 1, "b": 1})
		require.ErrorContains(t, err, want)
	}
}
