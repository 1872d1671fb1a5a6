package intake

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/intake/parse"
	"app-offload/functions/mqtt"
	"app-offload/functions/quarantine"
)

// TestTextsOfStrangersAreBounded: no content type, topic or id of any sender takes more memory than the payloads may, quoted or not.
func TestTextsOfStrangersAreBounded(t *testing.T) {
	cfg := DefaultConfig()
	q, err := quarantine.New(cfg.Quarantine())
	require.NoError(t, err)
	long := strings.Repeat("\x7f", 15<<20)
	event := strings.Replace(small, "7a1707f0-166f-4c4b-bc9d-1d54c74e0137", long, 1)
	for _, row := range []struct{ payload, contentType string }{
		{"{}", long},
		{"{}", strings.Repeat("a", 60<<20)},
		{event, parse.ContentTypeJSON},
		{`{"requestId":"` + long + `","event":` + small + `}`, parse.ContentTypeJSON},
		{`{"` + long + `":1,"` + long + `":2}`, parse.ContentTypeJSON},
		{strings.Replace(small, `"tags"`, `"`+long+`":1,"`+long+`"`, 1), parse.ContentTypeJSON},
	} {
		for range 12 {
			limits := cfg.Limits()
			limits.Bytes = 1 << 30
			_, err := limits.Parse([]byte(row.payload), row.contentType)
			if err == nil {
				err = errors.New(long)
			} else {
				require.LessOrEqual(t, len(err.Error()), 1024)
			}
			q.Add(long, row.contentType, nil, err)
			latest := q.List()[0]
			require.LessOrEqual(t, max(len(latest.Detail), len(latest.Topic), len(latest.ContentType)), 512)
		}
	}
	sum := 0
	for _, r := range q.List() {
		sum += len(r.Payload) + len(r.Detail) + len(r.Topic) + len(r.ContentType)
	}
	require.LessOrEqual(t, sum, cfg.QuarantineKiB<<10)
	var body []byte
	body, err = json.Marshal(q.List())
	require.NoError(t, err)
	require.Less(t, len(body), 1<<20)
}

// An event without its envelope is named as that, and what came is kept.
func TestAnEventWithoutItsEnvelope(t *testing.T) {
	s := &Subscriber{limits: parse.DefaultLimits()}
	for _, text := range []string{small, `{"apiVersion":"v3","event":` + small + `}`, "{}"} {
		_, _, kept, err := s.parse(mqtt.Message{Payload: []byte(text)})
		require.ErrorContains(t, err, "missing_field: envelope: payload and contentType are required; an event without its envelope is not taken")
		require.Equal(t, text, string(kept))
	}
	_, _, _, err := s.parse(mqtt.Message{Payload: sealed(t, []byte(small), "")})
	require.ErrorContains(t, err, `content type ""`)
	_, _, _, err = s.parse(mqtt.Message{Payload: sealed(t, nil, parse.ContentTypeJSON)})
	require.ErrorContains(t, err, "the payload ends")
}
