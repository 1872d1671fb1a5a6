package intake

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	broker "github.com/mochi-mqtt/server/v2"
	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// levels returns all texts of at most n levels of the given words.
func levels(n int, words ...string) (all []string) {
	last := []string{""}
	for range n {
		var longer []string
		for _, begin := range last {
			for _, word := range words {
				longer = append(longer, strings.TrimPrefix(begin+"/"+word, "/"))
			}
		}
		all, last = append(all, longer...), longer
	}
	return all
}

// selects is MQTT's rule level by level.
func selects(filter, topic []string) bool {
	switch {
	case len(filter) == 0:
		return len(topic) == 0
	case filter[0] == "#":
		return len(filter) == 1
	case len(topic) == 0:
		return false
	}
	return (filter[0] == "+" || filter[0] == topic[0]) && selects(filter[1:], topic[1:])
}

// All filters and topics of up to three levels: a topic matches by the rule of MQTT, and one filter covers another exactly if it matches every topic
// of the other.
func TestFiltersSelectByTheRuleOfMQTT(t *testing.T) {
	var filters []string
	for _, f := range levels(3, "a", "b", "+", "#") {
		if checkFilter(f) == nil {
			filters = append(filters, f)
		}
	}
	topics := levels(4, "a", "b", "c")
	require.Len(t, filters, 4+12+36, "# stands last only")
	for _, f := range filters {
		matched := map[string]bool{}
		for _, topic := range topics {
			matched[topic] = MatchTopic(f, topic)
			require.Equal(t, selects(strings.Split(f, "/"), strings.Split(topic, "/")), matched[topic], "%s on %s", f, topic)
		}
		for _, g := range filters {
			all := true
			for _, topic := range topics {
				all = all && (!MatchTopic(g, topic) || matched[topic])
			}
			all = all && (f != "+/#" || g != "#") // they select the same, and one direction is enough to keep one of the two
			require.Equal(t, all, Covers(f, g), "%s over %s", f, g)
		}
	}
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{{"#", "", false}, {"+", "$SYS", false}, {"$SYS/#", "$SYS/x", true}, {"", "$SYS", false}, {"$share/g/a/#", "a/b", true}, {"$share/g/a/#", "b", false}} {
		bus := Bus{Topics: []string{"other", c.filter}}
		require.Equal(t, c.want, bus.expected(c.topic), "%s on %s", c.filter, c.topic)
	}
}

// A bus that cannot separate levels delivers at least the topics that MQTT's rule selects.
func TestSelectsLeavesNothingOutThatMQTTSelects(t *testing.T) {
	topics := levels(4, "a", "b", "ab")
	for _, f := range levels(3, "a", "b", "+", "#") {
		if checkFilter(f) != nil {
			continue
		}
		for _, topic := range topics {
			if MatchTopic(f, topic) {
				require.True(t, Selects([]string{"x", f}, topic), "%s on %s", f, topic)
				require.True(t, Selects([]string{f}, strings.ReplaceAll(topic, "/", ".")), "%s on %s", f, topic)
			} else if !strings.Contains(f, "+") {
				require.False(t, Selects([]string{f}, topic), "%s on %s", f, topic)
			}
		}
	}
}

func TestRemarksOnFilters(t *testing.T) {
	for list, want := range map[string][]string{
		"events/#, #, +/device, , events": nil,
		"edgex/events/#":                  {"base prefix"},
		"event/#":                         {"not below"},
		"event/#,edgex/#":                 {"not below", "base prefix"},
	} {
		remarks := FilterRemarks("edgex", list)
		require.Len(t, remarks, len(want), list)
		for i, part := range want {
			require.Contains(t, remarks[i], part)
		}
	}
	require.Error(t, checkFilter(strings.Repeat("a", 65536)))
	require.NoError(t, checkFilter(strings.Repeat("a", 65535)))
	filters, err := Filters("", "a,b/#,a")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b/#"}, filters, "no base prefix, no slash before")
}

