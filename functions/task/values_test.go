package task

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
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
		{Float32, "-Inf", []float64{math.Inf(-1)}},
		{Float32, "3.4028235e38", []float64{3.4028235e38}},
		{Float32, "3.40282350000000001e38", []float64{3.4028235e38}}, // rounds to the greatest
		{Int8, "127.0", []float64{127}},
		{Int8, "-1.28e2", []float64{-128}},
		{Uint16, "65535", []float64{65535}},
		{Int64, "9007199254740993", []float64{9007199254740992}}, // beyond 2⁵³ the last digit goes
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
		{Float64, "1e1x", "invalid syntax"},
		{Float64, "1e+", "invalid syntax"},
		{Float64, "1e-+1", "invalid syntax"},
		{Float64, "1f1", "invalid syntax"},
		{Float64, "..5", "invalid syntax"},
		{Float64, "1e999", "out of range"},
		{Float32, "3.5e38", "out of range"},
		{Float32, "340282360000000000000000000000000000001", "out of range"},
		{Int8, "128", "out of range"},
		{Int8, "-129", "out of range"},
		{Int8, "1.5", "invalid syntax"},
		{Uint8, "-1", "invalid syntax"},
		{Uint8, "256.0", "out of range"},
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

// Short decimals are read without ParseFloat. At its limits, 15 digits and the exact powers of ten, the results are the same.
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

// The usual values need no ParseFloat: up to 15 digits and two of an exponent, with any signs. ParseFloat reads all others.
func TestUsualDecimalsAreReadAtOnce(t *testing.T) {
	for _, text := range []string{
		"0", "-0", "7", "-1.5", ".5", "5.", "1e5", "1E+05", "-1.234568e-01", "123456789012345", "0.00000000000001", "1e22", "1e-22", "9.99999e22", "9e9", "9e+19", "000000000000001",
	} {
		have, ok := exact([]byte(text))
		require.True(t, ok, text)
		want, err := strconv.ParseFloat(text, 64)
		require.NoError(t, err)
		require.Equal(t, math.Float64bits(want), math.Float64bits(have), text)
	}
	for _, text := range []string{"", "-", ".", "+1", "1e", "1e+", "1e123", "1e23", "1e-23", "1234567890123456", "1.2.3", "..5", ".5.", "1x", "1e1x", "--1", "Inf", "0x1p3", "1_0"} {
		_, ok := exact([]byte(text))
		require.False(t, ok, text)
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

// Old device services write a float as the base64 of its bytes. Four of them give the shortest decimal that encodes to them.
func TestFloatsReadsBase64(t *testing.T) {
	coded := func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }
	for _, v := range []float64{0, 20.1, -1.5, math.MaxFloat32, 1e-40, math.Inf(1)} {
		want, err := strconv.ParseFloat(strconv.FormatFloat(float64(float32(v)), 'g', -1, 32), 64)
		require.NoError(t, err)
		for value, want := range map[string]float64{
			string(coded(binary.BigEndian.AppendUint32(nil, math.Float32bits(float32(v))))): want,
			string(coded(binary.BigEndian.AppendUint64(nil, math.Float64bits(v)))):          v,
		} {
			for _, typ := range []ValueType{Float32, Float64} {
				have, err := (&Reading{Type: typ, Value: []byte(value)}).Floats(nil)
				require.NoError(t, err)
				require.Equal(t, []float64{want}, have, value)
			}
			_, err := (&Reading{Type: Int64, Value: []byte(value)}).Floats(nil)
			require.Error(t, err, "no integer is written so")
		}
	}
	for _, bad := range []string{"AAAA", "AAA=", "AAAAAAA=", "AAAAAAAAAAA", "AAAAAAAAAA==", "????AA==", "AAAAAAAAAAAAAAA="} {
		have, err := (&Reading{Type: Float64, Value: []byte(bad)}).Floats(nil)
		require.Error(t, err, "%s gives %v", bad, have)
	}
}

// Ranks keep every digit of 64-bit integers, order as the values do, and AppendRank reverses them.
func TestRanks(t *testing.T) {
	for typ, values := range map[ValueType][]string{
		Int64:  {"-9223372036854775808", "-9007199254740993", "-1", "0", "1", "9007199254740993", "9223372036854775807"},
		Uint64: {"0", "1", "9007199254740993", "9223372036854775808", "18446744073709551615"},
	} {
		var one []uint64
		for i, text := range values {
			r := Reading{Type: typ, Value: []byte(" " + text + " ")}
			one = r.Ranks(one)
			require.Len(t, one, i+1)
			require.Equal(t, text, string(AppendRank(nil, one[i], typ.IsUnsigned())))
			require.True(t, i == 0 || one[i-1] < one[i], text)
		}
		array := Reading{Type: typ - Bool + BoolArray, Value: []byte("[" + strings.Join(values, ", ") + "]")}
		require.Equal(t, append([]uint64{7}, one...), array.Ranks([]uint64{7}))
		require.Equal(t, one[len(one)-1]-one[0], map[ValueType]uint64{Int64: math.MaxUint64, Uint64: math.MaxUint64}[typ])
		have := (&Reading{Type: typ, Value: []byte("1.2e1")}).Ranks(nil)
		require.Equal(t, "12", string(AppendRank(nil, have[0], typ.IsUnsigned())), "in the notation of a float")
	}
	have := (&Reading{Type: Int64, Value: []byte("-2.0")}).Ranks(nil)
	require.Equal(t, "-2", string(AppendRank([]byte{}, have[0], false)))
	for _, typ := range []ValueType{Int32, Uint32, Float64, Bool, Int32Array, String} {
		require.Empty(t, (&Reading{Type: typ, Value: []byte("1")}).Ranks(nil), typ)
	}
}

func TestTypesOfIntegers(t *testing.T) {
	bits := map[ValueType]int{Int8: 8, Uint8: 8, Int16: 16, Uint16: 16, Int32: 32, Uint32: 32, Int64: 64, Uint64: 64}
	for typ := Unknown; typ <= Object+1; typ++ {
		have, integer := bits[typ.Element()]
		require.Equal(t, integer, typ.IsInteger(), typ)
		require.Equal(t, have, typ.Bits(), typ)
	}
	_, known := ParseType([]byte("Float16"))
	require.False(t, known)
	_, known = ParseType(nil)
	require.False(t, known)
}
