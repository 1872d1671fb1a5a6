package parse

import (
	"bytes"
	"context"
	"encoding/json"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/edgexfoundry/go-mod-messaging/v3/pkg/types"
	"github.com/fxamacker/cbor/v2"
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

// compareEnvelope compares ParseEnvelope with the decoding of EdgeX's MQTT client.
func compareEnvelope(t testing.TB, msg []byte) {
	var want types.MessageEnvelope
	wantErr := json.Unmarshal(msg, &want)
	have, err := ParseEnvelope(msg)
	if wantErr != nil {
		require.Error(t, err, "%q", msg)
		return
	}
	require.NoError(t, err, "%q", msg)
	cut := func(text string) string { return text[:min(len(text), maxName)] }
	require.Equal(t, []any{cut(want.CorrelationID), want.ContentType, want.ErrorCode, string(want.Payload)},
		[]any{cut(string(have.CorrelationID)), have.ContentType, have.ErrorCode, string(have.Payload)}, "%q", msg)
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

// The memory of a message is reused for another one once its event has been parsed.
func TestAnEventOutlivesItsMessage(t *testing.T) {
	msg := sealed(t, oneReading(t, json.Marshal), ContentTypeJSON)
	env, err := ParseEnvelope(bytes.Clone(msg))
	require.NoError(t, err)
	want, err := DefaultLimits().Open(&env)
	require.NoError(t, err)
	env, err = ParseEnvelope(msg)
	require.NoError(t, err)
	got, err := DefaultLimits().Open(&env)
	require.NoError(t, err)
	for i := range msg {
		msg[i] = '#'
	}
	want.Received = got.Received
	require.Equal(t, want, got)
	require.NotContains(t, got.CorrelationID+got.ID, "#")
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
	for msg, want := range map[string]string{
		`{"payload":{}}`:          "payload must be base64 in a string, and is of type object",
		`{"contentType":5}`:       "contentType must be a string, and is of type number",
		`{"errorCode":"0"}`:       "errorCode must be a whole number, and is of type string",
		`{"errorCode":1.5}`:       "errorCode must be a whole number, and is of type number 1.5",
		`{"queryParams":[]}`:      "queryParams must be an object of strings, and is of type array",
		`{"queryParams":{"a":1}}`: "queryParams must be a string, and is of type number",
		`[]`:                      "the message must be an object, and is of type array",
	} {
		_, err := ParseEnvelope([]byte(msg))
		require.EqualError(t, err, "rejecting event: wrong_type: envelope: "+want)
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

// Messages as EdgeX writes them take the fast path, in any order of their names; all others are left to encoding/json.
func TestOrdinaryEnvelopesAreScanned(t *testing.T) {
	fast := func(msg string) (Envelope, bool) {
		var p parser
		p.start([]byte(msg), 0, DefaultLimits().Depth)
		env, ok := p.envelope()
		return env, ok && env.decode()
	}
	want := Envelope{CorrelationID: []byte("c"), ContentType: "application/json", Payload: []byte("{}")}
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

// A message of the largest size takes no second copy while it is decoded, and is unchanged if it cannot be decoded.
func TestALongPayloadIsDecodedWithinTheMessage(t *testing.T) {
	for _, size := range []int{decodeWithin, decodeWithin + 1, decodeWithin + 2, 3*decodeWithin + 3071, 3 * decodeWithin} {
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(i * i >> 3)
		}
		msg := sealed(t, payload, ContentTypeCBOR)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		env, err := ParseEnvelope(msg)
		runtime.ReadMemStats(&after)
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, env.Payload), "%d bytes", size)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<10))
	}
	for _, bad := range []string{"!", "AA==", "A"} { // in the middle, padding within, one digit too many
		msg := sealed(t, make([]byte, 3*decodeWithin), ContentTypeJSON)
		at := bytes.Index(msg, []byte("AAAA")) + 2*decodeWithin
		msg = slices.Concat(msg[:at], []byte(bad), msg[at:])
		same := bytes.Clone(msg)
		_, err := ParseEnvelope(msg)
		require.ErrorContains(t, err, ReasonEncoding, bad)
		require.True(t, bytes.Equal(same, msg), bad)
	}
}

// An event is split into many tasks, and each has the names: names of megabytes took gigabytes.
func TestNamesAreBounded(t *testing.T) {
	long := strings.Repeat("n", maxName+1)
	for _, field := range []string{"deviceName", "profileName", "sourceName", "resourceName", "units", "mediaType"} {
		for _, encode := range []func(any) ([]byte, error){json.Marshal, cbor.Marshal} {
			event := func(name string) []byte {
				reading := map[string]any{"id": "x", "origin": 1, "deviceName": "d", "resourceName": "R", "profileName": "P", "valueType": "String", "value": "v"}
				ev := map[string]any{"apiVersion": "v3", "id": "6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11", "deviceName": "d", "profileName": "P", "sourceName": "S", "origin": 1}
				of := ev
				if _, ok := ev[field]; !ok {
					of = reading
				}
				of[field] = name
				ev["readings"] = []any{reading}
				raw, err := encode(ev)
				require.NoError(t, err)
				return raw
			}
			contentType := ContentTypeJSON
			if event("d")[0] != '{' {
				contentType = ContentTypeCBOR
			}
			_, err := DefaultLimits().Parse(event(long[1:]), contentType)
			require.NoError(t, err, field)
			_, err = DefaultLimits().Parse(event(long), contentType)
			require.ErrorContains(t, err, ReasonTooLarge, field)
			require.ErrorContains(t, err, field+" has 4097 bytes")
		}
	}
}
