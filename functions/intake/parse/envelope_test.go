package parse

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/stretchr/testify/require"
)

// sealed is a message as EdgeX's MQTT client publishes it.
func sealed(t testing.TB, payload []byte, contentType string) []byte {
	env := types.NewMessageEnvelope(payload, context.Background())
	env.CorrelationID, env.ContentType = "9ba11c8e-59d7-4c4a-8d4d-1f0c1ee30b64", contentType
	msg, err := json.Marshal(env)
	require.NoError(t, err)
	return msg
}

// compareEnvelope holds ParseEnvelope against the decoding of EdgeX's MQTT client.
func compareEnvelope(t testing.TB, msg []byte) {
	var want types.MessageEnvelope
	wantErr := json.Unmarshal(msg, &want)
	have, err := ParseEnvelope(msg)
	if wantErr != nil {
		require.Error(t, err, "%q", msg)
		return
	}
	require.NoError(t, err, "%q", msg)
	require.Equal(t, []any{want.CorrelationID, want.RequestID, want.ContentType, want.ErrorCode, string(want.Payload)},
		[]any{have.CorrelationID, have.RequestID, have.ContentType, have.ErrorCode, string(have.Payload)}, "%q", msg)
}

var envelopes = []string{
	`{"apiVersion":"v3","correlationID":"c1","contentType":"application/json","payload":"aGVsbG8="}`, // the smallest in use
	` { "payload" : "aGVsbG8=" } `,
	`{"payload":"aGVs\nbG8="}`, `{"payload":"aGVs\\nbG8="}`, // line breaks within base64
	`{"payload":"aGVsbG8"}`, `{"payload":"aGVs bG8="}`, // no base64
	`{"payload":[104,105]}`, `{"payload":null}`, `{"payload":""}`, `{"payload":{"a":1}}`, // other forms of bytes
	`{"errorCode":1,"payload":"aGVsbG8="}`, `{"errorCode":01}`, `{"errorCode":0.5}`, `{"errorCode":"0"}`,
	`{"PAYLOAD":"aGVsbG8="}`, `{"payload":"YQ==","payload":"Yg=="}`, `{"\u0070ayload":"YQ=="}`, // odd spellings
	`{"correlationID":"\u00fc\ud83d\ude00","queryParams":{"a":"b"},"unknown":[1,{}]}`,
	`{}`, ``, `null`, `[]`, `{"payload":"YQ=="`, `{"payload":"YQ=="}x`, `{"payload":"YQ==",}`, `{"correlationID":5}`,
	"{\"correlationID\":\"\xff\"}", "{\"correlationID\":\"\x00\"}",
}

func TestParseEnvelopeTakesWhatEdgeXTakes(t *testing.T) {
	for _, msg := range envelopes {
		compareEnvelope(t, []byte(msg))
	}
	compareEnvelope(t, sealed(t, []byte{0, 1, 2, 255}, ContentTypeCBOR))
	compareEnvelope(t, sealed(t, oneReading(t, json.Marshal), ContentTypeJSON))
}

func TestRejectedEnvelopesHaveReasons(t *testing.T) {
	for msg, want := range map[string]string{
		`{"payload":"aGVsbG8"}`: ReasonEncoding,
		`{"errorCode":"0"}`:     ReasonWrongType,
		`{"payload":`:           ReasonMalformed,
	} {
		_, err := ParseEnvelope([]byte(msg))
		var rejected *RejectError
		require.ErrorAs(t, err, &rejected, msg)
		require.Equal(t, want, rejected.Reason, msg)
	}
}

func BenchmarkParseEnvelope(b *testing.B) {
	msg := sealed(b, oneReading(b, json.Marshal), ContentTypeJSON)
	b.Run("ParseEnvelope", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(msg)))
		for b.Loop() {
			if _, err := ParseEnvelope(msg); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("json.Unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(msg)))
		for b.Loop() {
			var env types.MessageEnvelope
			if err := json.Unmarshal(msg, &env); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Messages as EdgeX writes them take the fast way, in any order of their names; anything else is left to encoding/json.
func TestOrdinaryEnvelopesAreScanned(t *testing.T) {
	fast := func(msg string) (Envelope, bool) {
		var p parser
		p.start([]byte(msg), 0, DefaultLimits().Depth)
		return p.envelope()
	}
	want := Envelope{CorrelationID: "c", RequestID: "r", ContentType: "application/json", Payload: []byte("{}")}
	for _, msg := range []string{
		`{"apiVersion":"v3","receivedTopic":"t","correlationID":"c","requestID":"r","errorCode":0,"payload":"e30=","contentType":"application/json"}`,
		` { "payload" : "e30=" , "contentType" : "application/json", "requestID":"r","correlationID":"c" } `,
	} {
		env, ok := fast(msg)
		require.True(t, ok, msg)
		require.Equal(t, want, env, msg)
	}
	for _, msg := range []string{
		``, `[]`, `{}`, `{"payload":"e30="`, `{"payload":"e30=",}`, `{"payload":"e30="} x`, `{"payload":"e30=","payload":"e30="}`, `{"errorCode":1}`,
		`{"errorCode":`, `{"other":1}`, `{"correlationID":1}`, `{"correlationID":"a\n"}`, `{"payload":"e30"}`, `{"payload":"e3*="}`, `{"requestID":"a" "payload":"e30="}`,
	} {
		_, ok := fast(msg)
		require.False(t, ok, msg)
	}
}
