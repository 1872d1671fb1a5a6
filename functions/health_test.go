package functions

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/config"
	"app-offload/functions/health"
	"app-offload/functions/keys"
	"app-offload/functions/receive"
	"app-offload/functions/spool"
	"app-offload/functions/status"
	"app-offload/functions/task"
)

// well is a service whose link is up and without incidents.
func well(t *testing.T, change func(*config.Config)) (*Service, *clock.Fake) {
	t.Helper()
	b := startBroker(t)
	cfg := testConfig(t, b, "edge")
	if change != nil {
		change(&cfg)
	}
	s := open(t, cfg, &bin{})
	fake := clock.NewFake(time.Now())
	s.health = health.NewWatch(clock.New(fake))
	s.Start()
	eventually(t, time.Minute, "the link is up", func() bool { return s.exporter.Link().Up })
	require.Equal(t, status.Health{State: status.Well, Reasons: []status.Reason{}}, s.Health())
	return s, fake
}

func rubbish(s *Service, n int) {
	for range n {
		_ = s.Receive(receive.Message{Topic: "edgex/events/device/x", ContentType: "application/json", Payload: []byte(`{"value":1}`)})
	}
}

func good(t *testing.T, s *Service, from, n int) {
	t.Helper()
	for i := range n {
		require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("d", from+i).Raw}))
	}
}

// If most messages are quarantined, that is a warning; if some, a note; a minute after the last one all is well again.
func TestHealthSaysThatMessagesAreQuarantined(t *testing.T) {
	t.Parallel()
	s, fake := well(t, nil)
	rubbish(s, 20)
	h := s.Health()
	require.Equal(t, status.Degraded, h.State)
	require.Equal(t, status.Warning, h.Severity("quarantine"))
	require.Contains(t, h.Reasons[0].Text, "20 of 20 messages")
	require.True(t, s.Status().Ready, "the service itself is fine")
	fake.Advance(time.Second)
	good(t, s, 0, 100)
	require.Equal(t, status.Note, s.Health().Severity("quarantine"))
	require.Equal(t, status.Well, s.Health().State, "a note is no alarm")
	fake.Advance(time.Minute)
	require.Equal(t, status.Fine, s.Health().Severity("quarantine"))
}

// Refused events are a warning while others are accepted, and critical while none is.
func TestHealthSaysThatEventsAreRefused(t *testing.T) {
	t.Parallel()
	s, fake := well(t, func(c *config.Config) { c.Intake.MaxEvents = 1 })
	pass, err := s.Gate.Enter(1)
	require.NoError(t, err)
	require.Error(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("d", 1).Raw}))
	h := s.Health()
	require.Equal(t, status.Critical, h.Severity("refused"))
	require.Equal(t, status.Failing, h.State)
	require.NotEmpty(t, s.NotReady())
	pass.Leave()
	good(t, s, 10, 3)
	require.Equal(t, status.Warning, s.Health().Severity("refused"))
	require.Empty(t, s.NotReady())
	fake.Advance(time.Minute)
	require.Equal(t, status.Well, s.Health().State)
}

// A full spool is critical while events are refused: not while a class drops them, nor once there is room again.
func TestHealthSaysThatTheSpoolIsFull(t *testing.T) {
	t.Parallel()
	for _, how := range []string{spool.Refuse, spool.DropLowestScore} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			b := startBroker(t)
			c := testConfig(t, b, "cloud")
			c.Spool.QuotaMiB, c.Writable.Policy.BacklogLimit, c.Export.ReceiptTimeout = 16, 1, "1s"
			class := c.Writable.Classes["default"]
			class.OnFull = how
			c.Writable.Classes["default"] = class
			s := open(t, c, &bin{})
			s.Start()
			s.Health()
			var done sync.WaitGroup
			for n := range 40 {
				done.Add(1)
				s.Submit([]*task.Event{large("d", n, 400_000)}, func(int, error) { done.Done() })
			}
			done.Wait()
			require.Equal(t, how == spool.Refuse, s.Health().Severity("spoolFull") == status.Critical, "%v", s.Health().Texts(status.Note))
			require.Equal(t, how == spool.Refuse, len(s.NotReady()) > 0)
			startCloud(t, b, c.Node, keys.NewKeyring("", nil))
			eventually(t, time.Minute, "drained", func() bool { return s.Counts().Spooled == 0 })
			require.NotEqual(t, status.Critical, s.Health().Severity("spoolFull"))
			require.Empty(t, s.NotReady())
		})
	}
}

// Each state that can be caused is reported by its reason, with its severity, and by all views alike.
func TestHealthNamesItsReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code     string
		severity status.Severity
		happens  func(*Service)
	}{
		{"stopping", status.Critical, func(s *Service) { s.stopping.Store(true) }},
		{"intake", status.Critical, func(s *Service) { s.ExpectSource() }},
		{"configuration", status.Warning, func(s *Service) {
			w := s.Config().Writable
			w.Policy.Default = "luck"
			_ = s.Reload(w)
		}},
		{"keys", status.Critical, func(s *Service) {
			s.keys = keys.NewKeyring("keys", noSecrets{})
			_ = s.keys.Refresh()
		}},
		{"linkDown", status.Warning, func(s *Service) { _ = s.exporter.Close(t.Context()) }},
	} {
		s, _ := well(t, nil)
		c.happens(s)
		eventually(t, time.Minute, c.code, func() bool { return s.Health().Severity(c.code) == c.severity })
		st := s.Status()
		require.Equal(t, c.severity, st.Health.Severity(c.code))
		require.Equal(t, c.severity < status.Critical, st.Ready, c.code)
		require.Equal(t, st.Health.Texts(status.Critical), st.NotReady, c.code)
		require.Equal(t, c.severity < status.Critical, len(s.NotReady()) == 0, c.code)
	}
}

// Results of another service on the bus are a note, and so are events without acknowledgements.
func TestHealthNotesOtherServices(t *testing.T) {
	t.Parallel()
	s, fake := well(t, nil)
	for range 3 {
		s.kinship.Admit(&task.Event{Encoding: task.JSON, Device: "d", Tags: []byte(`{"offloadHop":"1","offloadService":"rules"}`)}, s.rules.Load().Classes)
	}
	h := s.Health()
	require.Equal(t, status.Note, h.Severity("otherResults"))
	require.Equal(t, status.Well, h.State)
	fake.Advance(time.Minute)
	require.Equal(t, status.Fine, s.Health().Severity("otherResults"))
}
