package task

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFloats(t *testing.T) {
	rows := []struct {
		typ   ValueType
		value string
		want  []float64
	}{
		{Float32, "1.234568e+01", []float64{12.34568}},
		{Float64, "-1.5E-3", []float64{-0.0015}},
		{Float64, "+Inf", []float64{math.Inf(1)}},
		{Int64, "-9223372036854775808", []float64{-9223372036854775808}},
		{Uint64, "18446744073709551615", []float64{18446744073709551615}},
		{Int8, " -7 ", []float64{-7}},
		{Bool, "true", []float64{1}},
		{Bool, "False", []float64{0}},
		{BoolArray, "[true, false]", []float64{1, 0}},
		{Float32Array, "[1.000000e+00, 2.500000e+00]", []float64{1, 2.5}},
		{Int16Array, "1, 2", []float64{1, 2}}, // a chunk has no brackets
		{Int16Array, " 3", []float64{3}},
		{Int16Array, " [ 1 ,2 ] ", []float64{1, 2}},
		{Int16Array, "[]", nil},
		{Int16Array, "", nil},
	}
	for _, row := range rows {
		r := Reading{Type: row.typ, Value: []byte(row.value)}
		have, err := r.Floats([]float64{42})
		require.NoError(t, err, row.value)
		require.Equal(t, append([]float64{42}, row.want...), have, row.value)
	}
}

func TestFloatsRefuses(t *testing.T) {
	rows := []struct {
		typ         ValueType
		value, want string
	}{
		{String, "1", "its type is String"},
		{StringArray, "[1]", "its type is StringArray"},
		{Object, "{}", "its type is Object"},
		{Blob, "AAAA", "its type is Binary"},
		{Float64, "", "reading X as Float64, element 0"},
		{Float64, "hot", "invalid syntax"},
		{Float64, "1e999", "out of range"},
		{Bool, "2", "invalid syntax"},
		{Int8Array, "[1, -, 3]", "element 1"},
		{Int8Array, "[1, , 3]", "element 1"},
		{Int8Array, "[, 1, 3]", `parsing "": invalid syntax`},
		{Int8Array, "[1, 2", "element 0"},
	}
	for _, row := range rows {
		r := Reading{Resource: "X", Type: row.typ, Value: []byte(row.value)}
		have, err := r.Floats([]float64{42})
		require.ErrorContains(t, err, row.want, row.value)
		require.Equal(t, []float64{42}, have, "nothing is appended on an error")
	}
}

func TestFloatsReadsWhatParseFloatReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[-+]?[0-9]{0,9}\.?[0-9]{0,9}([eE][-+]?[0-9]{0,3})?`).Draw(t, "number")
		want, wantErr := strconv.ParseFloat(text, 64)
		r := Reading{Type: Float64, Value: []byte(text)}
		have, err := r.Floats(nil)
		require.Equal(t, wantErr == nil, err == nil)
		if err == nil {
			require.Equal(t, math.Float64bits(want), math.Float64bits(have[0]))
		}
	})
}

// Short decimals are read without ParseFloat. Where that ends, at 15 digits and at the powers of ten that are exact, nothing changes.
func TestFloatsReadsEveryPowerOfTen(t *testing.T) {
	for _, digits := range []string{"0", "1", "-7", "5.", ".5", "-0.25", "123456789012345", "1234567890.12345", "1234567890123456", "12345678901234567", ".", ""} {
		for power := -60; power <= 60; power++ {
			text := fmt.Sprintf("%se%d", digits, power)
			want, wantErr := strconv.ParseFloat(text, 64)
			have, err := (&Reading{Type: Float64, Value: []byte(text)}).Floats(nil)
			require.Equal(t, wantErr == nil, err == nil, text)
			if err == nil {
				require.Equal(t, math.Float64bits(want), math.Float64bits(have[0]), text)
			}
		}
	}
}

func TestBytes(t *testing.T) {
	blob := []byte("AAAA") // also valid base64: only the encoding distinguishes them
	coded := []byte(base64.StdEncoding.EncodeToString(blob))
	for encoding, value := range map[Encoding][]byte{0: coded, JSON: coded, CBOR: blob, Binary: blob} {
		r := Reading{Type: Blob, Encoding: encoding, Value: value}
		have, err := r.Bytes()
		require.NoError(t, err)
		require.Equal(t, blob, have)
	}
	_, err := (&Reading{Resource: "X", Type: Blob, Value: []byte("*")}).Bytes()
	require.ErrorContains(t, err, "reading X as bytes: illegal base64")
	_, err = (&Reading{Resource: "X", Type: Int8, Value: []byte("1")}).Bytes()
	require.ErrorContains(t, err, "its type is Int8")
}

func TestTypeNames(t *testing.T) {
	for v := Bool; v <= Object; v++ {
		have, ok := ParseType([]byte(v.String()))
		require.True(t, ok)
		require.Equal(t, v, have)
	}
	require.Empty(t, (Object + 1).String())
}
