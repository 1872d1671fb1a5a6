package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestRecordComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{
			seq: rapid.Uint64().Draw(t, "seq"), time: rapid.Int64().Draw(t, "time"), expires: rapid.Int64().Draw(t, "expires"),
			clock: rapid.Uint32().Draw(t, "clock"), synced: rapid.Uint32().Draw(t, "synced"), score: rapid.Float32().Draw(t, "score"),
			class: []byte(rapid.StringN(0, 60, 255).Draw(t, "class")),
		}
		payload := rapid.SliceOf(rapid.Byte()).Draw(t, "payload")
		seed := rapid.Uint32().Draw(t, "seed")
		b := sealRecord(nil, &h, payload, nil, seed)
		require.Equal(t, h.size(), len(b))
		want := Record{Seq: h.seq, Class: string(h.class), Score: h.score, Time: h.time, Expires: h.expires, Payload: payload}
		r, err := decodeRecord(slices.Clone(b), seed, h.seq, nil)
		require.NoError(t, err)
		require.True(t, slices.Equal(payload, r.Payload))
		r.Payload = payload
		require.Equal(t, want, r)

		_, err = decodeRecord(slices.Clone(b), seed+1, h.seq, nil)
		require.Error(t, err, "of another segment")
		bad := slices.Clone(b)
		bit := rapid.IntRange(0, len(b)*8-1).Draw(t, "bit")
		bad[bit/8] ^= 1 << (bit % 8)
		r, err = decodeRecord(bad, seed, h.seq, nil)
		if bit/8 < headerSize+len(h.class) {
			require.NoError(t, err, "one bit of the header is mended")
			require.Equal(t, want.Class, r.Class)
		} else {
			require.ErrorContains(t, err, "payload")
		}
	})
}

func TestFatesAgreeWithAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, m := fates{max: 1 << 20}, map[uint64]string{}
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			lo := rapid.Uint64Range(1, 60).Draw(t, "lo")
			hi := lo + rapid.Uint64Range(0, 9).Draw(t, "len")
			why := rapid.SampledFrom([]string{"done", "expired", "skipped"}).Draw(t, "why")
			f.add(lo, hi, why)
			for s := lo; s <= hi; s++ {
				m[s] = why
			}
			if rapid.Bool().Draw(t, "forget") {
				f.forget(hi)
				delete(m, hi)
			}
		}
		for s := range uint64(80) {
			why, last := f.run(s)
			require.Equal(t, m[s], why, "sequence %d of %v", s, f.ranges)
			for k := s; k <= last; k++ {
				require.Equal(t, why, m[k])
			}
			if why == FateUnknown {
				next := f.before(s) + 1 // 0 where none comes any more
				for k := s; k < 80 && (next == 0 || k < next); k++ {
					require.Empty(t, m[k])
				}
				require.True(t, next == 0 || m[next] != "")
			}
		}
		for i := 1; i < len(f.ranges); i++ {
			require.Greater(t, f.ranges[i].lo, f.ranges[i-1].hi)
			require.False(t, f.ranges[i].why == f.ranges[i-1].why && f.ranges[i].lo == f.ranges[i-1].hi+1, "merged")
		}
		d := &decoder{b: f.encode(nil)}
		var back fates
		back.decode(d)
		require.NoError(t, d.err)
		require.Equal(t, append([]fateRange{}, f.ranges...), append([]fateRange{}, back.ranges...))
	})
}

// Ranges read from a file are rejected if they overlap, end before they begin, or wrap around.
func TestRangesOfFatesAreChecked(t *testing.T) {
	for name, row := range map[string]struct {
		numbers []uint64 // distance from the end before, and length, of each
		want    []fateRange
	}{
		"none":                   {nil, nil},
		"apart":                  {[]uint64{1, 2, 3, 0}, []fateRange{{1, 3, "w"}, {6, 6, "w"}}},
		"up to the last":         {[]uint64{1, math.MaxUint64 - 1}, []fateRange{{1, math.MaxUint64, "w"}}},
		"beyond the last":        {[]uint64{2, math.MaxUint64 - 1}, nil},
		"behind the last":        {[]uint64{5, 5, math.MaxUint64, 0}, nil},
		"one that wraps in both": {[]uint64{5, 0, math.MaxUint64, math.MaxUint64}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			plain := binary.AppendUvarint(nil, uint64(len(row.numbers)/2))
			listed := appendString(binary.AppendUvarint(nil, 1), "w")
			listed = binary.AppendUvarint(listed, uint64(len(row.numbers)/2))
			for i := 0; i < len(row.numbers); i += 2 {
				for _, v := range row.numbers[i : i+2] {
					plain, listed = binary.AppendUvarint(plain, v), binary.AppendUvarint(listed, v)
				}
				plain, listed = appendString(plain, "w"), append(listed, 0)
			}
			good := row.want != nil || row.numbers == nil
			d, f := &decoder{b: plain}, fates{}
			f.decode(d)
			require.Equal(t, good, d.err == nil)
			ranges, err := decodeRanges(listed)
			require.Equal(t, good, err == nil)
			if good {
				require.Equal(t, row.want, f.ranges)
				require.True(t, slices.Equal(row.want, ranges))
			}
		})
	}
	_, err := decodeRanges([]byte{1, 1, 'w', 1, 1, 1, 1}) // names a word that is not there
	require.ErrorIs(t, err, errMalformed)
	_, err = decodeRanges([]byte{1, 1, 'w', 1, 1, 1})
	require.ErrorIs(t, err, errMalformed)
}

