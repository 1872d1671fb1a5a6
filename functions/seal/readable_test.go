package seal

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// theEvent is an event as EdgeX's services encode it, with everything that JSON and CBOR write differently.
type theEvent struct {
	APIVersion string         `json:"apiVersion"`
	ID         string         `json:"id"`
	DeviceName string         `json:"deviceName"`
	Origin     int64          `json:"origin"`
	Readings   []theReading   `json:"readings"`
	Tags       map[string]any `json:"tags,omitempty"`
}

type theReading struct {
	ResourceName string `json:"resourceName"`
	ValueType    string `json:"valueType"`
	Origin       int64  `json:"origin"`
	Value        string `json:"value,omitempty"`
	BinaryValue  []byte `json:"binaryValue,omitempty"`
	ObjectValue  any    `json:"objectValue,omitempty"`
}

func cborEvent() theEvent {
	return theEvent{
		APIVersion: "v3", ID: "cbor-event", DeviceName: "press-1 <\"Süd\"\n&>", Origin: 1750000000000000001,
		Readings: []theReading{
			{"force", "Float32", 1750000000000000001, "1.234500e+02", nil, nil},
			{"image", "Binary", -5, "", []byte{0xff, 0xd8, 0, 1}, nil},
			{"state", "Object", 0, "", nil, map[string]any{"a": []any{1, -300, 2.5, 3.0, 1e300, nil, true, "x", []any{}, map[string]any{}}}},
		},
		Tags: map[string]any{"line": uint64(1) << 63},
	}
}

func cborBatch(t *testing.T, data []byte) *Batch {
	t.Helper()
	b := goldenBatch()
	one := &task.Task{
		EventID: "cbor-event", Device: "press-1", Profile: "press", Source: "all", Origin: 1750000000000000001, Received: 1750000000002500000,
		Of: 1, Class: &task.Class{Name: "machines", Priority: 5}, Encoding: task.CBOR, Data: data,
	}
	b.Sequences, b.Tasks = []uint64{18}, [][]byte{one.Append(nil)}
	return b
}

// An event received as CBOR is an event in the json form as well, and is restored to the original bytes.
func TestGoldenEventOfCBORIsReadable(t *testing.T) {
	raw, err := cbor.Marshal(cborEvent())
	require.NoError(t, err)
	v := variant{form: FormJSON, cipher: CipherNone, compression: CompressionNone}
	got, err := mustSealer(t, v.config()).Seal(nil, cborBatch(t, raw))
	require.NoError(t, err)
	want := golden(t, "cbor-"+v.file(), got)
	require.Equal(t, string(want), string(got))

	var message struct {
		Data struct {
			Records []struct {
				Encoding string
				Event    json.RawMessage
				Base64   []byte
			}
		}
	}
	require.NoError(t, json.Unmarshal(got, &message))
	r := message.Data.Records[0]
	require.Equal(t, "cbor", r.Encoding)
	require.Nil(t, r.Base64)
	plain, err := json.Marshal(cborEvent())
	require.NoError(t, err)
	require.JSONEq(t, string(plain), string(r.Event))

	b, err := opener(v).Open(want)
	require.NoError(t, err)
	require.Equal(t, cborBatch(t, raw), b)

	out, err := exec.Command(python(t), "-B", "reader.py", "--file", filepath.Join("testdata", "golden", "cbor-"+v.file())).Output() // #nosec G204 -- the repository's own script
	require.NoError(t, err)
	var line struct{ Event json.RawMessage }
	require.NoError(t, json.Unmarshal(out, &line))
	require.JSONEq(t, string(plain), string(line.Event))
}

// Data that JSON cannot restore byte for byte stays unchanged, and so does everything else.
func TestCBORThatJSONWouldChangeStaysAsItCame(t *testing.T) {
	for name, raw := range map[string]string{
		"nothing":               "",
		"no map":                "\x81\x01",
		"a frame that was cut":  "\xa1\x68readings\x83\xa0",
		"something behind":      "\xa0\x00",
		"a longer head":         "\xb8\x01\x61a\x01",
		"indefinite":            "\xbf\x61a\x01\xff",
		"a float of 32 bits":    "\xa1\x61a\xfa\x3f\x80\x00\x00",
		"NaN":                   "\xa1\x61a\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00",
		"+Inf":                  "\xa1\x61a\xfb\x7f\xf0\x00\x00\x00\x00\x00\x00",
		"-Inf":                  "\xa1\x61a\xfb\xff\xf0\x00\x00\x00\x00\x00\x00",
		"half a float":          "\xa1\x61a\xfb\x3f\xf0\x00\x00\x00\x00\x00",
		"bytes elsewhere":       "\xa1\x61a\x41\x00",
		"text for bytes":        "\xa1\x6bbinaryValue\x63abc",
		"text that is no UTF-8": "\xa1\x61a\x61\xff",
		"a number as a name":    "\xa1\x01\x02",
		"beyond 64 bits":        "\xa1\x61a\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
		"a tag":                 "\xa1\x61a\xc1\x01",
		"very deep":             "\xa1\x61a" + strings.Repeat("\x81", 1000) + "\x00",
		"a count of nothing":    "\xa1\x61a\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		require.Nil(t, readableCBOR([]byte(raw)), name)
		b := cborBatch(t, []byte(raw))
		v := variant{form: FormJSON, cipher: CipherNone, compression: CompressionNone}
		message, err := mustSealer(t, v.config()).Seal(nil, b)
		require.NoError(t, err, name)
		opened, err := opener(v).Open(message)
		require.NoError(t, err, name)
		one, err := task.Decode(opened.Tasks[0])
		require.NoError(t, err, name)
		require.Equal(t, raw, string(one.Data), name)
	}
}

// Any bytes: readable ones are restored, and are valid JSON.
func TestReadableCBORComesBack(t *testing.T) {
	values := rapid.Deferred(anyValue)
	rapid.Check(t, func(t *rapid.T) {
		raw, err := cbor.Marshal(rapid.MapOf(rapid.String(), values).Draw(t, "event"))
		require.NoError(t, err)
		if i := rapid.IntRange(-1, len(raw)-1).Draw(t, "damage"); i >= 0 {
			raw[i] ^= rapid.Byte().Draw(t, "bits")
		}
		event := readableCBOR(raw)
		if event == nil {
			return
		}
		require.True(t, json.Valid(event))
		back, err := eventCBOR(event)
		require.NoError(t, err)
		require.Equal(t, raw, back)
	})
}

func anyValue() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.String().AsAny(), rapid.Float64().AsAny(), rapid.Int64().AsAny(), rapid.Uint64().AsAny(), rapid.Bool().AsAny(),
		rapid.SliceOfN(rapid.Deferred(anyValue), 0, 3).AsAny(), rapid.MapOfN(rapid.String(), rapid.Deferred(anyValue), 0, 3).AsAny(),
	)
}
