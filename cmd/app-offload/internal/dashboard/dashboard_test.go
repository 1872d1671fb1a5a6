package dashboard

import (
	"encoding/json"
	"fmt"
	"html"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/health"
	"app-offload/functions/host"
	"app-offload/functions/quarantine"
	"app-offload/functions/score"
	"app-offload/functions/status"
)

// fake is a service with a settable status, and a ring of real decisions.
type fake struct {
	status      status.Status
	ring        *decision.Ring
	quarantined []quarantine.Rejected
}

func newFake() *fake {
	st := status.Status{
		APIVersion: "v3", NodeName: "gateway", Ready: true, Policy: "weighted (default): 0.5·complexity/100",
		Link: host.Link{Up: true, Goodput: 1e6, RTT: 0.05}, Node: host.State{CPU: 50, Memory: 40, Cores: 2, Temperature: math.NaN(), Watts: math.NaN(), Battery: math.NaN()},
		Counts: status.Counts{Dropped: map[string]int64{}}, Spool: status.SpoolStatus{Quota: 1 << 30},
		Configuration: status.ConfigurationStatus{Version: "v1"}, Version: "v1.2.0", Commit: "0123456789ab",
		Health: status.Health{State: status.Well, Reasons: []status.Reason{}}, Drops: status.DropStatus{List: []status.Drop{}},
	}
	return &fake{status: st, ring: decision.NewRing(4096, time.Unix(1000, 0))}
}

func (f *fake) Status() status.Status { return f.status }

func (f *fake) Decisions(n int, keep func(*decision.Entry) bool) []decision.Entry {
	return f.ring.Last(n, keep)
}
func (f *fake) Decision(id uint64) (decision.Entry, bool) { return f.ring.Get(id) }
func (f *fake) Quarantined() []quarantine.Rejected        { return f.quarantined }

// decide records n decisions, half of them for each target, with an outcome.
func (f *fake) decide(n int) {
	for i := range n {
		e := decision.Entry{
			Time: time.Unix(2000, int64(i)).UnixNano(), EventID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Of: 1, Class: "vibration", Device: fmt.Sprintf("press-%d", i%7),
			Size: 4096, Complexity: 40, Policy: "weighted", Version: "v1", Estimate: score.Estimate{LocalTime: 0.1, CloudTime: 0.3},
			Decision: decision.Decision{Target: decision.Target(i % 2), Score: 0.5, Threshold: 0.5, Reason: decision.AboveThreshold, Propensity: 1},
		}
		id := f.ring.Add(&e)
		f.ring.Outcome(id, decision.Outcome{Time: 0.2 + 0.2*float64(i%2), Met: true})
	}
}

// run lets a service work for that many intervals.
func (f *fake) run(d *Dashboard, start time.Time, intervals int, between func(i int)) time.Time {
	for i := range intervals {
		f.status.Events.Received += 20
		f.status.Counts.Accepted += 30
		f.status.Counts.Local += 10
		f.status.Counts.Receipted += 20
		f.status.Export.Bytes += 4000
		f.status.Process.Uptime += 2
		f.decide(30)
		if between != nil {
			between(i)
		}
		d.Observe(start, &f.status, 0.8)
		start = start.Add(Every)
	}
	return start
}

var begin = time.Unix(1_800_000_000, 0)

// The history has rates a second, means over recent decisions, and the last ten minutes however long it runs.
func TestHistory(t *testing.T) {
	f := newFake()
	d := New(f)
	f.run(d, begin, Points+50, nil)
	got := pointsOf(t, d.Data(begin, Query{}))
	require.Equal(t, 50.0, got["first"].(float64), "the first point needs two statuses, and the ring has no more than %d", Points)
	for series, want := range map[string]float64{
		"local": 5, "cloud": 10, "events": 10, "dropped": 0, "sent": 2000, "cpu": 50, "up": 1, "rtt": 0.05,
		"localPredicted": 0.1, "localActual": 0.2, "cloudPredicted": 0.3, "cloudActual": 0.4,
	} {
		values := got[series].([]any)
		require.Len(t, values, Points, series)
		require.InDelta(t, want, values[Points-1], 1e-9, series)
	}
	require.Nil(t, got["nodePower"].([]any)[0], "power without a sensor is null")
}

