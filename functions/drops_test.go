package functions

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/spool"
	"app-offload/functions/status"
)

// Drops are counted by class and reason with their first and last time, an acknowledgement ends them all and outlasts a restart, and what
// is dropped afterwards is new.
func TestDropsAreAlarmsUntilAcknowledged(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	start := func() *drops {
		d, err := openDrops(dir)
		require.NoError(t, err)
		d.wall = func() time.Time { return now }
		return d
	}
	counts := map[string]map[string]uint64{"vibration": {"full": 3}}
	d := start()
	d.see(counts, true)
	require.Equal(t, []status.Drop{{Class: "vibration", Reason: "full", Count: 3, Unacknowledged: 3}}, d.status().List, "dropped before this was noted")

	now = now.Add(time.Hour)
	counts["vibration"]["full"] = 4
	d.see(counts, false)
	require.EqualValues(t, 4, d.acknowledge())
	require.Zero(t, d.status().Unacknowledged)
	require.NoError(t, d.save())

	d = start()
	d.see(counts, true)
	require.Zero(t, d.status().Unacknowledged, "a restart forgets no acknowledgement")
	first := now
	counts["vibration"]["full"] = 200
	d.see(counts, false)
	now = now.Add(time.Minute)
	counts["vibration"]["full"] = 201
	d.see(counts, false)
	d.early("camera", ReasonTooLarge)
	st := d.status()
	require.EqualValues(t, 198, st.Unacknowledged)
	require.Contains(t, st.List, status.Drop{Class: "vibration", Reason: "full", Count: 201, Unacknowledged: 197, First: &first, Last: &now})
	require.Contains(t, st.List, status.Drop{Class: "camera", Reason: ReasonTooLarge, Count: 1, Unacknowledged: 1, First: &now, Last: &now})
	require.Equal(t, "class vibration 197 full from 2026-03-01T09:00:00Z to 2026-03-01T09:01:00Z", st.List[0].String())
	require.Equal(t, "class camera 1 too large at 2026-03-01T09:01:00Z", st.List[1].String())
	require.NoError(t, d.save())

	d = start()
	d.see(counts, true)
	require.Equal(t, st, d.status(), "nor when it was")
	d.see(map[string]map[string]uint64{"vibration": {"full": 1}}, false)
	require.EqualValues(t, 2, d.status().Unacknowledged, "a new spool counts from 0")
}

// A file that cannot be read makes every drop new, and is no reason not to start.
func TestUnreadableDropsAreUnacknowledged(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, dropsFile), []byte(`[{"class":`), 0o600))
	d, err := openDrops(dir)
	require.ErrorContains(t, err, dropsFile)
	d.see(map[string]map[string]uint64{"a": {"expired": 2}}, true)
	require.EqualValues(t, 2, d.status().Unacknowledged)
	require.NoError(t, d.save())
	raw, err := os.ReadFile(filepath.Join(dir, dropsFile))
	require.NoError(t, err)
	require.True(t, json.Valid(raw))
}

// A task too large for the spool is dropped under its class, shown everywhere, and no longer after it was acknowledged.
func TestDroppedTasksAreShownUntilAcknowledged(t *testing.T) {
	t.Parallel()
	s, _ := well(t, nil)
	s.drops.early("default", spool.ReasonFull)
	h := s.Health()
	require.Equal(t, status.Warning, h.Severity("dropped"))
	require.Contains(t, h.Texts(status.Warning)[0], "class default 1 full")
	require.EqualValues(t, 1, s.Status().Drops.Unacknowledged)
	n, err := s.Acknowledge()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.Equal(t, status.Well, s.Health().State)
}
