package functions

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/stretchr/testify/require"

	"app-offload/functions/intake"
	"app-offload/functions/local"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/seal"
	"app-offload/functions/spool"
	"app-offload/functions/task"
)

// stamped returns an event whose origin is n ms after a moment of now, so that its readings have times of their own.
func stamped(device string, base int64, n int) *task.Event {
	origin := base + int64(n)*int64(time.Millisecond)
	raw := fmt.Appendf(nil, `{"apiVersion":"v3","id":"%08d-0000-4000-8000-%012d","deviceName":%q,"profileName":"P","sourceName":"S",`+
		`"origin":%d,"readings":[{"id":"x","origin":%d,"deviceName":%q,"resourceName":"R","profileName":"P","valueType":"Float64","value":"1.5"}]}`,
		n, n, device, origin, origin, device)
	i := len(raw) - len(`1.5"}]}`)
	return &task.Event{
		ID: string(raw[25:61]), Device: device, Profile: "P", Source: "S", Origin: origin,
		Received: time.Now().UnixNano(), Encoding: task.JSON, Raw: raw,
		Readings: []task.Reading{{Resource: "R", Type: task.Float64, Origin: origin, Value: raw[i : i+3], Start: i, End: i + 3}},
	}
}

// ordered checks that the origins of each device ascend.
type ordered struct {
	mu    sync.Mutex
	last  map[string]int64
	n     int
	wrong []string
}

func (o *ordered) see(device string, origin int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = map[string]int64{}
	}
	o.n++
	if origin <= o.last[device] && len(o.wrong) < 10 {
		o.wrong = append(o.wrong, fmt.Sprintf("%s: %d ms back", device, (o.last[device]-origin)/int64(time.Millisecond)))
	}
	o.last[device] = max(o.last[device], origin)
}

func (o *ordered) require(t *testing.T, where string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	require.Empty(t, o.wrong, "%s, of %d", where, o.n)
}

// flaky publishes results, but fails each n-th.
type flaky struct {
	every int
	mu    sync.Mutex
	n     int
}

func (f *flaky) Publish(local.Result) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n++; f.every > 0 && f.n%f.every == 0 {
		return errors.New("the bus is gone for a moment")
	}
	return nil
}

// TestOrderIsKeptWhateverPathTasksTake: random paths, failing local work, a full spool, and events that are refused and retried; with one worker and
// with many.
func TestOrderIsKeptWhateverPathTasksTake(t *testing.T) {
	for _, row := range []struct {
		name      string
		policy    string
		workers   int
		failEvery int
		onFull    string // "" is a spool with room
		link      bool
	}{
		{"by chance", "random", 3, 0, "", true},
		{"local work fails", "random", 3, 5, "", true},
		{"local work fails, one worker", "random", 1, 3, "", true},
		{"the spool is full, processed here", "random", 3, 0, spool.Local, false},
		{"the spool is full, processed here, and that fails", "random", 2, 4, spool.Local, false},
		{"the spool is full, refused", "random", 3, 0, spool.Refuse, false},
		{"the spool is full, the oldest goes", "random", 3, 7, spool.DropOldest, false},
		{"weighted", "weighted", 3, 5, "", true},
		{"bandit", "bandit", 3, 5, "", true},
		{"parked tasks that keep their order", "defer", 3, 0, "", true},
		{"parked tasks that keep their order, the spool full", "defer", 2, 0, spool.Local, false},
		{"parked tasks that are processed in any order", "defer", 3, 0, "any", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano()) // a seed
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 1))
			var b *broker
			if row.link {
				b = startBroker(t)
			}
			cfg := testConfig(t, b, row.policy)
			cfg.Local.Workers, cfg.Local.Retries, cfg.Local.Operators = row.workers, 0, "rate"
			cfg.Writable.Policy.BacklogLimit = 1
			if row.policy == "defer" { // node and link are slow, and there is room for few
				slow := lateConfig(t)
				cfg.Writable.Policy, cfg.Writable.Score = slow.Writable.Policy, slow.Writable.Score
				cfg.Writable.Policy.DeferOrder, cfg.Writable.Policy.DeferTasks, cfg.Writable.Policy.BacklogLimit = true, 1+rnd.IntN(40), 1
				cfg.Local.Operators = "rate; burn each=100us"
			}
			class := cfg.Writable.Classes["default"]
			anyOrder := row.onFull == "any"
			if anyOrder {
				row.onFull, class.Operators = "", "burn each=50us"
			}
			if row.onFull != "" {
				cfg.Spool.QuotaMiB, class.OnFull = 16, row.onFull
			}
			cfg.Writable.Classes["default"] = class
			s := open(t, cfg, &flaky{every: row.failEvery})
			var atCloud *cloud
			if b != nil {
				atCloud = startCloud(t, b, cfg.Node, s.keys)
			}
			s.Start()
			if b != nil {
				eventually(t, 20*time.Second, "the link is up", func() bool { return s.host.State().Link.Up })
			}
			padding := 0
			if row.onFull != "" {
				padding = 20_000
			}
			const perDevice, devices = 400, 4
			submitInOrder(t, s, rnd, devices, perDevice, padding)
			if row.onFull == spool.Refuse {
				require.Positive(t, s.refused.Load())
			}
			if row.policy == "defer" {
				bound := 0
				for _, e := range s.Decisions(10_000, nil) {
					if e.Waited > 0 {
						bound++
					}
				}
				require.Positive(t, bound, "parked and bound later")
			}
			if row.onFull != spool.Local || row.failEvery == 0 { // else an event that failed here comes again, and is seen again
				require.Zero(t, s.local.Counts().Stale, "at the operators")
			}
			if atCloud != nil {
				eventually(t, 20*time.Second, "all at the cloud", func() bool { return s.Counts().Spooled == 0 })
				var o ordered
				for _, one := range atCloud.tasks() {
					o.see(one.Device, one.Origin)
				}
				o.require(t, "at the cloud")
				require.Positive(t, o.n)
			}
			inSpool(t, s).require(t, "in the spool")
		})
	}
}

