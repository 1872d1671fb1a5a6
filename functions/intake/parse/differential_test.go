package parse

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/edgexfoundry/go-mod-core-contracts/v3/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos"
	dtocommon "github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/common"
	"github.com/edgexfoundry/go-mod-core-contracts/v3/dtos/requests"
	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// everyType is an event with one reading of each value type, made by EdgeX's own constructors.
func everyType(t testing.TB) dtos.Event {
	ev := dtos.NewEvent("profile-1", "device-1", "source-1")
	ev.Tags = dtos.Tags{"line": "a&b", "critical": true, "n": 1.5}
	for _, r := range []struct {
		kind  string
		value any
	}{
		{common.ValueTypeBool, true},
		{common.ValueTypeString, "plain"},
		{common.ValueTypeString, "quote \" slash \\ <html> ünï \u2028 \x00 😀"},
		{common.ValueTypeString, ""},
		{common.ValueTypeUint8, uint8(math.MaxUint8)},
		{common.ValueTypeUint16, uint16(math.MaxUint16)},
		{common.ValueTypeUint32, uint32(math.MaxUint32)},
		{common.ValueTypeUint64, uint64(math.MaxUint64)},
		{common.ValueTypeInt8, int8(math.MinInt8)},
		{common.ValueTypeInt16, int16(math.MinInt16)},
		{common.ValueTypeInt32, int32(math.MinInt32)},
		{common.ValueTypeInt64, int64(math.MinInt64)},
		{common.ValueTypeFloat32, float32(math.Pi)},
		{common.ValueTypeFloat64, math.MaxFloat64},
		{common.ValueTypeBoolArray, []bool{true, false}},
		{common.ValueTypeStringArray, []string{"a", "b"}},
		{common.ValueTypeUint8Array, []uint8{1, 2}},
		{common.ValueTypeUint16Array, []uint16{1, 2}},
		{common.ValueTypeUint32Array, []uint32{1, 2}},
		{common.ValueTypeUint64Array, []uint64{1, 2}},
		{common.ValueTypeInt8Array, []int8{-1, 2}},
		{common.ValueTypeInt16Array, []int16{-1, 2}},
		{common.ValueTypeInt32Array, []int32{-1, 2}},
		{common.ValueTypeInt64Array, []int64{-1, 2}},
		{common.ValueTypeFloat32Array, []float32{1.5, -2e30}},
		{common.ValueTypeFloat64Array, []float64{1.5, -2e300}},
	} {
		require.NoError(t, ev.AddSimpleReading("res-"+r.kind, r.kind, r.value), r.kind)
	}
	ev.AddBinaryReading("image", []byte{0, 1, 2, 0xff, 0xfe}, "image/jpeg")
	ev.AddObjectReading("object", map[string]any{"a": []any{1.0, "x", nil, map[string]any{"b": true}}})
	ev.Readings[3].Units = "mm/s"
	ev.Readings[3].Tags = dtos.Tags{"deep": map[string]any{"er": []any{}}}
	return ev
}

type marshal func(any) ([]byte, error)

var encodings = map[string]marshal{ContentTypeJSON: json.Marshal, ContentTypeCBOR: cborMarshal}

// cborMarshal writes as EdgeX does, but sorts maps, so that two encodings of one event are equal.
func cborMarshal(v any) ([]byte, error) {
	mode, err := cbor.EncOptions{Sort: cbor.SortCanonical}.EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(v)
}

func TestParseTakesWhatEdgeXProduces(t *testing.T) {
	for contentType, encode := range encodings {
		t.Run(contentType, func(t *testing.T) {
			event := everyType(t)
			bare, err := encode(event)
			require.NoError(t, err)
			ev, err := Parse(bare, contentType)
			require.NoError(t, err)
			requireSame(t, event, ev)
			require.True(t, bytes.Equal(bare, ev.Raw), "the bare event is kept whole")

			request, err := encode(requests.NewAddEventRequest(event))
			require.NoError(t, err)
			ev, err = Parse(request, contentType)
			require.NoError(t, err)
			requireSame(t, event, ev)
			require.True(t, bytes.Equal(bare, ev.Raw), "only the event is kept of a request")
		})
	}
}

