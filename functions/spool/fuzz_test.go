package spool

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// fuzzed is the segment to which the structures below belong.
func fuzzed() *segment {
	return &segment{
		segmentHeader: segmentHeader{id: 1, base: 1, epoch: "0123456789abcdef"}, end: dataStart + 300,
		entries: []entry{{off: dataStart, size: 100, seq: 1, due: 7, arrived: 9, score: 0.5}, {off: dataStart + 100, size: 200, seq: 4, class: 1}},
	}
}

// FuzzRecord: any bytes decode to a record or an error, and a record encodes to the same record again.
func FuzzRecord(f *testing.F) {
	for _, class := range []string{"", "c", "a class with a longer name"} {
		h := header{seq: 1, time: 5, expires: 9, score: 0.25, class: []byte(class)}
		f.Add(sealRecord(nil, &h, []byte("payload"), nil, 0), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= headerSize && len(b) >= headerSize+int(b[6]) {
			b = slices.Clone(b)
			copy(b, recordMagic)
			b[4] = recordVersion
			binary.LittleEndian.PutUint32(b[8:], uint32(len(b)-headerSize-int(b[6]))) // a few KiB
			binary.LittleEndian.PutUint64(b[16:], 1)
			finishRecord(b, 0)
		}
		resync(b, 0, 0, 0)
		r, err := decodeRecord(slices.Clone(b), 0, 1, nil)
		if err != nil {
			return
		}
		h := header{seq: r.Seq, time: r.Time, expires: r.Expires, score: r.Score, class: []byte(r.Class)}
		again, err := decodeRecord(sealRecord(nil, &h, r.Payload, nil, 0), 0, 1, nil)
		require.NoError(t, err)
		require.Equal(t, r.Class, again.Class)
		require.True(t, slices.Equal(r.Payload, again.Payload))
	})
}

// FuzzState: likewise for a state slot; the fuzzer gets past the checksum.
func FuzzState(f *testing.F) {
	st := savedState{
		epoch: "e", next: 9, classes: []class{{name: "c", dropped: map[string]uint64{"full": 1}}},
		segments: []savedSegment{{id: 1, gone: []byte{1, 2}, holes: []hole{{1, 2}}}},
	}
	st.fates.ranges = []fateRange{{1, 2, "done"}, {4, 4, "skipped"}}
	f.Add(st.encode(), false)
	f.Add(st.encode(), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) > slotHeader+4 {
			b = slices.Clone(b)
			sealSlot(b[:len(b)-4:len(b)], 1)
		}
		st, err := decodeState(b)
		if err != nil {
			return
		}
		again, err := decodeState(st.encode())
		require.NoError(t, err)
		require.Equal(t, st.segments, again.segments)
		require.Equal(t, st.fates, again.fates)
		for _, g := range st.segments {
			walk := newGoneWalk(g.base, g.gone)
			for seq := range uint64(50) {
				walk.gone(g.base + seq*seq)
			}
		}
	})
}

// FuzzHistory: likewise for a slot of the history.
func FuzzHistory(f *testing.F) {
	body, _ := packBlock([]fateRange{{1, 2, "done"}, {4, 4, "skipped"}, {9, 30, "done"}})
	slot := sealBlock(block{7, 1, 30}, "0123456789abcdef", body)
	f.Add(slot, false)
	f.Add(slot, true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if len(b) < historyHeader {
			return
		}
		if mend {
			body := b[historyHeader:]
			b = sealBlock(block{7, 1, 30}, "0123456789abcdef", body[:min(len(body), historySlot-historyHeader)])
		}
		parseBlock(b, "0123456789abcdef")
		ranges, err := openBlock(b)
		if err != nil {
			return
		}
		again, err := decodeRanges(encodeRanges(ranges))
		require.NoError(t, err)
		require.True(t, slices.Equal(ranges, again))
	})
}

// FuzzIndex: likewise for an index, which a running spool reads too.
func FuzzIndex(f *testing.F) {
	g := fuzzed()
	f.Add(encodeIndex(g, []string{"c", "d"}), false)
	f.Add(encodeIndex(g, []string{"c", "d"}), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= 20 {
			b = slices.Clone(b)
			copy(b, indexMagic)
			binary.LittleEndian.PutUint32(b[8:], indexVersion)
			binary.LittleEndian.PutUint32(b[12:], g.seed())
			binary.LittleEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b[:len(b)-4], castagnoli))
		}
		x, err := decodeIndex(b, &g.segmentHeader)
		if err != nil {
			return
		}
		for i := range x.entries {
			e := &x.entries[i]
			require.LessOrEqual(t, int64(e.off)+int64(e.size), x.end)
			require.Less(t, int(e.class), len(x.classes))
			require.True(t, i == 0 || e.seq >= x.entries[i-1].seq)
		}
	})
}

// FuzzSegment: any bytes after any header are records, damage or a torn end, within the file and in order.
func FuzzSegment(f *testing.F) {
	g := fuzzed()
	b := g.encode()
	for seq := range uint64(3) {
		b = sealRecord(b, &header{seq: seq + 1, class: []byte("c"), synced: dataStart}, []byte("payload"), nil, g.seed())
	}
	f.Add(b, true)
	f.Add(b[:len(b)-3], false)
	f.Add(append(slices.Clone(b[:dataStart+70]), b[dataStart+80:]...), false)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		_, _ = parseSegmentHeader(b)
		if len(b) > 64<<10 {
			return
		}
		x := &found{segmentHeader: g.segmentHeader}
		scan(x, b, nil, sealed)
		last := uint64(0)
		for _, e := range x.entries {
			require.LessOrEqual(t, int(e.off)+int(e.size), len(b))
			require.Greater(t, g.base+uint64(e.seq), last)
			last = g.base + uint64(e.seq)
		}
	})
}
