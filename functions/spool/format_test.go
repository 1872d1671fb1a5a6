package spool

import (
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The format described by FORMAT.md stays byte for byte: existing spools must open.
func TestFormatIsGolden(t *testing.T) {
	g := &segment{
		segmentHeader: segmentHeader{lane: 7, flags: flagEncrypted, rev: 2, id: 0x1234, base: 1000, created: 1700000000e9, epoch: "0123456789abcdef", origin: "fedcba9876543210", keyID: "key-1"},
		end:           2000,
		entries:       []entry{{off: dataStart, size: 100, seq: 5, due: 77, arrived: 40, score: 0.5}, {off: 1200, size: 90, seq: 9, arrived: 42, class: 1}},
	}
	for i := range g.salt {
		g.salt[i] = byte(i)
	}
	g.sum = g.seed()
	key := []byte(strings.Repeat("k", 32))
	aead, check, err := segmentCipher(key, g.salt[:], g.epoch)
	require.NoError(t, err)
	copy(g.check[:], check)
	h := header{seq: 1005, time: 1700000000e9, expires: 1700000060e9, clock: 42, synced: 1024, score: 0.5, class: []byte("vibration")}
	plain, secret := h, h
	st := savedState{
		gen: 9, epoch: g.epoch, origin: g.origin, next: 1010, reserved: 3, counted: 1009, clock: 5e9, clean: true,
		at: clock.Moment{Wall: 1700000000e9, Boot: "7bf2", Booted: 4e9, Synchronised: true}, nextID: 0x1235,
		classes:  []class{{name: "vibration", appended: 10, done: 7, dropped: map[string]uint64{"full": 1, "expired": 2}}},
		segments: []savedSegment{{lane: 7, id: 0x1234, base: 1000, end: 2000, records: 2, gone: []byte{5, 0}, holes: []hole{{1124, 76}}}},
	}
	st.fates.ranges = []fateRange{{1, 900, FateDone}, {905, 905, "dropped:full"}}
	var b strings.Builder
	for _, x := range []struct {
		name  string
		bytes []byte
	}{
		{"one copy of a segment header", g.encode()[:copySize]},
		{"record", sealRecord(nil, &plain, []byte("payload"), nil, g.sum)},
		{"encrypted record, key k×32", sealRecord(nil, &secret, []byte("payload"), aead, g.sum)},
		{"state", st.encode()},
		{"index", encodeIndex(g, []string{"vibration", "camera"})},
	} {
		fmt.Fprintf(&b, "%s\n%s\n", x.name, hex.Dump(x.bytes))
	}
	const golden = "testdata/format.golden"
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(golden, []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())

	// A compressor may change its output, but earlier output stays readable.
	block, err := os.ReadFile("testdata/history.bin")
	require.NoError(t, err)
	header, ok := parseBlock(block, g.epoch)
	require.True(t, ok)
	require.Equal(t, uint64(7), header.gen)
	ranges, err := openBlock(block)
	require.NoError(t, err)
	require.Equal(t, []fateRange{{1, 900, FateDone}, {905, 905, "dropped:full"}, {907, 1009, FateDone}}, ranges)

	back, err := decodeState(st.encode())
	require.NoError(t, err)
	st.fates.max = back.fates.max
	require.Equal(t, &st, back)
	parsed, ok := parseSegmentHeader(g.encode())
	require.True(t, ok)
	require.Equal(t, g.segmentHeader, parsed)
	x, err := decodeIndex(encodeIndex(g, []string{"vibration", "camera"}), &g.segmentHeader)
	require.NoError(t, err)
	require.Equal(t, g.entries, x.entries)
}