// pointsOf returns the history as the page gets it.
func pointsOf(t *testing.T, d Data) map[string]any {
	t.Helper()
	raw, err := json.Marshal(d)
	require.NoError(t, err)
	var back struct{ History map[string]any }
	require.NoError(t, json.Unmarshal(raw, &back))
	return back.History
}

// A page with some points gets the later ones; one with a number of an earlier process gets all.
func TestHistorySince(t *testing.T) {
	f := newFake()
	d := New(f)
	f.run(d, begin, 11, nil) // ten points
	for _, c := range []struct {
		since uint64
		first float64
		n     int
	}{
		{0, 1, 10}, {7, 8, 3}, {10, 11, 0}, {11, 1, 10}, {1 << 40, 1, 10},
	} {
		got := pointsOf(t, d.Data(begin, Query{Since: c.since}))
		require.Equal(t, c.first, got["first"], "since %d", c.since)
		require.Len(t, got["t"], c.n, "since %d", c.since)
	}
}

// The list begins with the state at the first look, however much has arrived by then; configuration is not listed, nor are drops of an earlier
// process. Parts that are not up yet are on the list, and not a change.
func TestTheListBeginsWithTheFirstLook(t *testing.T) {
	for _, c := range []struct {
		why          string
		was          func(*status.Status)
		listed, news []string // oldest first
	}{
		{
			"all is up", func(*status.Status) {},
			[]string{"the link to the cloud is up", "accepting events"},
			[]string{"the link to the cloud is up", "accepting events"},
		},
		{
			"nothing is up", func(s *status.Status) {
				s.Link.Up, s.Ready, s.NotReady = false, false, []string{"intake: not connected"}
			},
			[]string{"the link to the cloud is not up yet", "not accepting events yet: intake: not connected"},
			nil,
		},
		{
			"the spool is full", func(s *status.Status) { s.Link.Up, s.Link.BacklogShare = false, 0.9 },
			[]string{"the link to the cloud is not up yet", "accepting events", "the spool is 90 % full, above its limit of 80 %: work is kept local"},
			[]string{"accepting events", "the spool is 90 % full, above its limit of 80 %: work is kept local"},
		},
		{
			"there is trouble at once", func(s *status.Status) {
				s.Counts.Balance, s.Export.ReceiptsSilent, s.Configuration.Problem = 1, true, "Policy.Default = luck"
			},
			[]string{"the link to the cloud is up", "accepting events", "the broker acknowledges, but no receipts arrive", "the account does not add up", "Policy.Default = luck"},
			[]string{"the link to the cloud is up", "accepting events", "the broker acknowledges, but no receipts arrive", "the account does not add up", "Policy.Default = luck"},
		},
	} {
		f := newFake()
		f.status.Events.Received, f.status.Counts.Dropped = 3, map[string]int64{"ttl": 7}
		f.status.Policies.Canary = &status.CanaryStatus{Policy: "ppo", Share: 0.05, State: "running"}
		c.was(&f.status)
		d := New(f)
		require.Equal(t, c.news, texts(d.Observe(begin, &f.status, 0.8)), c.why)
		data := d.Data(begin, Query{})
		slices.Reverse(data.Changes)
		require.Equal(t, c.listed, texts(data.Changes), c.why)
		require.Equal(t, begin.UnixMilli(), data.LinkSince)
		require.Equal(t, begin.UnixMilli(), data.LastEvent, "some have come by now")
		require.Zero(t, data.LastDrop, "the account is also of what was before")
		require.Empty(t, d.Observe(begin, &f.status, 0.8), "%s: told twice", c.why)
	}
}

func texts(changes []Change) (all []string) {
	for _, c := range changes {
		all = append(all, c.Text)
	}
	return all
}

