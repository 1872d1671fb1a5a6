package health

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/status"
)

// A reason has the same names in JSON as in the API's description, and codes are unique.
func TestHealthAsJSON(t *testing.T) {
	raw, err := json.Marshal(status.NewHealth([]status.Reason{{Code: "a", Text: "x", Since: time.Unix(0, 0).UTC(), Severity: status.Note}, {Code: "b", Text: "y", Since: time.Unix(1, 0).UTC(), Severity: status.Critical}}))
	require.NoError(t, err)
	require.JSONEq(t, `{"state":"failing","reasons":[{"code":"b","text":"y","since":"1970-01-01T00:00:01Z","severity":"critical"},{"code":"a","text":"x","since":"1970-01-01T00:00:00Z","severity":"note"}]}`, string(raw))
	var back status.Health
	require.NoError(t, json.Unmarshal(raw, &back))
	require.Equal(t, status.Critical, back.Reasons[0].Severity)
	seen := map[string]bool{}
	for _, code := range Codes() {
		require.False(t, seen[code], code)
		seen[code] = true
	}
}

// lines is a log in memory.
type lines []string

func (l *lines) write(level, format string, a ...any) {
	*l = append(*l, level+" "+fmt.Sprintf(format, a...))
}
func (l *lines) Debugf(format string, a ...any) { l.write("DEBUG", format, a...) }
func (l *lines) Infof(format string, a ...any)  { l.write("INFO", format, a...) }
func (l *lines) Warnf(format string, a ...any)  { l.write("WARN", format, a...) }
func (l *lines) Errorf(format string, a ...any) { l.write("ERROR", format, a...) }

// A reason is logged once it has held for a second, and again when it has ended; a reason that ended earlier is never logged.
func TestTheReportLogsWhatLasts(t *testing.T) {
	p := well(t)
	log := &lines{}
	report := NewReport(clock.New(p.fake), log)
	write := func() { report.Write(p.look()) }
	p.facts.Link.Up, p.facts.Stopping = false, true
	write()
	p.fake.Advance(time.Second - 1)
	write()
	require.Empty(t, *log)
	p.facts.Stopping = false
	p.fake.Advance(1)
	write()
	write()
	require.Equal(t, lines{"WARN health: reason=linkDown severity=warning state=degraded: the link to the cloud is down: tasks with a deadline are processed locally, the others wait in the spool"}, *log)
	p.facts.Link.Up = true
	p.fake.Advance(time.Minute)
	write()
	write()
	require.Equal(t, lines{"INFO health: cleared reason=linkDown lasted=1m1s state=well"}, (*log)[1:])
	p.facts.Intake = "away"
	write()
	p.fake.Advance(time.Second)
	write()
	require.Equal(t, lines{"ERROR health: reason=intake severity=critical state=failing: intake: away"}, (*log)[2:])
	p.facts.Intake, p.facts.Keys = "", "one is bad"
	write()
	p.fake.Advance(time.Second)
	for _, broken := range []bool{false, true, false, true} { // once for each severity that is worse than those before
		p.facts.KeysBroken = broken
		write()
	}
	require.Equal(t, lines{
		"INFO health: cleared reason=intake lasted=1s state=degraded",
		"WARN health: reason=keys severity=warning state=degraded: keys: one is bad",
		"ERROR health: reason=keys severity=critical state=failing: keys: one is bad",
	}, (*log)[3:])
}