// inSpool returns the order in which the remaining records would leave.
func inSpool(t *testing.T, s *Service) *ordered {
	o := &ordered{}
	for _, from := range []spool.Source{spool.Backlog, spool.Live} {
		for _, q := range s.spool.Queues(nil) {
			for _, r := range s.spool.Take(q.Lane, q.Class, from, 1<<20, 1<<30, nil) {
				one, err := task.Decode(r.Payload)
				require.NoError(t, err)
				o.see(one.Device, one.Origin)
			}
		}
	}
	return o
}

// submitInOrder feeds slices as the subscriber does: refused events are retried in order, before any new one; in a spool that stays full only a few
// times.
func submitInOrder(t *testing.T, s *Service, rnd *rand.Rand, devices, perDevice, padding int) {
	base := time.Now().UnixNano()
	var pending []*task.Event
	for n := range perDevice {
		for d := range devices {
			ev := stamped(fmt.Sprintf("d%d", d), base, n*devices+d)
			ev.Raw = append(ev.Raw[:len(ev.Raw)-1:len(ev.Raw)-1], fmt.Sprintf(`,"tags":{"x":"%0*d"}}`, max(padding, 1), 0)...)
			pending = append(pending, ev)
		}
	}
	var mu sync.Mutex
	var out sync.WaitGroup
	var refused []*task.Event
	for stuck := 0; len(pending) > 0 && stuck < 20; {
		n := min(len(pending), 1+rnd.IntN(64))
		slice := pending[:n:n]
		pending = pending[n:]
		out.Add(n)
		Again{s.Pipeline}.Submit(slice, func(i int, err error) {
			defer out.Done()
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				refused = append(refused, slice[i])
			}
		})
		mu.Lock()
		holding := len(refused) > 0
		mu.Unlock()
		if !holding && rnd.IntN(4) > 0 {
			continue // the next slice arrives while this one is in flight
		}
		out.Wait()
		slices.SortFunc(refused, func(a, b *task.Event) int { return cmp.Compare(a.Origin, b.Origin) })
		pending = append(slices.Clone(refused), pending...)
		if len(refused) > 0 {
			stuck++
		}
		refused = nil
	}
	out.Wait()
	eventually(t, 20*time.Second, "all concluded", func() bool { return s.Counts().InFlight == 0 })
	require.Zero(t, s.Counts().Balance)
}

// TestMosquittoOrder: from a real broker, through the service, to the operators and the cloud.
func TestMosquittoOrder(t *testing.T) {
	for _, row := range []struct {
		policy           string
		devices, perEach int
	}{
		{"random", 2, 10_000},
		{"", 10, 1_000}, // the default
	} {
		t.Run(row.policy+fmt.Sprint(row.devices), func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, nil, row.policy)
			if row.policy == "" {
				cfg = shippedPolicy(t, nil)
			}
			cfg.Export.Broker = "tcp://" + mosquittotest.Start(t, "")
			cfg.Local.Operators = "rate limit=1e300"
			s := open(t, cfg, &bin{})
			src, err := s.MQTTSource(intake.Bus{URL: cfg.Export.Broker, Topics: []string{"edgex/events/#"}, ClientID: "app-offload-intake", AuthMode: "none"})
			require.NoError(t, err)
			s.Start()
			s.StartSource(context.Background(), src)
			eventually(t, 20*time.Second, "subscribed", func() bool { return src.Problem() == "" })

			var atCloud ordered
			listenAt(t, cfg.Export.Broker, cfg.Node, s, &atCloud)
			each := row.perEach
			if testing.Short() {
				each /= 10
			}
			publishEvents(t, cfg.Export.Broker, row.devices, each)
			total := int64(row.devices * each)
			eventually(t, 2*time.Minute, "all accepted", func() bool { return s.Counts().Accepted >= total })
			eventually(t, time.Minute, "all receipted", func() bool { c := s.Counts(); return c.Spooled == 0 && c.InFlight == 0 })
			require.Equal(t, total, s.Counts().Accepted)
			require.Zero(t, s.local.Counts().Stale, "at the operators")
			atCloud.require(t, "at the cloud")
			t.Logf("%d at the cloud, %d readings here", atCloud.n, s.local.Counts().Readings)
		})
	}
}

