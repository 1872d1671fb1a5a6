package seal

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each attribute of a batch is checked by itself: a wrong one is rejected, whatever the others are.
func TestEachAttributeOfABatchIsChecked(t *testing.T) {
	good := map[string]string{
		"id": "i", "epoch": "e", "subject": "c", "source": nodeSource("n"), "time": "2026-01-02T03:04:05Z", "floor": "00000000000000000001",
		"sequence": "00000000000000000002", "count": "3",
	}
	of := func(name, value string) attributes {
		var a attributes
		for k, v := range good {
			if k == name {
				v = value
			}
			a = append(a, attribute{name: k, value: v})
		}
		a.sort()
		return a
	}
	b, first, count, err := batchFrom(of("", ""))
	require.NoError(t, err)
	require.Equal(t, [3]any{"n", uint64(2), 3}, [3]any{b.Node, first, count})
	for name, bad := range map[string][]string{
		"source": {"", "n", sourceNode, sourceCloud + "n", sourceNode + "a/b"}, "time": {"", "2026-01-02", "2026-01-02T03:04:05.0Z", "2026-01-02T04:04:05+01:00"},
		"floor": {"", "1", "18446744073709551616", "-0000000000000000001"}, "sequence": {"", "1", "000000000000000000002"}, "count": {"", "x", "1.5"},
	} {
		for _, value := range bad {
			_, _, _, err := batchFrom(of(name, value))
			require.Error(t, err, "%s %q", name, value)
		}
	}
	_, _, _, err = batchFrom(of("sequence", "18446744073709551615"))
	require.NoError(t, err, "the highest number there is")
}

// A payload too short to be sealed is forged, and so is one just long enough that was not sealed.
func TestAPayloadWithoutRoomForItsTagIsForged(t *testing.T) {
	for _, name := range []string{CipherGCM, CipherEAX} {
		var l locks
		k, err := l.get(name, "k", make([]byte, 32))
		require.NoError(t, err)
		least := k.aead.NonceSize() + k.aead.Overhead()
		for _, n := range []int{0, 1, least - 1, least, least + 1} {
			_, err := k.open(make([]byte, n), nil)
			require.ErrorIs(t, err, ErrForged, "%s, %d bytes", name, n)
		}
		sealed, err := k.seal(nil, bytes.NewReader(make([]byte, 99)), nil, nil)
		require.NoError(t, err)
		require.Len(t, sealed, least)
		plain, err := k.open(sealed, nil)
		require.NoError(t, err)
		require.Empty(t, plain)
	}
}

// Brackets and quotes within strings end nothing.
func TestNestedJSONEndsWhereItEnds(t *testing.T) {
	for _, value := range []string{`{}`, `[]`, `{"a":"}"}`, `["]"]`, `[{"a":"\"]}"},"\\"]`, `{"{":["[",{"b":"\\\"}"}]}`, `[[],{"a":[]}]`} {
		require.Equal(t, len(value), skipNested([]byte(value+`,"x":1}`)), value)
	}
}

// JSON has no number for NaN and the infinities.
func TestFloatsThatJSONHasNot(t *testing.T) {
	for f, want := range map[float64]string{1.5: "1.5", 2: "2.0", -1e300: "-1e+300", math.MaxFloat64: "1.7976931348623157e+308", math.Inf(1): "", math.Inf(-1): ""} {
		w := jsonWriter{in: binary.BigEndian.AppendUint64([]byte{0xfb}, math.Float64bits(f))}
		err := w.float()
		require.Equal(t, [2]any{want, want == ""}, [2]any{string(w.out), err != nil}, "%v", f)
	}
	for n := range 9 {
		require.Error(t, (&jsonWriter{in: make([]byte, n)}).float(), "%d bytes", n)
	}
	require.NoError(t, (&jsonWriter{in: make([]byte, 9)}).float())
	require.Error(t, (&jsonWriter{in: binary.BigEndian.AppendUint64([]byte{0xfb}, math.Float64bits(math.NaN()))}).float())
}

// Notes to a node come from the cloud, notes of a node from itself.
func TestWhereNotesComeFrom(t *testing.T) {
	require.Equal(t, []string{sourceNode, sourceCloud, sourceCloud}, []string{Learned.root(), Fleet.root(), Credit.root()})
}

// A message that begins with a brace is JSON, even if nothing follows; an empty one is not a message.
func TestTheFirstByteTellsTheForm(t *testing.T) {
	_, asJSON := parseJSON([]byte("{"))
	_, err := parse([]byte("{"))
	require.ErrorContains(t, err, asJSON.Error())
	_, err = parse(nil)
	require.Error(t, err)
}
