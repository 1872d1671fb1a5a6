package feedback

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/decision"
	"app-offload/functions/policy"
	"app-offload/functions/score"
)

// An outage is a link that was down for five seconds without a break; it ends with the last observation at which it was down.
func TestWhatCountsAsAnOutage(t *testing.T) {
	for name, row := range map[string]struct {
		looks string // one each second: + up, - gone
		want  int    // second of the last look that counts, 0 for none
	}{
		"never gone": {"++++++++", 0}, "short": {"+-----+++", 0}, "long": {"+------++", 6}, "two short ones": {"-----+-----", 0}, "longer": {"---------+", 8},
		"an end and a new one": {"------+------", 12}, "a gap": {"------+-----", 5}, "gone still": {"+---------", 9},
	} {
		var o outage
		begin := time.Unix(1000, 0)
		for i, look := range row.looks {
			o.see(look == '+', begin.Add(time.Duration(i)*time.Second))
		}
		want := int64(0)
		if row.want > 0 {
			want = begin.Add(time.Duration(row.want) * time.Second).UnixNano()
		}
		require.Equal(t, want, o.latest.Load(), name)
	}
}

// Only whole lines of a log are kept, however long the partial one that a crash left, up to the longest possible line.
func TestAHalfLineIsCut(t *testing.T) {
	line := strings.Repeat("x", 1000) + "\n"
	for text, want := range map[string]int{
		"": 0, "a": 0, "\n": 1, "a\n": 2, "a\nb": 2, "a\nb\n": 4,
		line + strings.Repeat("y", decision.MaxRecord-1):             len(line),
		strings.Repeat(line, 200) + strings.Repeat("y", 5000):        200 * len(line),
		strings.Repeat(line, 200):                                    200 * len(line),
		strings.Repeat("x", decision.MaxRecord-1) + "\n":             decision.MaxRecord,
		strings.Repeat("x", decision.MaxRecord-1) + "\n" + "half":    decision.MaxRecord,
		"first\n" + strings.Repeat("x", decision.MaxRecord-1) + "\n": 6 + decision.MaxRecord,
	} {
		name := filepath.Join(t.TempDir(), "log")
		require.NoError(t, os.WriteFile(name, []byte(text), 0o600))
		f, err := os.Open(name)
		require.NoError(t, err)
		size, err := wholeLines(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.EqualValues(t, want, size, "%d bytes", len(text))
	}
}

// Only tasks that went to the cloud and returned teach the time of that path.
func TestWhoTeachesTheWayToTheCloud(t *testing.T) {
	for name, row := range map[string]struct {
		target decision.Target
		failed bool
		learns bool
	}{"cloud": {decision.Cloud, false, true}, "cloud, failed": {decision.Cloud, true, false}, "local": {decision.Local, false, false}, "local, failed": {decision.Local, true, false}} {
		f := open(t)
		r := f.rules()
		e := decision.Entry{
			Time: f.clock.Now(), Class: "default", Size: 1000, Decision: decision.Decision{Target: row.target, Propensity: 1},
			Estimate: score.Estimate{CloudTime: 1, LocalTime: 1}, Outcome: decision.Outcome{Known: true, Time: 100, Failed: row.failed},
		}
		e.State.Link.Up, e.State.Link.Goodput = true, 1e6
		_, was := r.Model.Correction(r.Class("default"))
		f.learn(r, &e)
		_, is := r.Model.Correction(r.Class("default"))
		require.Equal(t, row.learns, was != is, name)
	}
}

// An overdue decision has cost the trial its time until then, and has missed its deadline.
func TestAnOverdueDecisionCostsWhatItTook(t *testing.T) {
	f := open(t, func(c *policy.Config) { c.Canary, c.CanaryShare = "edge", 0.9 })
	e := f.decided(func(e *decision.Entry) { e.Arm, e.Deadline = decision.Incumbent, time.Second })
	later := time.Unix(0, e.Time).Add(48 * time.Hour)
	f.Sweep(later)
	c, _ := f.rules().Canary()
	late := e
	late.Outcome = decision.Outcome{Known: true, Time: (48 * time.Hour).Seconds()}
	cost, missed := f.rules().Judge().Actual(&late)
	require.True(t, missed)
	require.EqualValues(t, 1, c.Incumbent.Misses)
	require.InDelta(t, cost, c.Incumbent.Cost, 1e-9)
	f.Sweep(later)
	require.EqualValues(t, 1, c.Incumbent.Outcomes, "once")
}

// A class expects results for a fixed number of receipts without one, counted anew with each result, and by class.
func TestHowLongAnswersAreExpected(t *testing.T) {
	a := newAnswers()
	require.False(t, a.expected("a"), "none has come")
	for range 2 {
		a.came("a")
		for range answerPatience {
			require.True(t, a.expected("a"))
			require.False(t, a.expected("b"))
		}
		require.False(t, a.expected("a"))
	}
	for i := range maxAnswers + 5 {
		a.came(strings.Repeat("x", i))
	}
	require.Len(t, a.left, maxAnswers)
	a.came("a")
	require.True(t, a.expected("a"), "one that is known is known still")
}
