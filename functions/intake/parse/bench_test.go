package parse

import (
	"encoding/json"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// oneReading is the usual event of device services.
func Parse(payload []byte, contentType string) (*task.Event, error) {
	return DefaultLimits().Parse(payload, contentType)
}

func oneReading(t testing.TB, encode marshal) []byte {
	ev := dtos.NewEvent("Random-Integer-Device", "Random-Integer-Device-1", "Int32")
	require.NoError(t, ev.AddSimpleReading("Int32", "Int32", int32(-12345)))
	payload, err := encode(requests.NewAddEventRequest(ev))
	require.NoError(t, err)
	return payload
}

func vibration(t testing.TB) []byte {
	ev := dtos.NewEvent("vibration", "pump-1", "spectrum")
	samples := make([]float32, 512)
	for i := range samples {
		samples[i] = float32(i) / 7
	}
	require.NoError(t, ev.AddSimpleReading("samples", "Float32Array", samples))
	payload, err := json.Marshal(requests.NewAddEventRequest(ev))
	require.NoError(t, err)
	return payload
}

func camera(t testing.TB, encode marshal) []byte {
	ev := dtos.NewEvent("camera", "cam-1", "frame")
	ev.AddBinaryReading("frame", make([]byte, 200<<10), "image/jpeg")
	payload, err := encode(requests.NewAddEventRequest(ev))
	require.NoError(t, err)
	return payload
}

// BenchmarkParse measures the parser beside EdgeX's own decoder on the same bytes.
func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name, contentType string
		payload           []byte
	}{
		{"one/json", ContentTypeJSON, oneReading(b, json.Marshal)},
		{"one/cbor", ContentTypeCBOR, oneReading(b, cbor.Marshal)},
		{"vibration/json", ContentTypeJSON, vibration(b)},
		{"camera200KiB/json", ContentTypeJSON, camera(b, json.Marshal)},
		{"camera200KiB/cbor", ContentTypeCBOR, camera(b, cbor.Marshal)},
	} {
		b.Run(c.name+"/Parse", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.payload)))
			for b.Loop() {
				if _, err := Parse(c.payload, c.contentType); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(c.name+"/AddEventRequest", func(b *testing.B) {
			decode := json.Unmarshal
			if c.contentType == ContentTypeCBOR {
				decode = cbor.Unmarshal
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(c.payload)))
			for b.Loop() {
				var request requests.AddEventRequest
				if err := decode(c.payload, &request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
