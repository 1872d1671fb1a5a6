package dashboard

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"app-offload/cmd/internal/browsertest"
	"app-offload/functions/quarantine"
	"app-offload/functions/status"
)

// gateway serves the page of a fake as secure mode does: nothing without the right token, which may expire. The browser's own request for the page
// gets one, as from a proxy.
type gateway struct {
	*httptest.Server
	mu    sync.Mutex
	page  *Dashboard
	token string
	now   time.Time
}

func newGateway(t *testing.T, d *Dashboard, now time.Time) *gateway {
	t.Helper()
	g := &gateway{page: d, token: "first", now: now}
	mux := http.NewServeMux()
	mux.HandleFunc("/app-offload/api/v3/offload/ui", func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		r.Header.Set("Authorization", "Bearer "+g.token)
		if err := d.ServePage(w, r); err != nil {
			t.Errorf("serving the page: %v", err)
		}
	})
	mux.HandleFunc("/app-offload/api/v3/offload/ui/data", func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		if r.Header.Get("Authorization") != "Bearer "+g.token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		since, err := strconv.ParseUint(r.URL.Query().Get("since"), 10, 64)
		if err != nil {
			t.Errorf("the page asks for points since nothing: %v", err)
		}
		writeJSON(t, w, d.Data(g.now, Query{Since: since}))
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func writeJSON(t *testing.T, w io.Writer, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		t.Errorf("serving the data: %v", err)
	}
}

// change advances the time with another status.
func (g *gateway) change(f *fake, to func(*status.Status)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	to(&f.status)
	g.now = f.run(g.page, g.now, 1, nil)
}