// A change is listed once, the spool's with a margin around its limit.
func TestChanges(t *testing.T) {
	f := newFake()
	d := New(f)
	d.Observe(begin, &f.status, 0.8)
	canary := &status.CanaryStatus{Policy: "ppo", Share: 0.05, State: "running"}
	for _, step := range []struct {
		why    string
		change func(*status.Status)
		want   []string
	}{
		{"nothing happens", func(*status.Status) {}, nil},
		{"the link goes", func(s *status.Status) { s.Link.Up = false }, []string{"the link to the cloud is down"}},
		{"the spool fills", func(s *status.Status) { s.Link.BacklogShare = 0.81 }, []string{"the spool is 81 % full, above its limit of 80 %: work is kept local"}},
		{"it stays near the limit", func(s *status.Status) { s.Link.BacklogShare = 0.79 }, nil},
		{"it empties", func(s *status.Status) { s.Link.Up, s.Link.BacklogShare = true, 0.5 }, []string{"the link to the cloud is up", "the spool has drained to 50 %"}},
		{"a change is refused", func(s *status.Status) { s.Configuration.Problem = "Policy.Default = luck" }, []string{"Policy.Default = luck"}},
		{"another policy", func(s *status.Status) {
			s.Policy, s.Configuration = "cost", status.ConfigurationStatus{Version: "v2"}
		}, []string{"the default policy is now cost", "configuration v2 is in force"}},
		{"a canary", func(s *status.Status) { c := *canary; s.Policies.Canary = &c }, []string{"ppo acts as canary for 5 % of the devices"}},
		{"is rolled back", func(s *status.Status) {
			c := *canary
			c.State, c.Reason = "rolledBack", "it missed more deadlines"
			s.Policies.Canary = &c
		}, []string{"the canary ppo was rolled back: it missed more deadlines"}},
		{"the bus goes", func(s *status.Status) { s.Ready, s.NotReady = false, []string{"intake: not connected"} }, []string{"not accepting events: intake: not connected"}},
	} {
		step.change(&f.status)
		require.Equal(t, step.want, texts(d.Observe(begin, &f.status, 0.8)), step.why)
		require.Empty(t, d.Observe(begin, &f.status, 0.8), "%s: told twice", step.why)
	}
	require.Equal(t, "not accepting events: intake: not connected", d.Data(begin, Query{}).Changes[0].Text, "newest first")
}

// The list of changes is bounded, whatever flaps.
func TestChangesAreBounded(t *testing.T) {
	f := newFake()
	d := New(f)
	f.run(d, begin, 500, func(i int) { f.status.Link.Up = i%2 == 0 })
	require.Len(t, d.Data(begin, Query{}).Changes, maxChanges)
}

// Decisions can be filtered by target, class, device and policy.
func TestDecisionsAreFiltered(t *testing.T) {
	f := newFake()
	f.decide(100)
	d := New(f)
	require.Len(t, d.Data(begin, Query{}).Decisions, listed)
	for _, e := range d.Data(begin, Query{Target: "cloud", Class: "vibration", Device: "press-3", Policy: "weighted"}).Decisions {
		require.Equal(t, decision.Cloud, e.Target)
		require.Equal(t, "press-3", e.Device)
	}
	require.Empty(t, d.Data(begin, Query{Device: "unknown"}).Decisions)
}

