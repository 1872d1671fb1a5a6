package answers

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func message(t *testing.T, id, by, provisional, label string) []byte {
	t.Helper()
	event := fmt.Sprintf(`{"event":{"sourceName":"Frame_parts","tags":{"originEventId":%q,"computedBy":%q,"provisional":%q,"model":"parts","class":"camera"},`+
		`"readings":[{"resourceName":"Frame_parts","value":%q},{"resourceName":"Frame_parts_confidence","value":"0.9"}]}}`, id, by, provisional, label)
	b, err := json.Marshal(map[string]any{"payload": []byte(event)})
	require.NoError(t, err)
	return b
}

// Each kind of answer has its own figures, and a second final answer of an event is counted.
func TestAnswersAreJudgedByPlace(t *testing.T) {
	s := New(map[string]time.Duration{"camera": time.Second})
	start := time.Now()
	for id, label := range map[string]string{"a": "ok", "b": "dent", "c": "ok"} {
		s.Sent(id, label, start)
	}
	for _, m := range []struct {
		id, by, provisional, label string
		after                      time.Duration
	}{
		{"a", "local", "false", "ok", 10 * time.Millisecond},
		{"b", "local", "true", "ok", 20 * time.Millisecond},
		{"b", "cloud", "false", "dent", 1200 * time.Millisecond},
		{"c", "local", "false", "dent", 30 * time.Millisecond},
		{"c", "cloud", "false", "ok", 40 * time.Millisecond},
		{"foreign", "cloud", "false", "ok", 50 * time.Millisecond},
	} {
		require.NoError(t, s.Seen(message(t, m.id, m.by, m.provisional, m.label), start.Add(m.after)))
	}
	other, err := json.Marshal(map[string]any{"payload": []byte(`{"event":{"sourceName":"x","tags":{"operator":"summary"}}}`)})
	require.NoError(t, err)
	require.NoError(t, s.Seen(other, start))
	require.Error(t, s.Seen([]byte("x"), start))
	require.Equal(t, 1, s.Twice())
	require.Equal(t, []Row{
		{Model: "parts", Place: "cloud", Count: 2, Accuracy: 1, P50: 1.2, P99: 1.2, Late: 1},
		{Model: "parts", Place: "local", Count: 2, Accuracy: 0.5, P50: 0.01, P99: 0.01},
		{Model: "parts", Place: "local", Provisional: true, Count: 1, Accuracy: 0, P50: 0.02, P99: 0.02},
	}, s.Rows())
	require.Equal(t, "  answers local 3 (1 provisional) cloud 2", s.Line())
	require.Equal(t, `
model        place  answer          count  accuracy        p50        p99   late
parts        cloud  final               2   100.0 %  1200.0 ms  1200.0 ms      1
parts        local  final               2    50.0 %    10.0 ms    10.0 ms      0
parts        local  provisional         1     0.0 %    20.0 ms    20.0 ms      0
`, "\n"+s.Table())
	require.Empty(t, New(nil).Table())
}

// Other readers of the bus interpret answers as the sheet does.
func TestAnswersAreRead(t *testing.T) {
	message := func(event string) []byte {
		return []byte(`{"payload":"` + base64.StdEncoding.EncodeToString([]byte(event)) + `"}`)
	}
	a, ok, err := Read(message(`{"event":{"sourceName":"Frame_label","tags":{"computedBy":"cloud","originEventId":"e","provisional":"true"},"readings":[{"resourceName":"other","value":"x"},{"resourceName":"Frame_label","value":"good"}]}}`))
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, Answer{About: "e", By: "cloud", Provisional: true, Label: "good"}, a)
	_, ok, err = Read(message(`{"event":{"tags":{}}}`))
	require.NoError(t, err)
	require.False(t, ok)
	_, ok, err = Read([]byte("no JSON"))
	require.Error(t, err)
	require.False(t, ok)
}

// Answers to events of an earlier run have neither accuracy nor latency here.
func TestAnswersToUnknownEventsShowNoFigures(t *testing.T) {
	s := New(nil)
	require.NoError(t, s.Seen(message(t, "earlier", "cloud", "false", "ok"), time.Now()))
	require.Equal(t, []Row{{Model: "parts", Place: "cloud", Count: 1, Accuracy: -1, P50: -1, P99: -1}}, s.Rows())
	require.Regexp(t, `cloud +final +1 +- +- +- +0\n`, s.Table())
}

// The truth of the oldest events is forgotten for the newest.
func TestTheSheetIsBounded(t *testing.T) {
	s, at := New(nil), time.Now()
	for i := range maxEvents + 2 {
		s.Sent(fmt.Sprint(i), "ok", at)
	}
	require.Len(t, s.events, maxEvents)
	for _, id := range []string{"1", "2"} {
		require.NoError(t, s.Seen(message(t, id, "local", "false", "ok"), at))
	}
	require.Equal(t, 2, s.Rows()[0].Count)
	require.Len(t, s.rows[place{"parts", "local", false}].times, 1)
}
