package fold

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestFoldedPayloadsComeBack(t *testing.T) {
	pieces := rapid.SampledFrom([]string{
		"5b1e9c1e-0f5c-4a43-9d8d-3f9ad8f6a001", "5B1E9C1E-0f5c-4a43-9d8d-3f9ad8f6a001", "5b1e9c1e-0f5c-4a43-9d8d-3f9ad8f6a00", "1750000000000000001", "12345", "1234",
		"007", strings.Repeat("QUJD", 30), strings.Repeat("9", 63), strings.Repeat("a9", 33), "\xf5", "\xff", "\xf6\xf7\xf8\xf9\xfa\xfb\xfc", `"value":"`, "e+01, -", "漢字",
	})
	rapid.Check(t, func(t *rapid.T) {
		var src []byte
		for range rapid.IntRange(0, 20).Draw(t, "pieces") {
			src = append(src, pieces.Draw(t, "piece")...)
			src = append(src, rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "noise")...)
		}
		var f Columns
		f.Fold(src)
		joined := bytes.Join([][]byte{f.Text, f.IDs, f.Digits, f.Blobs}, nil)
		back, err := Unfold(joined, int64(len(src)))
		require.NoError(t, err)
		require.Equal(t, string(src), string(back))
		if len(src) > 0 {
			_, err = Unfold(joined, int64(len(src)-1))
			require.ErrorIs(t, err, ErrTooLarge)
		}
	})
}

// One mark may represent a long run: the limit applies when columns are joined as well.
func TestUnfoldingIsBounded(t *testing.T) {
	text := append([]byte{16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, markID}, bytes.Repeat([]byte{markSameID}, 1<<20)...)
	_, err := Unfold(append(text, make([]byte, 16)...), 1<<20)
	require.ErrorIs(t, err, ErrTooLarge)
	for _, text := range []string{"", "\xf7", "\xf6", "\xf8\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xfe\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "\xff\x05", "\xf5", "\xf9\xfa"} {
		_, err := Unfold(append(make([]byte, Header), text...), math.MaxInt64)
		if text == "" {
			require.NoError(t, err)
			continue
		}
		require.Error(t, err, "%q", text)
		require.NotErrorIs(t, err, ErrTooLarge, "%q", text)
	}
}

// Each kind of mark alone: the limit is exact, and a column that is too short or too long is rejected.
func TestEachMarkIsBounded(t *testing.T) {
	const id = "5b1e9c1e-0f5c-4a43-9d8d-3f9ad8f6a001"
	for name, src := range map[string]string{
		"text": "hello", "id": id, "same id": id + " " + id, "2 digits": "1234", "3 digits": "123456", "4 digits": "12345678", "9 digits": "123456789012345678",
		"many digits": "12345678901234567890123456", "same digits": "1234567890123456 1234567890123456", "odd digits": "1234567", "base64": strings.Repeat("QUJD", 30),
		"escape": "\xf5", "raw": strings.Repeat("\xf6\xf7\xf8\xf9", 20),
	} {
		var f Columns
		f.Fold([]byte(src))
		parts := [][]byte{f.Text, f.IDs, f.Digits, f.Blobs}
		back, err := Unfold(bytes.Join(parts, nil), int64(len(src)))
		require.NoError(t, err, name)
		require.Equal(t, src, string(back), name)
		_, err = Unfold(bytes.Join(parts, nil), int64(len(src)-1))
		require.ErrorIs(t, err, ErrTooLarge, name)
		for i, column := range parts[1:] {
			if len(column) == 0 {
				continue
			}
			at := 4 * i // of the column's length in the header
			for _, change := range []int{-1, 1} {
				text := bytes.Clone(f.Text)
				binary.LittleEndian.PutUint32(text[at:], uint32(len(column)+change))
				changed := slices.Clone(parts)
				changed[0] = text
				if changed[i+1] = column[:len(column)-1]; change > 0 {
					changed[i+1] = append(bytes.Clone(column), 0)
				}
				_, err = Unfold(bytes.Join(changed, nil), 1<<20)
				require.Error(t, err, "%s, column %d %+d", name, i, change)
				require.NotErrorIs(t, err, ErrTooLarge)
				if change < 0 && name != "base64" {
					require.ErrorIs(t, err, errShort, "%s, column %d", name, i)
				}
			}
		}
	}
	for mark, want := range map[string]string{
		"\xf5": "unexpected end", "\xf6": "unexpected end", "\xf7": "before the first id", "\xf8": "unexpected end", "\xfa": "unexpected end", "\xfe": "unexpected end",
		"\xff": "unexpected end", "\xf8\x01": "unexpected end", "\xff\x01": "unexpected end", "\xfe\x01": "unexpected end",
	} {
		_, err := Unfold(append(make([]byte, Header), mark...), 1<<20)
		require.ErrorContains(t, err, want, "%q", mark)
	}
	back, err := Unfold(append(make([]byte, Header), 0xf9), 1<<20)
	require.NoError(t, err)
	require.Empty(t, back, "no run was long yet")
	for n := range Header {
		_, err := Unfold(make([]byte, n), 1<<20)
		require.ErrorIs(t, err, errShort)
	}
	pair := append(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(make([]byte, 4), 2), 0), 0xfa, 99, 100)
	_, err = Unfold(pair, 1<<20)
	require.ErrorContains(t, err, "100 is not a pair of digits")
	pair[len(pair)-1] = 0
	back, err = Unfold(pair, 1<<20)
	require.NoError(t, err)
	require.Equal(t, "9900", string(back))
}