// All troubles are on the page in words, together, and readable; for an expired token the page asks for a new one.
func TestPageShowsTrouble(t *testing.T) {
	t.Parallel()
	b := browsertest.New(t)
	f := newFake()
	d := New(f)
	now := f.run(d, time.Now().Add(-10*time.Minute), Points, func(i int) { f.status.Link.Up = i < 150 || i > 170 })
	g := newGateway(t, d, now)
	b.Look(1600, "light")
	b.Do(chromedp.Navigate(g.URL + "/app-offload/api/v3/offload/ui"))
	b.Await("all is well at first", "document.getElementById('state-text').textContent === 'All is well'")
	b.Await("the previous outage is shaded", "document.querySelectorAll('.plot .away').length > 0")
	arm := status.ArmStatus{Outcomes: 1200, MissShare: 0.04, Cost: 0.41}
	first := time.Now().UTC().Truncate(24 * time.Hour).Add(-28*time.Hour - 30*time.Minute) // 19:30
	g.change(f, func(s *status.Status) {
		s.Ready, s.NotReady = false, []string{"intake: not connected to the MQTT MessageBus"}
		s.Link.Up, s.Link.BacklogShare = false, 0.83
		s.Health = status.Health{State: status.Failing, Reasons: []status.Reason{
			{Code: "intake", Text: "intake: not connected to the MQTT MessageBus", Severity: status.Critical, Since: time.Now()},
			{Code: "account", Text: "the account does not add up: 2 tasks unexplained", Severity: status.Warning, Since: time.Now()},
			{Code: "configuration", Text: "configuration rejected, keeping the previous one:\nOffload.Writable.Policy.Default = \"luck\": use one of weighted, deadline", Severity: status.Warning, Since: time.Now()},
			{Code: "linkDown", Text: "the link to the cloud is down", Severity: status.Warning, Since: time.Now()},
			{Code: "dropped", Text: "1290 tasks dropped", Severity: status.Warning, Since: time.Now()},
			{Code: "canary", Text: "the canary ppo was rolled back: the share of missed deadlines is 4 %, the incumbent's 1 %", Severity: status.Warning, Since: time.Now()},
			{Code: "somethingNew", Text: "what a later part adds", Severity: status.Warning, Since: time.Now()},
			{Code: "unsafe", Text: "12 events received at QoS 0", Severity: status.Note, Since: time.Now()},
		}}
		s.Drops = status.DropStatus{Unacknowledged: 1290, List: []status.Drop{
			{Class: "vibration", Reason: "quota", Count: 1234, Unacknowledged: 1234, First: &first, Last: &first}, {Class: "camera", Reason: "ttl", Count: 56, Unacknowledged: 56},
		}}
		s.Counts.Balance, s.Counts.Dropped = 2, map[string]int64{"quota": 1234, "ttl": 56}
		s.Node.QueueTasks = 1
		s.Spool.Tasks, s.Spool.Bytes, s.Spool.OldestAge = 4711, 900<<20, 10800
		s.Configuration.Problem = "configuration rejected, keeping the previous one:\nOffload.Writable.Policy.Default = \"luck\": use one of weighted, deadline"
		s.Policies = status.PolicyStatus{
			Shadows: []status.ShadowStatus{{Policy: "bandit", Decisions: 9000, Agreement: 0.91, Cost: 0.4, ActingCost: 0.5}, {Policy: "edge", Decisions: 9000, Agreement: 0.3, Cost: 9, ActingCost: 0.5}},
			Canary:  &status.CanaryStatus{Policy: "ppo", Share: 0.1, State: "rolledBack", Reason: "the share of missed deadlines is 4 %, the incumbent's 1 %", Canary: arm, Incumbent: status.ArmStatus{Outcomes: 11000, MissShare: 0.01, Cost: 0.39}},
		}
		f.quarantined = []quarantine.Rejected{{ID: 1, Time: time.Now(), Reason: "malformed", Detail: "byte 27: <b>no</b> markup", Topic: "edgex/events/device/svc/P/d/S", Size: 30}}
	})
	for _, want := range []string{
		"Not ready", "intake: not connected", "Account out of balance", "2 tasks unexplained", "Configuration refused", `"luck"`, "Link down", "Dropped", "1290 tasks",
		"Canary rolled back", "4 %, the incumbent's 1 %", "something new", "ℹ Unprotected events",
	} {
		b.Await("a banner says "+want, "document.getElementById('banners').textContent.includes("+quoted(want)+")")
	}
	for _, want := range []string{"−20 %", "× 18", "rolled back", "11,000", "<b>no</b> markup", "the spool is 83 % full", "oldest 3 h", "1,234 of vibration: quota, since 20", "56 of camera: ttl, time unknown", "4,711 tasks", "Waiting locally1 task"} {
		b.Await("the page says "+want, "document.querySelector('main').textContent.includes("+quoted(want)+")")
	}
	b.Do(emulation.SetTimezoneOverride("Pacific/Kiritimati")) // 14 h ahead
	b.Await("the date is that of the place, as the time of day is", "document.querySelector('#tile-dropped .sub').textContent.includes("+quoted("since "+first.Add(14*time.Hour).Format(time.DateTime))+")")
	b.Await("a note is not counted", "document.getElementById('state-text').textContent === '7 problems'")
	for _, width := range []int64{400, 1600} {
		for _, scheme := range []string{"light", "dark"} {
			b.Look(width, scheme)
			b.Shoot("trouble-" + scheme + map[int64]string{400: "-400", 1600: "-1600"}[width])
			require.LessOrEqual(t, browsertest.Eval[int](b, "document.documentElement.scrollWidth"), int(width))
			require.Empty(t, b.Inaccessible(), "at %d px, %s", width, scheme)
		}
	}
	g.mu.Lock()
	g.token = "second"
	g.mu.Unlock()
	b.Await("it asks for a token", "document.getElementById('signin').open && document.getElementById('state-text').textContent === 'Not signed in'")
	b.Shoot("signin")
	b.Run("document.getElementById('jwt').focus()")
	b.Do(chromedp.KeyEvent("second"), chromedp.KeyEvent(kb.Enter))
	b.Await("and goes on with it", "!document.getElementById('signin').open && !document.body.classList.contains('stale')")
	require.Empty(t, b.Complaints())
}

func quoted(text string) string {
	raw, _ := json.Marshal(text)
	return string(raw)
}
