package functions

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/intake"
	"app-offload/functions/intake/parse"
	"app-offload/functions/receive"
)

// warnings records the warnings about messages.
type warnings struct {
	testLog
	lines []string
}

func (w *warnings) Warnf(format string, a ...any) {
	if line := fmt.Sprintf(format, a...); strings.Contains(line, "message quarantined") {
		w.lines = append(w.lines, line)
	}
}

// An event that fits no message even in pieces is held or, if so configured, refused at the gate: quarantined with its reason, counted, and
// concluded, so that it is not redelivered.
func TestWhatCanNeverLeaveIsRefusedAtTheDoor(t *testing.T) {
	payload := func(tags, text int) []byte {
		return fmt.Appendf(nil, `{"apiVersion":"v3","id":"00000001-0000-4000-8000-000000000001","deviceName":"d","profileName":"P","sourceName":"S","origin":1750000000000000001,`+
			`"tags":{"a":"%s"},"readings":[{"id":"00000001-0000-4000-8000-000000000002","origin":1750000000000000001,"deviceName":"d","resourceName":"R","profileName":"P","valueType":"String","value":"%s"}]}`,
			strings.Repeat("t", tags), strings.Repeat("v", text))
	}
	for _, c := range []struct {
		how        string
		tags, text int
		aside      uint64
	}{
		{intake.UnsendableHold, 100 << 10, 10, 0},
		{intake.UnsendableRefuse, 100 << 10, 10, 1},
		{intake.UnsendableRefuse, 10, 100 << 10, 0}, // can be cut
		{intake.UnsendableRefuse, 10, 10, 0},
	} {
		cfg := testConfig(t, nil, "cloud")
		cfg.Intake.Unsendable, cfg.Seal.MaxMessageKiB, cfg.Writable.Batch.MaxKiB = c.how, 64, 64
		log := &warnings{testLog: testLog{t}}
		s, err := New(cfg, Deps{Name: "app-offload", Log: log, Secrets: noSecrets{}, Publisher: &bin{}})
		require.NoError(t, err)
		t.Cleanup(func() { _ = s.Stop() })
		s.Start()
		require.NoError(t, s.Receive(receive.Message{Topic: "events/x", ContentType: parse.ContentTypeJSON, Payload: payload(c.tags, c.text)}))
		require.Equal(t, c.aside, s.Quarantine.Counts()[parse.ReasonUnsendable], "%+v", c)
		if c.aside > 0 {
			require.Zero(t, s.Counts().Accepted)
			require.Contains(t, s.Quarantined()[0].Detail, "at most ")
			require.Equal(t, "events/x", s.Quarantined()[0].Topic)
			require.Len(t, log.lines, 1)
			require.Contains(t, log.lines[0], "holds an event that fits no message")
			continue
		}
		require.Positive(t, s.Counts().Accepted)
	}
}
