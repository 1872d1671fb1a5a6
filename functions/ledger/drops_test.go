package ledger

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/status"
)

// Drops are counted by class and reason with their first and last time, an acknowledgement ends them all and survives a restart, and later drops are
// new.
func TestDropsAreAlarmsUntilAcknowledged(t *testing.T) {
	dir := t.TempDir()
	now := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	start := func() *Drops {
		d, err := OpenDrops(dir)
		require.NoError(t, err)
		d.wall = func() time.Time { return now }
		return d
	}
	counts := map[string]map[string]uint64{"vibration": {"full": 3}}
	d := start()
	d.See(counts, true)
	require.Equal(t, []status.Drop{{Class: "vibration", Reason: "full", Count: 3, Unacknowledged: 3}}, d.Status().List, "dropped before this was noted")

	now = now.Add(time.Hour)
	counts["vibration"]["full"] = 4
	d.See(counts, false)
	require.EqualValues(t, 4, d.Acknowledge())
	require.Zero(t, d.Status().Unacknowledged)
	require.NoError(t, d.Save())

	d = start()
	d.See(counts, true)
	require.Zero(t, d.Status().Unacknowledged, "a restart forgets no acknowledgement")
	first := now
	counts["vibration"]["full"] = 200
	d.See(counts, false)
	now = now.Add(time.Minute)
	counts["vibration"]["full"] = 201
	d.See(counts, false)
	d.Early("camera", "tooLarge")
	st := d.Status()
	require.EqualValues(t, 198, st.Unacknowledged)
	require.Contains(t, st.List, status.Drop{Class: "vibration", Reason: "full", Count: 201, Unacknowledged: 197, First: &first, Last: &now})
	require.Contains(t, st.List, status.Drop{Class: "camera", Reason: "tooLarge", Count: 1, Unacknowledged: 1, First: &now, Last: &now})
	require.Equal(t, "class vibration 197 full from 2026-03-01T09:00:00Z to 2026-03-01T09:01:00Z", st.List[0].String())
	require.Equal(t, "class camera 1 too large at 2026-03-01T09:01:00Z", st.List[1].String())
	require.NoError(t, d.Save())

	d = start()
	d.See(counts, true)
	require.Equal(t, st, d.Status(), "nor when it was")
	d.See(map[string]map[string]uint64{"vibration": {"full": 1}}, false)
	require.EqualValues(t, 2, d.Status().Unacknowledged, "a new spool counts from 0")
}

// Drops before the spool and drops of the spool add up, also where class and reason are the same.
func TestEarlyDropsAddUp(t *testing.T) {
	d, err := OpenDrops(t.TempDir())
	require.NoError(t, err)
	d.Early("a", "full")
	d.Early("a", "full")
	for n := range uint64(4) {
		d.See(map[string]map[string]uint64{"a": {"full": n}}, false)
		require.EqualValues(t, 2+n, d.Status().Unacknowledged)
	}
}

// An unreadable file makes every drop new, and does not prevent a start.
func TestUnreadableDropsAreUnacknowledged(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, dropsFile), []byte(`[{"class":`), 0o600))
	d, err := OpenDrops(dir)
	require.ErrorContains(t, err, dropsFile)
	d.See(map[string]map[string]uint64{"a": {"expired": 2}}, true)
	require.EqualValues(t, 2, d.Status().Unacknowledged)
	require.NoError(t, d.Save())
	raw, err := os.ReadFile(filepath.Join(dir, dropsFile))
	require.NoError(t, err)
	require.True(t, json.Valid(raw))
}