// The required settings of a bus, with one mistake each.
func TestWhatABusNeeds(t *testing.T) {
	good := Bus{URL: "tcp://broker:1883", Topics: []string{"a"}, ClientID: "c"}
	require.NoError(t, good.validate(DefaultConfig()))
	clean := DefaultConfig()
	clean.PersistentSession = false
	for key, row := range map[string]struct {
		change func(*Bus)
		cfg    Config
		fine   bool
	}{
		"MessageBus.Protocol":        {func(b *Bus) { b.URL = "quic://broker:1" }, DefaultConfig(), false},
		"MessageBus.URL":             {func(b *Bus) { b.URL = "tcp://" }, DefaultConfig(), false},
		"MessageBus.SubscribeTopics": {func(b *Bus) { b.Topics = nil }, DefaultConfig(), false},
		"MessageBus.ClientID":        {func(b *Bus) { b.ClientID = "" }, DefaultConfig(), false},
		"no session, no id":          {func(b *Bus) { b.ClientID = "" }, clean, true},
		"MessageBus.AuthMode":        {func(b *Bus) { b.AuthMode = "usernamepassword" }, DefaultConfig(), false},
		"with a secret": {func(b *Bus) {
			b.AuthMode, b.Credentials = "usernamepassword", func() (Credentials, error) { return Credentials{}, nil }
		}, DefaultConfig(), true},
		"none":                 {func(b *Bus) { b.AuthMode = "none" }, DefaultConfig(), true},
		"MessageBus.AuthMode ": {func(b *Bus) { b.AuthMode = "nothing" }, DefaultConfig(), false},
	} {
		bus := good
		row.change(&bus)
		err := bus.validate(row.cfg)
		if row.fine {
			require.NoError(t, err, key)
			continue
		}
		require.ErrorContains(t, err, strings.TrimSpace(key)+" = ")
	}
}

// The last n events are known, at most twice as many are kept, and an id with other content is not taken for a repeat, however often ids are shared.
func TestRecentEventsAreKnown(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 7, 100} {
		r := newRecentEvents(n)
		var added []identity
		for i := range 10 * n {
			e := identity{uuid.UUID{byte(random.IntN(n + 1)), 1: byte(i / 256)}, uint64(i)}
			known, other := r.has(e)
			require.False(t, known)
			for _, earlier := range added[max(0, i-n):] {
				if earlier.id == e.id {
					require.True(t, other, "n=%d i=%d", n, i)
				}
			}
			r.add(e)
			added = append(added, e)
			for _, e := range added[max(0, i+1-n):] {
				known, other := r.has(e)
				require.True(t, known && !other, "n=%d i=%d", n, i)
			}
			kept := len(r.newer.digests) + len(r.newer.others) + len(r.older.digests) + len(r.older.others)
			require.LessOrEqual(t, kept, 2*n)
			known, _ = r.has(added[max(0, i-2*n)])
			require.Equal(t, i < 2*n, known, "n=%d i=%d: older ones are forgotten", n, i)
		}
	}
	r := newRecentEvents(0)
	r.add(identity{digest: 1})
	known, other := r.has(identity{digest: 1})
	require.False(t, known || other)
}

// A message and its event are in progress until they are answered: each outcome releases the room.
func TestWhatAMessageIsCountedAs(t *testing.T) {
	server, url := openBroker(t)
	cfg := testConfig()
	cfg.MaxSlice = 3
	s := startSubscriber(t, cfg, Bus{URL: url, Topics: []string{"edgex/events/#", "edgex/skip"}, Skip: func(topic string) bool { return topic == "edgex/skip" }}, &testSink{})
	for n, qos := range []byte{0, 1, 0, 1, 1} {
		require.NoError(t, server.Publish(testTopic, message(t, "device", n+1), false, qos))
	}
	require.NoError(t, server.Publish("edgex/skip", []byte("own"), false, 1))
	require.NoError(t, server.Publish(testTopic, []byte("no event"), false, 1))
	require.NoError(t, server.Publish(testTopic, message(t, "device", 1), false, 1))
	eventually(t, func() bool { c := s.Counts(); return c.Received == 8 && c.UnderWay.Events == 0 }, "all done")
	eventually(t, func() bool { return unacknowledged(server, "app-offload") == 0 }, "acknowledged")
	c := s.Counts()
	c.UnderWay = GateCounts{}
	require.Equal(t, SubscriberCounts{
		Received: 8, Unsafe: 2, Submitted: 5, Done: 5, Skipped: 1, Rejected: 1, Duplicates: 1, Acked: c.Acked, Connections: 1, Connected: true, Subscribed: true,
	}, c)
	require.GreaterOrEqual(t, c.Acked, uint64(6))
}

