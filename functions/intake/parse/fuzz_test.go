package parse

import (
	"strings"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/stretchr/testify/require"
)

// small is the shortest possible event, as a base for invalid ones.
const small = `{"apiVersion":"v3","id":"82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc","deviceName":"d","profileName":"p","sourceName":"s",` +
	`"origin":1,"readings":[{"origin":1,"deviceName":"d","profileName":"p","resourceName":"r","valueType":"Int8","value":"1"}]}`

// FuzzParseJSON: EdgeX's decoder accepts every event that Parse accepts, as the same event; and neither panics.
func FuzzParseJSON(f *testing.F) {
	seed(f, ContentTypeJSON)
	f.Add([]byte(small))
	f.Add([]byte(`{"apiVersion":"v3","requestId":"","event":` + small + `}`))
	for _, c := range rejections {
		f.Add([]byte(c.json))
	}
	f.Fuzz(func(t *testing.T, payload []byte) { compare(t, payload, ContentTypeJSON) })
}

// FuzzParseCBOR is the same for CBOR.
func FuzzParseCBOR(f *testing.F) {
	seed(f, ContentTypeCBOR)
	for _, payload := range oddCBOR(f) {
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) { compare(t, payload, ContentTypeCBOR) })
}

func FuzzEnvelope(f *testing.F) {
	for _, msg := range envelopes {
		f.Add([]byte(msg))
	}
	f.Add(sealed(f, []byte(small), ContentTypeJSON))
	f.Fuzz(func(t *testing.T, msg []byte) { compareEnvelope(t, msg) })
}

// seed adds an event of each value type, which the fuzzer can mix.
func seed(f *testing.F, contentType string) {
	event := everyType(f)
	for i := range event.Readings {
		one := event
		one.Readings = event.Readings[i : i+1]
		payload, err := encodings[contentType](requests.NewAddEventRequest(one))
		require.NoError(f, err)
		f.Add(payload)
	}
}

// rejections are events with one fault each, by the word of the counter.
var rejections = []struct{ name, json, reason, detail string }{
	{"nothing", "", ReasonMalformed, "ends"},
	{"cut off", small[:100], ReasonMalformed, "ends"},
	{"something behind", small + "x", ReasonMalformed, "trailing data"},
	{"not an object", `[` + small + `]`, ReasonMalformed, "object"},
	{"byte order mark", "\xef\xbb\xbf" + small, ReasonMalformed, "byte 0"},
	{"control character", strings.Replace(small, `"s"`, "\"a\nb\"", 1), ReasonMalformed, "control"},
	{"bad escape", strings.Replace(small, `"s"`, `"\x"`, 1), ReasonMalformed, "escape"},
	{"trailing comma", strings.Replace(small, `"1"}`, `"1",}`, 1), ReasonMalformed, "name in quotes"},
	{"other case", strings.Replace(small, `sourceName`, "sourcename", 1), ReasonMalformed, "sourceName"},
	{"event within event", `{"event":` + small + "," + small[1:], ReasonMalformed, "beside"},
	{"not UTF-8", strings.Replace(small, `"s"`, "\"\xff\"", 1), ReasonEncoding, "UTF-8"},
	{"no base64", reading(`"valueType":"Binary","mediaType":"m","binaryValue":"a"`), ReasonEncoding, "readings[0].binaryValue"},
	{"field twice", strings.Replace(small, `"origin":1,`, `"origin":1,"origin":1,`, 1), ReasonDuplicate, "origin"},
	{"field twice, once escaped", strings.Replace(small, `"origin":1,`, `"origin":1,"\u006frigin":1,`, 1), ReasonDuplicate, "origin"},
	{"tag twice", strings.Replace(small, `{`, `{"tags":{"a":1,"a":2},`, 1), ReasonDuplicate, `"a"`},
	{"unknown field twice", strings.Replace(small, `{`, `{"x":1,"x":2,`, 1), ReasonDuplicate, `"x"`},
	{"too deep", strings.Replace(small, `{`, `{"x":`+strings.Repeat("[", 40)+strings.Repeat("]", 40)+`,`, 1), ReasonTooDeep, "32"},
	{"no version", strings.Replace(small, `"v3"`, `""`, 1), ReasonMissing, "apiVersion"},
	{"no id", strings.Replace(small, `"id":"82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc",`, ``, 1), ReasonMissing, "id"},
	{"blank device", strings.Replace(small, `"d"`, `"  "`, 1), ReasonMissing, "deviceName"},
	{"null source", strings.Replace(small, `"s"`, `null`, 1), ReasonMissing, "sourceName"},
	{"origin 0", strings.Replace(small, `"origin":1`, `"origin":0`, 1), ReasonMissing, "origin"},
	{"no readings", small[:strings.Index(small, `[{`)] + `[]}`, ReasonMissing, "readings"},
	{"no resource", reading(`"valueType":"Int8","resourceName":""`), ReasonMissing, "readings[0].resourceName"},
	{"binary without value", reading(`"valueType":"Binary","mediaType":"m"`), ReasonMissing, "readings[0].binaryValue"},
	{"binary without media type", reading(`"valueType":"Binary","binaryValue":"AAAA"`), ReasonMissing, "readings[0].mediaType"},
	{"object without value", reading(`"valueType":"Object"`), ReasonMissing, "readings[0].objectValue"},
	{"id is no UUID", strings.Replace(small, `82eb`, `82EB`, 1), ReasonBadID, "id"},
	{"requestId is no UUID", `{"apiVersion":"v3","requestId":"1","event":` + small + `}`, ReasonBadID, "requestId"},
	{"number for a string", strings.Replace(small, `"s"`, `5`, 1), ReasonWrongType, "sourceName"},
	{"number for a value", reading(`"valueType":"Int8","value":1`), ReasonWrongType, "readings[0].value"},
	{"string for a number", strings.Replace(small, `1`, `"1"`, 1), ReasonWrongType, "origin"},
	{"fraction", strings.Replace(small, `:1`, `:1.0`, 1), ReasonWrongType, "origin"},
	{"over 64 bits", strings.Replace(small, `:1`, `:9223372036854775808`, 1), ReasonWrongType, "origin"},
	{"readings no array", small[:strings.Index(small, `[{`)] + `{}}`, ReasonWrongType, "readings"},
	{"tags no object", strings.Replace(small, `{`, `{"tags":[],`, 1), ReasonWrongType, "tags"},
	{"number no float64 holds", strings.Replace(small, `{`, `{"tags":{"a":1e999},`, 1), ReasonWrongType, "range"},
	{"unknown value type", strings.Replace(small, `Int8`, `Int128`, 1), ReasonValueType, "Int128"},
}

