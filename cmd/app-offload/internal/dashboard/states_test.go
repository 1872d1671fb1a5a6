package dashboard

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/browsertest"
	"app-offload/functions"
	"app-offload/functions/clock"
	"app-offload/functions/config"
	"app-offload/functions/local"
	"app-offload/functions/mqtt/mosquittotest"
	"app-offload/functions/receive"
	"app-offload/functions/status"
)

// node is a whole service with its page, a broker that can be stopped, and a settable clock.
type node struct {
	t       *testing.T
	service *functions.Service
	clock   *clock.Fake
	broker  *mqtt.Server
	away    func() // ends the broker
	web     *httptest.Server
	events  int
}

type quietLog struct{}

func (quietLog) Debugf(string, ...any) {}
func (quietLog) Infof(string, ...any)  {}
func (quietLog) Warnf(string, ...any)  {}
func (quietLog) Errorf(string, ...any) {}

type noSecrets struct{}

func (noSecrets) GetSecret(name string, _ ...string) (map[string]string, error) {
	return nil, fmt.Errorf("no secret %q", name)
}

type noResults struct{}

func (noResults) Publish(local.Result) error { return nil }

// newNode starts one at a broker of its own, without a consumer.
func newNode(t *testing.T, change func(*config.Config)) *node {
	t.Helper()
	address := mosquittotest.FreeAddress(t)
	n := &node{t: t, clock: clock.NewFake(time.Now()), broker: mqtt.New(&mqtt.Options{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})}
	require.NoError(t, n.broker.AddHook(new(auth.AllowHook), nil))
	require.NoError(t, n.broker.AddListener(listeners.NewTCP(listeners.Config{ID: "t", Address: address})))
	require.NoError(t, n.broker.Serve())
	n.away = sync.OnceFunc(func() { _ = n.broker.Close() })
	cfg := config.Default()
	cfg.Node, cfg.Spool.Directory, cfg.Spool.QuotaMiB = "n1", t.TempDir(), 64
	cfg.Writable.Policy.Default, cfg.Export.Broker = "cloud", "tcp://"+address
	cfg.Export.Confirm = "puback" // no consumer runs here
	if change != nil {
		change(&cfg)
	}
	var err error
	n.service, err = functions.New(cfg, functions.Deps{Name: "app-offload", Log: quietLog{}, Secrets: noSecrets{}, Publisher: noResults{}, Clock: clock.New(n.clock)})
	require.NoError(t, err)
	n.service.Start()
	n.serve()
	t.Cleanup(n.away)
	t.Cleanup(func() { _ = n.service.Stop() })
	return n
}