// The sink may answer twice, or late; only the first answer counts.
func TestASecondWordDoesNotCount(t *testing.T) {
	s := newSubscriber(t, testConfig(), Bus{URL: "tcp://127.0.0.1:1"}, &testSink{})
	d := &delivery{event: &task.Event{ID: "00000000-0000-0000-0000-000000000001"}, out: true}
	s.out = 1
	for _, word := range []error{nil, nil, errors.New("full")} {
		s.answer(d, word)
	}
	require.Equal(t, []uint64{1, 0}, []uint64{s.counts.Done, s.counts.Refused})
	require.Zero(t, s.out)
	require.Empty(t, s.retries)
}

// A topic that a broker refuses is named, and requested again.
func TestARefusedTopicIsNamedAndTriedAgain(t *testing.T) {
	_, at := startBroker(t, &refusing{}, nil, nil)
	s := newSubscriber(t, testConfig(), Bus{URL: "tcp://" + at, Topics: []string{"edgex/events/#", "edgex/secret/#"}}, &testSink{})
	s.Start(t.Context())
	defer stopSubscriber(t, s)
	eventually(t, func() bool {
		return s.log.(*logLines).count("subscribing: the broker refuses topic") == 1
	}, "named")
	c := s.Counts()
	require.True(t, c.Connected)
	require.False(t, c.Subscribed)
}

// refusing rejects subscriptions to a secret.
type refusing struct{ ackHook }

func (*refusing) OnACLCheck(_ *broker.Client, topic string, write bool) bool {
	return write || !strings.Contains(topic, "secret")
}

// The remembered topics belong to one broker and one client id; a file that cannot be written is reported and stops no event.
func TestWhatIsRememberedOfASession(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "subscriptions.json")
	of := func(url, id string, persistent bool) *Subscriber {
		cfg := testConfig()
		cfg.PersistentSession = persistent
		return newSubscriber(t, cfg, Bus{URL: url, ClientID: id, Remember: file}, &testSink{})
	}
	one := of("tcp://a:1", "c", true)
	require.Nil(t, one.remembered())
	one.remember([]string{"x", "y"})
	require.Equal(t, []string{"x", "y"}, one.remembered())
	require.Zero(t, one.log.(*logLines).count(""))
	written, err := os.Stat(file)
	require.NoError(t, err)
	one.remember([]string{"x", "y"})
	again, err := os.Stat(file)
	require.NoError(t, err)
	require.True(t, os.SameFile(written, again), "nothing new is not written")
	require.Nil(t, of("tcp://b:1", "c", true).remembered(), "another broker")
	require.Nil(t, of("tcp://a:1", "d", true).remembered(), "another client")
	require.Nil(t, of("tcp://a:1", "c", false).remembered(), "no session to remember")
	of("tcp://a:1", "c", false).remember([]string{"z"})
	require.Equal(t, []string{"x", "y"}, one.remembered())
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	require.NoError(t, err)
	require.Equal(t, []string{file}, left)
	one.bus.Remember = filepath.Join(dir, "none", "file")
	one.remember([]string{"x"})
	require.Equal(t, 1, one.log.(*logLines).count("cannot save the list of subscriptions"))
	one.bus.Remember = ""
	one.remember([]string{"x"})
	require.Equal(t, 1, one.log.(*logLines).count(""), "no file is wanted")
	require.Equal(t, []string{"a", "b", "c"}, union([]string{"a", "b"}, []string{"b", "c", "c"}))
}

// The order is that of each device, and how long an event is held does not depend on other devices.
func TestClosingTheOrdererIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink := &testSink{block: make(chan struct{})}
		o := orderer(sink, "10ms")
		o.Submit([]*task.Event{event("a", 1)}, ignore)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, o.Close(ctx), context.DeadlineExceeded, "the sink hangs")
		close(sink.block)
		require.NoError(t, o.Close(t.Context()))
	})
}

// A slice of any number of events has at most MaxSlice, in order, and none is left behind.
func TestSlicesAreBounded(t *testing.T) {
	for _, most := range []int{1, 2, 5, 50} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			server, url := openBroker(t)
			cfg := testConfig()
			cfg.MaxSlice = most
			sink := &testSink{block: make(chan struct{})}
			s := startSubscriber(t, cfg, Bus{URL: url}, sink)
			publish(t, server, 1, 31)
			eventually(t, func() bool { return len(s.arrived) >= 30-most }, "waiting behind the first slice")
			close(sink.block)
			eventually(t, func() bool { return s.Counts().Acked == 30 }, "all")
			require.Equal(t, sequence(1, 31), sink.got())
			for _, n := range sink.slices {
				require.LessOrEqual(t, n, most)
			}
			if most < 30 {
				require.Contains(t, sink.slices, most)
			}
		})
	}
}