// A decoder returns zeros after its first error, and keeps that error. A number larger than the remaining input allocates nothing.
func TestADecoderGivesZerosAfterAnError(t *testing.T) {
	for name, read := range map[string]func(d *decoder) any{
		"uvarint": func(d *decoder) any { return d.uvarint() },
		"varint":  func(d *decoder) any { return d.varint() },
		"count":   func(d *decoder) any { return d.count(1) },
		"bytes":   func(d *decoder) any { return len(d.bytes(2)) },
		"flag":    func(d *decoder) any { return d.flag() },
		"string":  func(d *decoder) any { return d.string() },
		"uint32":  func(d *decoder) any { return d.uint32() },
	} {
		d := &decoder{b: []byte{0x80}} // an unterminated number, too short for anything else
		if name == "flag" {
			d.b = nil
		}
		for range 2 {
			require.Zero(t, read(d), name)
			require.ErrorIs(t, d.err, errMalformed, name)
			require.Empty(t, d.b, name)
		}
	}
	b := appendString(binary.AppendVarint(binary.AppendUvarint(nil, 300), -300), "word")
	d := &decoder{b: append(b, 1, 0, 2, 0xff, 0x01, 0x02, 0x03, 0x04, 9)}
	require.EqualValues(t, 300, d.uvarint())
	require.EqualValues(t, -300, d.varint())
	require.Equal(t, "word", d.string())
	require.Equal(t, []bool{true, false, false}, []bool{d.flag(), d.flag(), d.flag()})
	require.Equal(t, []byte{0xff}, d.bytes(1))
	require.EqualValues(t, 0x04030201, d.uint32())
	require.Equal(t, []byte{9}, d.b)
	require.NoError(t, d.err)
	for n, ok := range map[byte]bool{0: true, 2: true, 3: false} {
		d := &decoder{b: append([]byte{n}, make([]byte, 7)...)}
		d.count(3)
		require.Equal(t, ok, d.err == nil, "%d elements of 3 bytes in 7", n)
	}
}

// drawState returns an arbitrary state.
func drawState(t *rapid.T) *savedState {
	number := rapid.Uint64Range(0, 1<<40)
	st := &savedState{
		gen: rapid.Uint64().Draw(t, "gen"), epoch: "0123456789abcdef", origin: rapid.SampledFrom([]string{"0123456789abcdef", "fedcba9876543210"}).Draw(t, "origin"),
		next: number.Draw(t, "next"), reserved: number.Draw(t, "reserved"), counted: number.Draw(t, "counted"), nextID: number.Draw(t, "id"),
		clock: rapid.Int64().Draw(t, "clock"), clean: rapid.Bool().Draw(t, "clean"),
	}
	st.at.Wall, st.at.Boot = rapid.Int64().Draw(t, "wall"), rapid.StringMatching("[a-f0-9]{0,8}").Draw(t, "boot")
	st.at.Booted, st.at.Synchronised = time.Duration(rapid.Int64().Draw(t, "booted")), rapid.Bool().Draw(t, "synchronised")
	for range rapid.IntRange(0, 3).Draw(t, "classes") {
		st.classes = append(st.classes, class{
			name: rapid.StringN(0, 5, 10).Draw(t, "name"), appended: number.Draw(t, "appended"), done: number.Draw(t, "done"),
			dropped: rapid.MapOfN(rapid.SampledFrom([]string{"full", "expired", "x"}), number, 0, 3).Draw(t, "dropped"),
		})
	}
	for range rapid.IntRange(0, 3).Draw(t, "segments") {
		g := savedSegment{
			lane: rapid.IntRange(0, Lanes-1).Draw(t, "lane"), id: number.Draw(t, "segment"), base: number.Draw(t, "base"),
			end: int64(number.Draw(t, "end")), records: int(number.Draw(t, "records")), gone: []byte{},
		}
		g.gone = append(g.gone, rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "gone")...)
		for range rapid.IntRange(0, 2).Draw(t, "holes") {
			g.holes = append(g.holes, hole{rapid.Uint32().Draw(t, "off"), rapid.Uint32().Draw(t, "length")})
		}
		st.segments = append(st.segments, g)
	}
	for n, at := rapid.IntRange(0, 3).Draw(t, "fates"), uint64(0); n > 0; n-- {
		lo := at + rapid.Uint64Range(1, 9).Draw(t, "lo")
		at = lo + rapid.Uint64Range(0, 9).Draw(t, "hi")
		st.fates.ranges = append(st.fates.ranges, fateRange{lo, at, rapid.SampledFrom([]string{"done", "x"}).Draw(t, "why")})
	}
	return st
}