// TestEachValueTypeAlone runs the same through EdgeX's own encoder and decoder, which choose the encoding by type.
func TestEachValueTypeAlone(t *testing.T) {
	for _, reading := range everyType(t).Readings {
		event := dtos.NewEvent("profile-1", "device-1", "source-1")
		event.Readings = []dtos.BaseReading{reading}
		request := requests.NewAddEventRequest(event)
		payload, contentType, err := request.Encode()
		require.NoError(t, err)
		compare(t, payload, contentType)
		for contentType, encode := range encodings {
			payload, err := encode(request)
			require.NoError(t, err)
			require.True(t, compare(t, payload, contentType), "%s as %s", reading.ValueType, contentType)
		}
	}
}

// plainRequest decodes like AddEventRequest, without its validation.
type plainRequest struct {
	dtocommon.BaseRequest
	Event dtos.Event
}

// compare compares Parse with EdgeX's decoder: an event that Parse accepts must decode there to the same event and be valid there, apart from values,
// which Parse does not decode. It reports whether Parse accepted it.
func compare(t testing.TB, payload []byte, contentType string) bool {
	ev, err := Parse(payload, contentType)
	if err != nil {
		var rejected *RejectError
		require.ErrorAs(t, err, &rejected)
		require.NotEmpty(t, rejected.Reason)
		require.NotEmpty(t, rejected.Detail)
		require.Nil(t, ev)
		return false
	}
	decode := json.Unmarshal
	if contentType == ContentTypeCBOR {
		decode = cbor.Unmarshal
	}
	var request plainRequest
	require.NoError(t, decode(payload, &request), "%q", payload)
	if request.Event.Id == "" {
		require.NoError(t, decode(payload, &request.Event), "%q", payload)
		request.BaseRequest = dtocommon.NewBaseRequest()
	}
	requireSame(t, request.Event, ev)
	valid := requests.AddEventRequest(request)
	valid.Event.Readings = withValidValues(request.Event.Readings)
	require.NoError(t, valid.Validate(), "%q", payload)
	return true
}

func withValidValues(readings []dtos.BaseReading) []dtos.BaseReading {
	out := make([]dtos.BaseReading, len(readings))
	for i, r := range readings {
		r.Value = "1"
		if strings.HasSuffix(r.ValueType, "Array") {
			r.Value = "[1]"
		}
		if r.ObjectValue != nil {
			r.ObjectValue = map[string]any{}
		}
		out[i] = r
	}
	return out
}

// requireSame compares everything that Parse extracts with the DTO.
func requireSame(t testing.TB, want dtos.Event, have *task.Event) {
	require.Equal(t, []any{want.Id, want.DeviceName, want.ProfileName, want.SourceName, want.Origin, len(want.Readings)},
		[]any{have.ID, have.Device, have.Profile, have.Source, have.Origin, len(have.Readings)})
	requireSameTags(t, want.Tags, have)
	for i, w := range want.Readings {
		h := have.Readings[i]
		require.Equal(t, []any{w.ResourceName, w.Units, w.MediaType, w.Origin}, []any{h.Resource, h.Units, h.MediaType, h.Origin}, "reading %d", i)
		kind, err := common.NormalizeValueType(w.ValueType)
		require.NoError(t, err)
		require.Equal(t, kind, h.Type.String())
		requireSameValue(t, w, h, have)
	}
}

func requireSameTags(t testing.TB, want dtos.Tags, have *task.Event) {
	if have.Tags == nil {
		require.Nil(t, want)
		return
	}
	var tags dtos.Tags
	require.NoError(t, decoderOf(have)(have.Tags, &tags))
	require.Equal(t, fmt.Sprint(want), fmt.Sprint(tags)) // in text, because NaN is a number in CBOR
}