// The whole page, with a full history and full lists, is small, contacts no other host, and allows only its own script.
func TestPageIsSmallAndStrict(t *testing.T) {
	f := newFake()
	d := New(f)
	for range 100 {
		f.quarantined = append(f.quarantined, quarantine.Rejected{Reason: "malformed", Detail: strings.Repeat("x", 120), Topic: "edgex/events/device/svc/P/d/S"})
	}
	f.run(d, begin, Points+50, func(i int) { f.status.Link.Up = i%2 == 0 })
	rec := httptest.NewRecorder()
	require.NoError(t, d.ServePage(rec, httptest.NewRequest(http.MethodGet, "/ui", nil)))
	body := rec.Body.String()
	t.Logf("%d bytes in one request", len(body))
	require.Less(t, len(body), 150_000)
	require.NotContains(t, body, "{{")
	for _, external := range regexp.MustCompile(`(?:src|href|url)\s*[=(]\s*["']?(https?:|//)`).FindAllString(body, -1) {
		require.Fail(t, "the page fetches from elsewhere", external)
	}
	require.NotRegexp(t, `<[^>]+\son\w+=`, strings.Split(body, "<script")[0], "no handlers in the markup")
	csp := rec.Header().Get("Content-Security-Policy")
	require.NotContains(t, csp, "unsafe")
	require.Contains(t, csp, "default-src 'none'")
	for _, element := range []string{"style", "script"} {
		text := regexp.MustCompile(`(?s)<` + element + `>(.*?)</` + element + `>`).FindStringSubmatch(body)
		require.Len(t, text, 2, element)
		require.Contains(t, csp, element+"-src '"+fingerprint(text[1])+"'")
	}
	require.Equal(t, "no-store", rec.Header().Get("Cache-Control"))
}

// Each reason of the health has a title on the page.
func TestReasonsHaveTitles(t *testing.T) {
	script, err := web.ReadFile("web/page.js")
	require.NoError(t, err)
	_, titles, _ := strings.Cut(string(script), "const titles = {")
	titles, _, _ = strings.Cut(titles, "}")
	for _, code := range health.Codes() {
		require.Regexp(t, `\b`+code+`: "`, titles)
	}
}

func TestPageCarriesItsToken(t *testing.T) {
	d := New(newFake())
	for given, want := range map[string]string{
		"Bearer abc.def-_": "abc.def-_", "bearer  x": "x", "": "", "Basic eDp5": "", `Bearer "><script>`: `"><script>`,
	} {
		r := httptest.NewRequest(http.MethodGet, "/ui", nil)
		r.Header.Set("Authorization", given)
		rec := httptest.NewRecorder()
		require.NoError(t, d.ServePage(rec, r))
		token := regexp.MustCompile(`<meta name="token" content="([^"]*)">`).FindStringSubmatch(rec.Body.String())
		require.Len(t, token, 2, given)
		require.Equal(t, want, html.UnescapeString(token[1]), given)
	}
	r := httptest.NewRequest(http.MethodGet, "/ui", nil)
	r.Header.Set("Authorization", "Bearer abc")
	r.Header.Set("Offload-Token-Held", "yes") // as offloadctl ui says
	rec := httptest.NewRecorder()
	require.NoError(t, d.ServePage(rec, r))
	require.Contains(t, rec.Body.String(), `<meta name="token" content="">`, "a proxy that has the token keeps it")
}

// Text from outside cannot end the element of the first data.
func TestNamesAreNoMarkup(t *testing.T) {
	f := newFake()
	f.status.NodeName = "</script><script>alert(1)</script>"
	f.quarantined = []quarantine.Rejected{{Detail: "<!--<script>", Topic: "{{token}}"}}
	rec := httptest.NewRecorder()
	require.NoError(t, New(f).ServePage(rec, httptest.NewRequest(http.MethodGet, "/ui", nil)))
	require.NotContains(t, rec.Body.String(), "alert(1)</script>")
	require.Equal(t, 2, strings.Count(rec.Body.String(), "<script"))
}

// At any rate of decisions the same number is sampled, spread over the last seconds.
func TestSamplerIsBounded(t *testing.T) {
	f := newFake()
	d := New(f)
	counted := &counting{fake: f}
	d.source = counted
	for i := range 10 {
		f.decide(5000)
		counted.asked = 0
		c := d.times.sample(d.source, begin.Add(time.Duration(i)*Every))
		require.LessOrEqual(t, counted.asked, 2*looks)
		if i > 0 {
			require.InDelta(t, 0.4, c.cloudActual, 1e-9)
		}
	}
}

type counting struct {
	*fake
	asked int
}

func (c *counting) Decision(id uint64) (decision.Entry, bool) {
	c.asked++
	return c.fake.Decision(id)
}