// listenAt is a consumer that records the order and sends receipts.
func listenAt(t *testing.T, url, node string, s *Service, o *ordered) {
	sealer, err := seal.NewSealer(seal.DefaultConfig(), s.keys)
	require.NoError(t, err)
	opener := seal.NewOpener(s.keys, seal.Limits{})
	seen := map[uint64]bool{}
	client := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID("cloud"))
	require.True(t, client.Connect().WaitTimeout(10*time.Second))
	t.Cleanup(func() { client.Disconnect(100) })
	token := client.Subscribe(seal.BatchTopic(node, "+"), 1, func(c paho.Client, m paho.Message) {
		b, err := opener.Open(m.Payload())
		if err != nil {
			t.Errorf("opening a batch: %v", err)
			return
		}
		receipt := &seal.Receipt{ID: b.ID, Node: b.Node, Epoch: b.Epoch, Created: time.Now()}
		for i, seq := range b.Sequences {
			receipt.Safe = append(receipt.Safe, seal.Range{First: seq, Last: seq})
			if one, err := task.Decode(b.Tasks[i]); err == nil && !seen[seq] {
				seen[seq] = true
				o.see(one.Device, one.Origin)
			}
		}
		raw, err := sealer.SealReceipt(nil, receipt)
		if err != nil {
			t.Errorf("sealing a receipt: %v", err)
			return
		}
		c.Publish(seal.ReceiptTopic(b.Node), 1, false, raw)
	})
	require.True(t, token.WaitTimeout(10*time.Second))
}

func publishEvents(t *testing.T, url string, devices, perEach int) {
	client := paho.NewClient(paho.NewClientOptions().AddBroker(url).SetClientID("devices"))
	require.True(t, client.Connect().WaitTimeout(10*time.Second))
	defer client.Disconnect(100)
	base := time.Now().UnixNano()
	for n := range perEach {
		var last paho.Token
		for d := range devices {
			ev := stamped(fmt.Sprintf("d%d", d), base, n*devices+d)
			last = client.Publish("edgex/events/device/svc/P/"+ev.Device+"/S", 1, false, fmt.Appendf(nil, `{"apiVersion":"v3","correlationID":"c1","contentType":"application/json","payload":%q}`, base64.StdEncoding.EncodeToString(ev.Raw)))
		}
		if n%20 == 19 {
			require.True(t, last.WaitTimeout(time.Minute))
		}
	}
}

// TestWhatFollowsARefusedEventIsRefusedUntilThatComesAgain, although there is room by then: its sender did not know of the refusal yet. A sender that
// does not promise to retry blocks nothing, and other devices continue.
func TestWhatFollowsARefusedEventIsRefusedUntilThatComesAgain(t *testing.T) {
	cfg := testConfig(t, nil, "cloud")
	cfg.Spool.QuotaMiB, cfg.Writable.Policy.BacklogLimit = 16, 1
	class := cfg.Writable.Classes["default"]
	class.OnFull = spool.Refuse
	cfg.Writable.Classes["default"] = class
	s := open(t, cfg, &bin{})
	put := func(events ...*task.Event) (refused int) {
		var mu sync.Mutex
		var done sync.WaitGroup
		done.Add(len(events))
		Again{s.Pipeline}.Submit(events, func(_ int, err error) {
			defer done.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				require.ErrorIs(t, err, ErrRefused)
				refused++
			}
		})
		done.Wait()
		return refused
	}
	n := 0
	for ; put(large("filler", n, 100_000)) == 0; n++ {
	}
	base := time.Now().UnixNano()
	at := func(device string, n int) *task.Event {
		ev := stamped(device, base, n)
		ev.Raw = append(ev.Raw[:len(ev.Raw)-1:len(ev.Raw)-1], fmt.Sprintf(`,"tags":{"x":"%0100000d"}}`, 0)...)
		return ev
	}
	first, second, other := at("a", 1), at("a", 2), at("b", 3)
	require.Equal(t, 1, put(first))
	for range 20 {
		s.spool.Drop([]uint64{s.spool.Take(class.Priority, "default", spool.Live, 1, 1<<20, nil)[0].Seq}, "test")
	}
	require.Equal(t, 1, put(second), "the first has not come again")
	require.Zero(t, put(other), "another device")
	require.Zero(t, put(first, second))
	require.Zero(t, put(at("a", 4)))
	inSpool(t, s).require(t, "in the spool")
}
