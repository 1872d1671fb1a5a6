package decision

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/host"
	"app-offload/functions/score"
)

// logged is a decision with an outcome, as the service logs it.
func logged() Entry {
	return Entry{
		ID: 7001, Time: 2e18, EventID: "e", Of: 1, Class: "camera", Device: "cam-1", Priority: 3, Arm: Canary,
		Size: 4096, Complexity: 80, Deadline: 2 * time.Second, Waited: time.Millisecond,
		Decision: Decision{Target: Cloud, Score: 0.7, Threshold: 0.5, Propensity: 0.99, Reason: CheaperCloud}, Policy: "bandit", Version: "v",
		Estimate: score.Estimate{LocalTime: 0.3, CloudTime: math.Inf(1), Cycles: 9}, State: host.State{Time: 2e18, Cores: 2},
		Outcome: Outcome{Known: true, Time: 0.2, Bytes: 4200, Energy: 0.1, Met: true},
	}
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	e := logged()
	raw, err := AppendRecord(nil, &e)
	require.NoError(t, err)
	raw, err = AppendRecord(raw, &e)
	require.NoError(t, err)
	raw = append(raw, `{"format":1,"id":`...) // a crash in the middle of a line
	n := 0
	for r, err := range ReadRecords(strings.NewReader(string(raw))) {
		require.NoError(t, err)
		r.State.Temperature, r.State.Watts, r.State.Battery = 0, 0, 0
		e.State.Temperature, e.State.Watts, e.State.Battery = 0, 0, 0
		require.Equal(t, e, r.Entry)
		tk := r.Task()
		require.Equal(t, 4096, tk.Size())
		require.InDelta(t, 1.999, score.Slack(tk, &r.State), 1e-9)
		n++
	}
	require.Equal(t, 2, n)
}

func TestRecordsAreReadStrictly(t *testing.T) {
	e := logged()
	good, err := AppendRecord(nil, &e)
	require.NoError(t, err)
	for _, c := range []struct{ name, from, to, want string }{
		{"another format", `"format":3`, `"format":4`, "format 4"},
		{"no format", `"format":3`, `"format":0`, "format 0"},
		{"an unknown field", `"id":`, `"wisdom":1,"id":`, "wisdom"},
		{"no probability", `"propensity":0.99`, `"propensity":0`, "propensity"},
		{"more than certain", `"propensity":0.99`, `"propensity":1.5`, "propensity"},
		{"no target", `"target":"cloud"`, `"target":"moon"`, "moon"},
		{"back in time", `"deadline":2000000000`, `"deadline":-1`, "deadline"},
		{"two records", "\n", "{}\n", "follows"},
		{"no JSON", `{"format"`, `{format`, "invalid"},
		{"too long", `"eventId":"e"`, `"eventId":"` + strings.Repeat("e", MaxRecord) + `"`, "longer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Replace(string(good), c.from, c.to, 1)
			require.NotEqual(t, string(good), bad)
			var last error
			n := 0
			for _, err := range ReadRecords(strings.NewReader(string(good) + bad + string(good))) {
				n, last = n+1, err
			}
			require.Equal(t, 2, n, "the good one, and the error ends it")
			require.ErrorContains(t, last, "line 2")
			require.ErrorContains(t, last, c.want)
		})
	}
}

func TestReadingRecordsNeverPanics(t *testing.T) {
	e := logged()
	good, err := AppendRecord(nil, &e)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		raw := append([]byte(nil), good...)
		for range rapid.IntRange(0, 8).Draw(t, "edits") {
			raw[rapid.IntRange(0, len(raw)-1).Draw(t, "at")] = rapid.Byte().Draw(t, "byte")
		}
		for r, err := range ReadRecords(strings.NewReader(string(raw))) {
			if err == nil {
				_ = r.Task().Size()
			}
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	e := logged()
	var line []byte
	b.ReportAllocs()
	for b.Loop() {
		line, _ = AppendRecord(line[:0], &e)
	}
	b.ReportMetric(float64(len(line)), "bytes/record")
}