// An encoded state decodes to the same state, and fails if one byte is changed or the end is missing. Bytes after it in its slot are ignored.
func TestAStateComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		st := drawState(t)
		b := st.encode()
		back, err := decodeState(append(slices.Clone(b), 1, 2, 3))
		require.NoError(t, err)
		require.Equal(t, st, back)
		bad := slices.Clone(b)
		bad[rapid.IntRange(0, len(b)-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		_, err = decodeState(bad)
		require.Error(t, err)
		_, err = decodeState(b[:rapid.IntRange(0, len(b)-1).Draw(t, "length")])
		require.Error(t, err)
	})
}

// One intact copy of a segment's header is sufficient; a flipped bit in both is too much. Unknown lanes and versions are rejected.
func TestASegmentHeaderComesBackAsItWas(t *testing.T) {
	h := segmentHeader{lane: Lanes - 1, flags: 1, rev: 7, id: 8, base: 9, created: -10, epoch: "0123456789abcdef", origin: "fedcba9876543210", keyID: "key-1"}
	for i := range h.salt {
		h.salt[i] = byte(i + 1)
	}
	copy(h.check[:], "checked.")
	for _, origin := range []string{h.origin, h.epoch} {
		h.origin = origin
		b := h.encode()
		require.Len(t, b, dataStart)
		back, ok := parseSegmentHeader(b)
		require.True(t, ok)
		require.Equal(t, h, back)
		for bit := range copySize * 8 {
			bad := slices.Clone(b)
			bad[bit/8] ^= 1 << (bit % 8)
			back, ok = parseSegmentHeader(bad)
			require.True(t, ok)
			require.Equal(t, h, back)
			bad[copySize+(bit/8+1)%copySize] ^= 1
			_, ok = parseSegmentHeader(bad)
			require.False(t, ok, "bit %d", bit)
		}
		_, ok = parseSegmentHeader(b[:copySize-1])
		require.False(t, ok)
		_, ok = parseSegmentHeader(b[:copySize])
		require.True(t, ok)
	}
	for at, value := range map[int]byte{8: segmentVersion + 1, 9: Lanes} {
		one := h.encode()[:copySize]
		one[at] = value
		binary.LittleEndian.PutUint32(one[copySize-4:], crc32.Checksum(one[:copySize-4], castagnoli))
		_, ok := parseSegmentHeader(one)
		require.False(t, ok)
	}
}

// The gone sequences of a segment are encoded as runs, and read alongside ascending sequences.
func TestGoneRangesAgreeWithTheEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := segment{segmentHeader: segmentHeader{base: rapid.Uint64Range(1, 1000).Draw(t, "base")}, goneDirty: true}
		gone, seq := map[uint64]bool{}, uint32(0)
		for range rapid.IntRange(0, 30).Draw(t, "records") {
			e := entry{seq: seq, state: rapid.SampledFrom([]state{live, backlog}).Draw(t, "state")}
			if rapid.Bool().Draw(t, "gone") {
				e.state, gone[g.base+uint64(seq)] = 0, true
			}
			g.entries = append(g.entries, e)
			seq += rapid.Uint32Range(1, 3).Draw(t, "distance")
		}
		walk := newGoneWalk(g.base, g.goneRanges())
		for i := range g.entries {
			require.Equal(t, gone[g.seq(i)], walk.gone(g.seq(i)))
			require.Equal(t, i, g.find(g.seq(i)))
		}
		require.Equal(t, -1, g.find(g.base-1))
		require.Equal(t, -1, g.find(g.base+uint64(seq)))
		require.Equal(t, -1, g.find(g.base+math.MaxUint32+1))
		require.Same(t, firstOf(g.goneRanges()), firstOf(g.goneRanges()), "nothing is written again")
	})
}