// reading is the small event with other fields in its reading.
func reading(fields string) string {
	head := small[:strings.Index(small, `"resourceName"`)]
	if !strings.Contains(fields, "resourceName") {
		fields += `,"resourceName":"r"`
	}
	return head + fields + `}]}`
}

func TestRejections(t *testing.T) {
	for _, c := range rejections {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.json), ContentTypeJSON)
			var rejected *RejectError
			require.ErrorAs(t, err, &rejected, "%s", c.json)
			require.Equal(t, c.reason, rejected.Reason, rejected.Detail)
			require.Contains(t, rejected.Detail, c.detail)
			require.Contains(t, rejected.Detail, "byte ")
		})
	}
}

func TestAcceptedOddities(t *testing.T) {
	for name, payload := range map[string]string{
		"white space":       strings.ReplaceAll(small, ":", " :\n\t"),
		"unknown fields":    strings.Replace(small, `{`, `{"x":[{"y":null}],"z":-0.5e-7,`, 1),
		"empty value":       reading(`"valueType":"String","value":""`),
		"null value":        reading(`"valueType":"String","value":null`),
		"absent value":      reading(`"valueType":"Int8"`),
		"type in any case":  reading(`"valueType":"float32ARRAY","value":"[1]"`),
		"half a surrogate":  reading(`"valueType":"String","value":"\ud800x"`),
		"slashes escaped":   reading(`"valueType":"Binary","mediaType":"m","binaryValue":"\/\/\/\/"`),
		"escaped name":      strings.Replace(small, `"sourceName"`, `"\u0073ourceName"`, 1),
		"many unknown":      strings.Replace(small, `{`, `{"a":0,"b":0,"c":0,"d":0,"e":0,"f":0,"g":0,"h":0,"i":0,"j":0,`, 1),
		"null tags":         strings.Replace(small, `{`, `{"tags":null,`, 1),
		"lowest of 64 bits": strings.Replace(small, `:1`, `:-9223372036854775808`, 1),
	} {
		require.True(t, compare(t, []byte(payload), ContentTypeJSON), "%s: %s", name, payload)
	}
}

func TestContentTypes(t *testing.T) {
	for contentType, want := range map[string]bool{
		"application/json":                true,
		"application/json; charset=utf-8": true,
		"application/cbor":                false, // it is not
		"":                                false,
		"text/plain":                      false,
		"application/json;;;":             false,
	} {
		_, err := Parse([]byte(small), contentType)
		require.Equal(t, want, err == nil, contentType)
	}
	_, err := Parse([]byte(small), "text/plain")
	require.ErrorContains(t, err, ReasonContentType)
	_, err = Limits{Bytes: 10, Depth: 10}.Parse([]byte(small), ContentTypeJSON)
	require.ErrorContains(t, err, ReasonTooLarge)
}
