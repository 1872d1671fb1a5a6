package task

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
)

// builder writes an event as JSON and records the positions of its values, as intake does.
type builder struct {
	buf bytes.Buffer
	ev  *Event
}

func newEvent() *builder {
	b := &builder{ev: &Event{
		ID: "3f1c0d6e-2b52-4f6a-9d0a-0c3d5e6f7a8b", Device: "pump-1", Profile: "pump", Source: "all",
		Origin: 1700000000000000001, Received: 1700000000000000002, Encoding: JSON,
	}}
	b.buf.WriteString(`{"apiVersion":"v3","id":"` + b.ev.ID + `","deviceName":"pump-1","profileName":"pump","sourceName":"all","readings":[`)
	return b
}

func (b *builder) add(resource string, typ ValueType, value string) *builder {
	if len(b.ev.Readings) > 0 {
		b.buf.WriteByte(',')
	}
	key := "value"
	if typ == Blob {
		key = "binaryValue"
	}
	fmt.Fprintf(&b.buf, `{"resourceName":"%s","valueType":"%s","%s":"`, resource, typ, key)
	start := b.buf.Len()
	b.buf.WriteString(value + `"}`)
	b.ev.Readings = append(b.ev.Readings, Reading{Resource: resource, Type: typ, Origin: 7, Start: start, End: start + len(value)})
	return b
}

func (b *builder) binary(resource string, value []byte) *builder {
	return b.add(resource, Blob, base64.StdEncoding.EncodeToString(value))
}

func (b *builder) tags(object string) *builder {
	b.ev.Tags = []byte(object)
	return b
}

func (b *builder) event() *Event {
	b.buf.WriteString(`]}`)
	b.ev.Raw = b.buf.Bytes()
	for i := range b.ev.Readings {
		r := &b.ev.Readings[i]
		r.Value = b.ev.Raw[r.Start:r.End]
	}
	return b.ev
}

// cborEvent builds an event in CBOR with one value of each of the two forms that can be split.
func cborEvent(t testing.TB, array string, blob []byte) *Event {
	raw, err := cbor.Marshal(map[string]any{
		"id": "c1", "readings": []any{
			map[string]any{"resourceName": "Vibration", "valueType": "Float32Array", "value": array},
			map[string]any{"resourceName": "Image", "valueType": "Binary", "binaryValue": blob},
		},
	})
	require.NoError(t, err)
	ev := &Event{ID: "c1", Device: "d", Encoding: CBOR, Raw: raw, Readings: []Reading{
		{Resource: "Vibration", Type: Float32Array}, {Resource: "Image", Type: Blob, Encoding: CBOR},
	}}
	for i, value := range [][]byte{[]byte(array), blob} {
		at := bytes.Index(raw, value)
		require.Positive(t, at)
		r := &ev.Readings[i]
		r.Start, r.End, r.Value = at, at+len(value), raw[at:at+len(value)]
	}
	return ev
}

// floats is an array of n values in EdgeX's notation.
func floats(n int, value func(i int) float64) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = fmt.Sprintf("%e", value(i))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func sine(i int) float64 { return math.Sin(float64(i) / 10) }

// always is a classOf that returns a single class.
func always(c *Class) func(string) *Class { return func(string) *Class { return c } }

// class builds a class from a valid configuration.
func class(t testing.TB, config ClassConfig) *Class {
	c, err := config.compile("Test", "test")
	require.NoError(t, err)
	return c
}