// serve serves the page, and observes the service as the watcher does.
func (n *node) serve() {
	d := New(n.service)
	api := "/api/v3/offload/"
	mux := http.NewServeMux()
	mux.HandleFunc(api+"ui", func(w http.ResponseWriter, r *http.Request) { _ = d.ServePage(w, r) })
	mux.HandleFunc(api+"ui/data", func(w http.ResponseWriter, _ *http.Request) { writeJSON(n.t, w, d.Data(time.Now(), Query{})) })
	mux.HandleFunc("POST "+api+"drops/acknowledge", func(w http.ResponseWriter, _ *http.Request) {
		count, err := n.service.Acknowledge()
		if err != nil {
			n.t.Errorf("acknowledging: %v", err)
		}
		writeJSON(n.t, w, map[string]any{"acknowledged": count})
	})
	n.web = httptest.NewServer(mux)
	n.t.Cleanup(n.web.Close)
	stop := make(chan struct{})
	var looking sync.WaitGroup
	looking.Go(func() {
		for {
			st := n.service.Status()
			d.Observe(time.Now(), &st, 0.9)
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	})
	n.t.Cleanup(func() { close(stop); looking.Wait() })
}

// take submits an event of that size, and returns whether it was accepted.
func (n *node) take(bytes int) error {
	n.events++
	id := fmt.Sprintf("00000000-0000-4000-8000-%012d", n.events)
	return n.service.Receive(receive.Message{ContentType: "application/json", Payload: fmt.Appendf(nil, `{"apiVersion":"v3","id":"%[1]s","deviceName":"d","profileName":"P",`+
		`"sourceName":"S","origin":%[2]d,"readings":[{"id":"%[1]s","origin":%[2]d,"deviceName":"d","resourceName":"R","profileName":"P","valueType":"String","value":"%[3]s"}]}`,
		id, time.Now().UnixNano(), noise(n.events, bytes))})
}

// noise returns text that compresses badly.
func noise(seed, bytes int) string {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	var b strings.Builder
	for x := uint64(seed); b.Len() < bytes; {
		x = x*6364136223846793005 + 1442695040888963407
		b.WriteByte(letters[x>>58])
	}
	return b.String()
}

func (n *node) rubbish() {
	_ = n.service.Receive(receive.Message{Topic: "edgex/events/device/x", ContentType: "application/json", Payload: []byte(`{"temperature":21.5}`)})
}

// tmpfs is a small disk.
func tmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		if errors.Is(err, syscall.EPERM) && os.Geteuid() != 0 {
			t.Skip("mounting a small disk needs root")
		}
		require.NoError(t, err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// Each state that a user should know of is on the page of a real service, as a banner with its reason, and "All is well" is not.
func TestPageNamesEachState(t *testing.T) {
	t.Parallel()
	full := func(c *config.Config) {
		classes := c.Writable.Classes
		for name, class := range classes {
			class.OnFull = "refuse"
			classes[name] = class
		}
		c.Writable.Policy.BacklogLimit = 1
	}
	b := browsertest.New(t)
	for _, c := range []struct {
		code, title string
		says        string
		before      func(*testing.T, *config.Config)
		happens     func(*node)
	}{
		{"quarantine", "Quarantine", "20 of 20 messages", nil, func(n *node) {
			for range 20 {
				n.rubbish()
			}
		}},
		{"refused", "Events refused", "MaxEvents", func(_ *testing.T, c *config.Config) { c.Intake.MaxEvents = 1 }, func(n *node) {
			var all sync.WaitGroup
			for i := range 200 {
				all.Go(func() {
					if i%2 == 0 {
						n.rubbish() // it passes the gate as well
					} else {
						_ = n.service.Receive(receive.Message{ContentType: "application/json", Payload: []byte(noise(i, 1<<20))})
					}
				})
			}
			all.Wait()
		}},
		{"diskFull", "Disk full", "make room there", func(t *testing.T, c *config.Config) { c.Spool.Directory, c.Spool.QuotaMiB = tmpfs(t, 12), 512; full(c) }, func(n *node) {
			n.away()
			for range 60 {
				_ = n.take(400 << 10)
			}
		}},
		{"spoolFull", "Spool full", "raise Offload.Spool.QuotaMiB", func(_ *testing.T, c *config.Config) { c.Spool.QuotaMiB = 16; full(c) }, func(n *node) {
			n.away()
			for range 80 {
				_ = n.take(400 << 10)
			}
		}},
		{"linkDown", "Link down", "wait in the spool", nil, func(n *node) { n.away() }},
		{"consumerSilent", "No receipts", "offload-cloud", func(_ *testing.T, c *config.Config) { c.Export.Confirm, c.Export.ReceiptTimeout = "receipt", "1s" }, func(n *node) {
			require.NoError(n.t, n.take(100))
		}},
		{"clock", "Clock set", "30h0m0s", nil, func(n *node) { n.clock.Step(30 * time.Hour) }},
		{"configuration", "Configuration refused", "luck", nil, func(n *node) {
			w := n.service.Config().Writable
			w.Policy.Default = "luck"
			require.Error(n.t, n.service.Reload(w))
		}},
	} {
		t.Run(c.code, func(t *testing.T) {
			n := newNode(t, func(cfg *config.Config) {
				if c.before != nil {
					c.before(t, cfg)
				}
			})
			b.Look(1200, "light")
			b.Do(chromedp.Navigate(n.web.URL + "/api/v3/offload/ui"))
			b.Await("all is well at first", "document.getElementById('state-text').textContent === 'All is well'")
			c.happens(n)
			b.Await("a banner names it", fmt.Sprintf("[...document.querySelectorAll('.banner')].some(e => e.textContent.includes(%q) && e.textContent.includes(%q))", c.title, c.says))
			require.NotEqual(t, "All is well", browsertest.Eval[string](b, "document.getElementById('state-text').textContent"))
			b.Shoot("state-" + c.code)
			st := n.service.Status()
			require.Greater(t, st.Health.Severity(c.code), status.Note, "status and page are of one mind")
			require.Equal(t, st.Health.Severity(c.code) < status.Critical, st.Ready, "so is /ready")
		})
	}
	require.Empty(t, b.Complaints())
}