func firstOf(b []byte) *byte {
	if len(b) == 0 {
		return nil
	}
	return &b[0]
}

// A block of the history is read if it is intact and belongs to this spool.
func TestABlockComesBackAsItWas(t *testing.T) {
	const epoch = "0123456789abcdef"
	ranges := []fateRange{{1, 2, "done"}, {4, 4, "skipped"}, {9, 30, "done"}}
	body, n := packBlock(ranges)
	require.Equal(t, 3, n)
	b := sealBlock(block{7, 1, 30}, epoch, body)
	x, ok := parseBlock(b, epoch)
	require.True(t, ok)
	require.Equal(t, block{7, 1, 30}, x)
	_, ok = parseBlock(b, "another")
	require.False(t, ok)
	back, err := openBlock(b)
	require.NoError(t, err)
	require.Equal(t, ranges, back)
	for bit := range historyHeader * 8 {
		bad := slices.Clone(b)
		bad[bit/8] ^= 1 << (bit % 8)
		_, ok := parseBlock(bad, epoch)
		require.False(t, ok, "bit %d", bit)
	}
	for at := historyHeader; at < len(b); at++ {
		bad := slices.Clone(b)
		bad[at] ^= 1
		_, err := openBlock(bad)
		require.ErrorIs(t, err, errDamaged)
	}
	for _, short := range [][]byte{nil, b[:historyHeader-1], b[:len(b)-1]} {
		_, err := openBlock(short)
		require.ErrorIs(t, err, errMalformed)
	}
	_, err = openBlock(sealBlock(block{7, 1, 30}, epoch, []byte("no deflate")))
	require.Error(t, err)

	var many []fateRange
	for i := range uint64(blockMost) {
		many = append(many, fateRange{i*1000 + i*i%997, i*1000 + i*i%997, "done"})
	}
	body, n = packBlock(many)
	require.Less(t, n, blockMost)
	require.LessOrEqual(t, len(body), historySlot-historyHeader)
	back, err = openBlock(sealBlock(block{1, 0, 9}, epoch, body))
	require.NoError(t, err)
	require.Equal(t, many[:n], back)
	body, n = packBlock([]fateRange{{1, 1, string(bytes.Repeat([]byte("a word like no other, "), 1))}, {2, 2, string(incompressible(8 << 10))}})
	require.Equal(t, 1, n, "what fits")
	require.NotEmpty(t, body)
	body, n = packBlock([]fateRange{{2, 2, string(incompressible(8 << 10))}})
	require.Zero(t, n)
	require.Empty(t, body)
}

// incompressible returns bytes that no compression makes smaller.
func incompressible(n int) []byte {
	out := make([]byte, 0, n+4)
	for sum := uint32(1); len(out) < n; {
		sum = crc32.Update(sum, castagnoli, []byte{byte(len(out))})
		out = binary.LittleEndian.AppendUint32(out, sum)
	}
	return out
}

// A record expires by the spool's clock: not before its time, and at most a tick later.
func TestWhenARecordIsDue(t *testing.T) {
	const now = 5 * tickLength
	for name, row := range map[string]struct {
		r    Record
		want uint32
	}{
		"never":             {Record{Time: 7}, 0},
		"at once":           {Record{Time: 7, Expires: 7}, 5},
		"before it came":    {Record{Time: 7, Expires: 1}, 5},
		"within a tick":     {Record{Time: 7, Expires: 8}, 6},
		"after a tick":      {Record{Time: 7, Expires: 7 + int64(tickLength)}, 6},
		"a little later":    {Record{Time: 7, Expires: 8 + int64(tickLength)}, 7},
		"at the end of all": {Record{Time: -1, Expires: math.MaxInt64 / 2}, 0},
	} {
		require.Equal(t, row.want, due(&row.r, now), name)
	}
}