func decoderOf(ev *task.Event) func([]byte, any) error {
	if ev.Encoding == task.CBOR {
		return cbor.Unmarshal
	}
	return json.Unmarshal
}

func requireSameValue(t testing.TB, want dtos.BaseReading, have task.Reading, ev *task.Event) {
	switch {
	case have.Type == task.Object:
		var value any
		require.NoError(t, decoderOf(ev)(have.Value, &value))
		require.Equal(t, fmt.Sprint(want.ObjectValue), fmt.Sprint(value))
	case have.Type == task.Blob && ev.Encoding == task.JSON:
		value, err := base64.StdEncoding.DecodeString(string(have.Value))
		require.NoError(t, err)
		require.Equal(t, want.BinaryValue, value)
	case have.Type == task.Blob:
		require.Equal(t, want.BinaryValue, have.Value)
	default:
		require.Equal(t, want.Value, string(have.Value))
	}
	requirePlaced(t, have, ev)
}

// requirePlaced checks that Start and End bound the exact value, or are both 0.
func requirePlaced(t testing.TB, r task.Reading, ev *task.Event) {
	if r.Start == 0 && r.End == 0 {
		return
	}
	require.True(t, 0 < r.Start && r.Start <= r.End && r.End < len(ev.Raw)+1, "[%d:%d] of %d", r.Start, r.End, len(ev.Raw))
	require.Equal(t, string(ev.Raw[r.Start:r.End]), string(r.Value))
	if ev.Encoding == task.JSON {
		require.Equal(t, byte('"'), ev.Raw[r.Start-1])
		require.Equal(t, byte('"'), ev.Raw[r.End])
	}
}

// mutationStep thins out the damaged positions of one run; the positions change from run to run.
const mutationStep = 50

// TestDifferentialByMutation damages good events in many small ways and compares Parse with EdgeX's decoder each time.
func TestDifferentialByMutation(t *testing.T) {
	for contentType, encode := range encodings {
		payload, err := encode(requests.NewAddEventRequest(everyType(t)))
		require.NoError(t, err)
		taken := 0
		for i := rand.IntN(mutationStep); i < len(payload); i += mutationStep {
			for _, damage := range []func([]byte) []byte{
				func(b []byte) []byte { b[i] ^= 0x20; return b },
				func(b []byte) []byte { b[i]++; return b },
				func(b []byte) []byte { return b[:i] },
				func(b []byte) []byte { return append(b[:i], b[i+1:]...) },
			} {
				if compare(t, damage(append([]byte(nil), payload...)), contentType) {
					taken++
				}
			}
		}
		t.Logf("%s: %d of %d damaged events are still events", contentType, taken, 4*len(payload)/mutationStep)
	}
}

// TestParseFromManyGoroutines: shared parsers and shared names do not mix up events.
func TestParseFromManyGoroutines(t *testing.T) {
	var workers sync.WaitGroup
	for n := range 8 {
		workers.Go(func() {
			for i := range 200 {
				event := dtos.NewEvent("profile", fmt.Sprintf("device-%d-%d", n, i), "source")
				for range i % 3 {
					event.AddObjectReading("object", map[string]any{"n": n})
				}
				event.AddBinaryReading("image", []byte{byte(n), byte(i)}, "image/png")
				for contentType, encode := range encodings {
					payload, err := encode(requests.NewAddEventRequest(event))
					assert.NoError(t, err)
					ev, err := Parse(payload, contentType)
					if assert.NoError(t, err) {
						assert.Equal(t, event.DeviceName, ev.Device)
						assert.Equal(t, len(event.Readings), len(ev.Readings))
						assert.Equal(t, event.Id, ev.ID)
					}
				}
			}
		})
	}
	workers.Wait()
}
