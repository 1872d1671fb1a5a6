package functions

import (
	"context"
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/intake"
	"app-offload/functions/ledger"
	"app-offload/functions/receive"
	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// The status counts events received and skipped on the bus, besides those of the REST trigger.
func TestStatusCountsEventsByWhatBecameOfThem(t *testing.T) {
	b := startBroker(t)
	require.NoError(t, b.Publish("edgex/events/device/old", event("old", 1).Raw, true, 1))
	cfg := testConfig(t, nil, "cloud")
	s := open(t, cfg, &bin{})
	require.Equal(t, status.EventCounts{
		Refused: map[string]uint64{"events": 0, "bytes": 0, "stopping": 0}, Quarantined: map[string]uint64{}, Skipped: s.Status().Events.Skipped,
	}, s.Status().Events)
	src, err := s.MQTTSource(intake.Bus{URL: "tcp://" + b.addr, Topics: []string{"edgex/events/#"}, ClientID: "in", AuthMode: "none"})
	require.NoError(t, err)
	s.Start()
	s.StartSource(context.Background(), src)
	eventually(t, 20*time.Second, "subscribed", func() bool { return src.Problem() == "" && s.Status().Events.Skipped["retained"] == 1 })
	wrap := func(n int) []byte {
		return fmt.Appendf(nil, `{"apiVersion":"v3","contentType":"application/json","payload":%q}`, base64.StdEncoding.EncodeToString(event("d", n).Raw))
	}
	for n := range 3 {
		require.NoError(t, b.Publish("edgex/events/device/d", wrap(n), false, byte(min(n, 1))))
	}
	eventually(t, 20*time.Second, "counted", func() bool { e := s.Status().Events; return e.Received >= 3 })
	e := s.Status().Events
	require.EqualValues(t, 3, e.Received)
	require.EqualValues(t, 1, e.Unsafe, "one came at QoS 0")
	require.EqualValues(t, 1, e.Skipped["retained"])
	require.EqualValues(t, 0, e.Skipped["unmatched"])
	require.Contains(t, e.Skipped, "unmatched")

	require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("rest", 9).Raw}))
	require.EqualValues(t, 4, s.Status().Events.Received, "of both triggers")
	rubbish(s, 2)
	e = s.Status().Events
	sum := uint64(0)
	for _, n := range e.Quarantined {
		sum += n
	}
	require.EqualValues(t, s.Quarantine.Counts(), e.Quarantined)
	require.GreaterOrEqual(t, sum, uint64(2))
}

func TestStatusOfTheSpool(t *testing.T) {
	s := open(t, testConfig(t, nil, "cloud"), &bin{})
	for n := range 3 {
		require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("d", n).Raw}))
	}
	st, have := s.spool.Stats(), s.Status().Spool
	require.Equal(t, status.SpoolStatus{
		Epoch: st.Epoch, Tasks: 3, Bytes: st.HeldBytes, Limit: st.Limit, Fill: st.Fill, Quota: 64 << 20, OldestAge: have.OldestAge,
		Line: fmt.Sprintf("spool 0 %% full, 0 of %d MiB, 3 tasks, oldest 0s", st.Limit>>20), Dropped: map[string]map[string]uint64{},
	}, have)
	require.InDelta(t, st.OldestAge.Seconds(), have.OldestAge, 5)
	require.Equal(t, map[string]map[string]uint64{"b": {"full": 2}}, ledger.DroppedByClass(map[string]spool.ClassStats{
		"a": {Dropped: map[string]uint64{spool.ReasonHere: 5}},
		"b": {Dropped: map[string]uint64{spool.ReasonHere: 1, "full": 2}},
		"c": {},
	}))
}

// The times of decisions follow the wall clock when it steps.
func TestDecisionsAreShownByTheWallClock(t *testing.T) {
	s := openStepped(t)
	require.NoError(t, s.Receive(receive.Message{ContentType: "application/json", Payload: event("d", 1).Raw}))
	before := s.Decisions(1, nil)[0]
	s.fake.Step(time.Hour)
	after := s.Decisions(1, nil)[0]
	require.Equal(t, before.Time+int64(time.Hour), after.Time)
	require.Equal(t, before.State.Time+int64(time.Hour), after.State.Time)
	one, ok := s.Decision(after.ID)
	require.True(t, ok)
	require.Equal(t, [2]int64{after.Time, after.State.Time}, [2]int64{one.Time, one.State.Time})
	_, ok = s.Decision(after.ID + 1)
	require.False(t, ok)
}