// A record marked as encrypted opens only with its key and only as it was sealed; keys have 32 bytes.
func TestAnEncryptedRecordNeedsItsSegmentsKey(t *testing.T) {
	h := segmentHeader{flags: flagEncrypted, epoch: "0123456789abcdef", keyID: "k"}
	key := bytes.Repeat([]byte{7}, 32)
	aead, check, err := segmentCipher(key, h.salt[:], h.epoch)
	require.NoError(t, err)
	copy(h.check[:], check)
	for _, n := range []int{0, 16, 31, 33} {
		_, _, err := segmentCipher(make([]byte, n), h.salt[:], h.epoch)
		require.ErrorContains(t, err, "AES-256 needs 32")
	}
	b := sealRecord(nil, &header{seq: 3, class: []byte("c")}, []byte("payload"), aead, 9)
	_, err = decodeRecord(slices.Clone(b), 9, 3, nil)
	require.ErrorContains(t, err, "record is encrypted, but its segment is not")
	_, err = decodeRecord(slices.Clone(b), 9, 4, aead)
	require.ErrorContains(t, err, "found record 3 in place of 4")
	r, err := decodeRecord(slices.Clone(b), 9, 3, aead)
	require.NoError(t, err)
	require.Equal(t, "payload", string(r.Payload))

	keys := new(testKeys).set("k", "k")
	keys.keys["k"] = key
	found, err := findKey(keys, &h)
	require.NoError(t, err)
	require.NotNil(t, found)
	found, err = findKey(nil, &segmentHeader{})
	require.NoError(t, err)
	require.Nil(t, found)
	_, err = findKey(nil, &h)
	require.ErrorContains(t, err, `encrypted with key "k", but no keys are configured`)
	keys.keys["k"] = bytes.Repeat([]byte{8}, 32)
	_, err = findKey(keys, &h)
	require.ErrorIs(t, err, errWrongKey)
	keys.keys["k"] = key[:31]
	_, err = findKey(keys, &h)
	require.ErrorContains(t, err, "31 bytes")
	delete(keys.keys, "k")
	_, err = findKey(keys, &h)
	require.True(t, err != nil && !errors.Is(err, errWrongKey))
}

func TestHistoryIsBounded(t *testing.T) {
	f := fates{max: 16}
	for s := range uint64(1000) {
		f.add(s*2, s*2, "done")
	}
	require.Len(t, f.ranges, 16)
	require.Equal(t, FateUnknown, f.of(0))
	require.Equal(t, "done", f.of(1998))
}

func TestConfigReportsAllProblemsAtOnce(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	c := DefaultConfig()
	c.Directory, c.QuotaMiB, c.Sync, c.AckInterval, c.OnFull, c.SegmentMiB = "", 1, "maybe", "soon", "", -1
	err := c.Validate()
	for _, key := range []string{"Spool.Directory", "Spool.QuotaMiB", "Spool.Sync", "Spool.AckInterval", "Spool.OnFull", "Spool.SegmentMiB"} {
		require.ErrorContains(t, err, key)
	}
	_, err = Open(t.TempDir(), c)
	require.Error(t, err)
}

func TestSizesFollowTheQuota(t *testing.T) {
	for quota, segment := range map[int]int64{16: 1, 1024: 16, 100 << 10: 64, 1 << 20: 64} {
		c := DefaultConfig()
		c.QuotaMiB = quota
		l := c.limits()
		require.Equal(t, segment<<20, l.segment)
		require.Greater(t, l.limit(), l.quota/2)
		require.Less(t, l.limit(), l.quota*4/5)
		require.Less(t, c.LargestRecord(), math.MaxUint32/2, "offsets in a segment have 32 bits")
	}
}

// An index is rejected if an entry cannot belong to the segment, even if its checksum is correct.
func TestAnIndexOfWhatCannotBe(t *testing.T) {
	for what, c := range map[string]struct {
		change func(g *segment)
		good   bool
	}{
		"as it is":                       {func(*segment) {}, true},
		"a record ends behind the end":   {func(g *segment) { g.end-- }, false},
		"the smallest record":            {func(g *segment) { g.entries[0].size = headerSize }, true},
		"a record smaller than a header": {func(g *segment) { g.entries[0].size = headerSize - 1 }, false},
		"the last class":                 {func(g *segment) { g.entries[0].class = 1 }, true},
		"a class without a name":         {func(g *segment) { g.entries[0].class = 2 }, false},
		"the end of the largest segment": {func(g *segment) { g.end = math.MaxUint32 }, true},
		"an end beyond 4 GiB":            {func(g *segment) { g.end = math.MaxUint32 + 1 }, false},
	} {
		g := &segment{end: dataStart + 100, entries: []entry{{off: dataStart, size: 100}}}
		g.sum = g.seed()
		c.change(g)
		_, err := decodeIndex(encodeIndex(g, []string{"a", "b"}), &g.segmentHeader)
		require.Equal(t, c.good, err == nil, "%s: %v", what, err)
	}
}
