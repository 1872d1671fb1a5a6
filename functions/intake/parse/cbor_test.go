package parse

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// item joins encoded CBOR.
func item(parts ...any) []byte {
	var out []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string: // a text string of less than 24 bytes
			out = append(append(out, 0x60|byte(len(p))), p...)
		case int:
			out = append(out, byte(p))
		case []byte:
			out = append(out, p...)
		}
	}
	return out
}

// smallCBOR is an event with indefinite map and array, as other encoders than Go's write them, and the given value.
func smallCBOR(kind string, value []byte) []byte {
	reading := item(0xbf, "origin", 1, "deviceName", "d", "profileName", "p", "resourceName", "r", "valueType", kind, value, 0xff)
	id := "82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc"
	return item(0xbf, "apiVersion", "v3", "id", 0x78, 36, []byte(id), "deviceName", "d", "profileName", "p", "sourceName", "s",
		"origin", 0x1b, 0x18, 0, 0, 0, 0, 0, 0, 0, "readings", 0x9f, reading, 0xff, 0xff)
}

func oddCBOR(testing.TB) [][]byte {
	object := func(value ...any) []byte { return smallCBOR("Object", append(item("objectValue"), item(value...)...)) }
	return [][]byte{
		smallCBOR("Int8", item("value", "1")),
		smallCBOR("String", item("value", 0x7f, "ab", "cd", 0xff)),                                  // in pieces
		smallCBOR("Binary", item("mediaType", "m", "binaryValue", 0x5f, 0x42, 1, 2, 0x41, 3, 0xff)), // in pieces
		smallCBOR("Binary", item("mediaType", "m", "binaryValue", 0x43, 1, 2, 3)),
		smallCBOR("Binary", item("mediaType", "m", "binaryValue", 0x5f, 0xff)), // nothing in pieces
		smallCBOR("Int8", item("value", 0xf6)),                                 // null
		smallCBOR("Int8", item("value", 1)),                                    // a number
		smallCBOR("Int8", item("value", 0x61, 0xff)),                           // not UTF-8
		object(0xa2, "a", 1, "a", 2),                                           // a name twice
		object(0xa1, 1, 0xc2, 0x41, 1),                                         // a big number under a whole number
		object(0xc0, "2020"), object(0xc1, 1), object(0xc2, 1),                 // tags
		object(0xf8, 31), object(0xf9, 0x7e, 0), object(0xe0), object(0xdb, 255, 255, 255, 255, 255, 255, 255, 255, 0),
		object(0x9b, 255, 255, 255, 255, 255, 255, 255, 255), // a length of 2⁶⁴-1
		object(bytes.Repeat([]byte{0x81}, 100), 0),           // deep
		object(0x5c), object(0x7d), object(0x9e), object(0xbc), // heads of nothing
		{0xbf},
		{0xa1},
		{0xff},
		{0x5f},
		{0xa0},
	}
}

func TestCBOROddities(t *testing.T) {
	for i, payload := range oddCBOR(t) {
		t.Logf("%d taken: %v", i, compare(t, payload, ContentTypeCBOR))
	}
}

func TestCBORValuesAreWhereTheyAre(t *testing.T) {
	ev, err := Parse(smallCBOR("Binary", item("mediaType", "m", "binaryValue", 0x43, 1, 2, 3)), ContentTypeCBOR)
	require.NoError(t, err)
	r := ev.Readings[0]
	require.Equal(t, task.CBOR, ev.Encoding)
	require.Equal(t, []byte{1, 2, 3}, r.Value)
	require.Equal(t, []byte{1, 2, 3}, ev.Raw[r.Start:r.End])

	ev, err = Parse(smallCBOR("String", item("value", 0x7f, "ab", "cd", 0xff)), ContentTypeCBOR)
	require.NoError(t, err)
	r = ev.Readings[0]
	require.Equal(t, "abcd", string(r.Value))
	require.Zero(t, r.Start+r.End, "a value in pieces cannot be cut")

	tags := item(0x98, 40, bytes.Repeat([]byte{0xd8, 32, 0x61, 'a'}, 40))
	_, err = Parse(smallCBOR("Object", append(item("objectValue"), tags...)), ContentTypeCBOR)
	require.NoError(t, err, "tags beside each other are not deep")
}
