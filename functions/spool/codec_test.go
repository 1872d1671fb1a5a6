package spool

import (
	"slices"
	"testing"

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
		}
		for s := range uint64(80) {
			require.Equal(t, m[s], f.of(s), "sequence %d of %v", s, f.ranges)
		}
		for i := 1; i < len(f.ranges); i++ {
			require.Greater(t, f.ranges[i].lo, f.ranges[i-1].hi)
			require.False(t, f.ranges[i].why == f.ranges[i-1].why && f.ranges[i].lo == f.ranges[i-1].hi+1, "merged")
		}
		d := &decoder{b: f.encode(nil)}
		var back fates
		back.decode(d)
		require.NoError(t, d.err)
		require.Equal(t, f.ranges, back.ranges)
	})
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
	c.QuotaMiB, c.Sync, c.AckInterval, c.OnFull, c.SegmentMiB = 1, "maybe", "soon", "", 99
	err := c.Validate()
	for _, key := range []string{"Spool.QuotaMiB", "Spool.Sync", "Spool.AckInterval", "Spool.OnFull", "Spool.SegmentMiB"} {
		require.ErrorContains(t, err, key)
	}
	_, err = Open(t.TempDir(), c)
	require.Error(t, err)
}

func TestSizesFollowTheQuota(t *testing.T) {
	for quota, segment := range map[int]int64{16: 1, 1024: 16, 100 << 10: 64} {
		c := DefaultConfig()
		c.QuotaMiB = quota
		l := c.limits()
		require.Equal(t, segment<<20, l.segment)
		require.Greater(t, l.limit(), l.quota/2)
		require.Less(t, l.limit(), l.quota*4/5)
	}
}
