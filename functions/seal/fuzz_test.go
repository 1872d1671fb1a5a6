package seal

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/seal/fold"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func addGolden(f *testing.F, patterns ...string) {
	for _, p := range patterns {
		files, _ := filepath.Glob(filepath.Join("testdata", "golden", p))
		for _, name := range files {
			b, err := os.ReadFile(name)
			require.NoError(f, err)
			f.Add(b)
		}
	}
}

// Any bytes give a batch or an error, and a batch that opened can be sealed and opened again.
func FuzzOpen(f *testing.F) {
	addGolden(f, "json-*", "protobuf-*", "session-*")
	limits := Limits{MaxMessageKiB: 256, MaxDataMiB: 1, MaxRecords: 100, AllowPlain: true}
	o := NewOpener(testKeys, limits)
	s, err := NewSealer(variant{FormProtobuf, CipherNone, "", CompressionZstd, true}.config(), testKeys)
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, msg []byte) {
		b, err := o.Open(msg)
		if err != nil {
			return
		}
		again, err := s.Seal(nil, b)
		require.NoError(t, err)
		back, err := o.Open(again)
		require.NoError(t, err)
		require.Equal(t, b.Sequences, back.Sequences)
		require.Equal(t, b.Session, back.Session)
	})
}

// The same for the small messages, on both sides.
func FuzzReceipt(f *testing.F) {
	addGolden(f, "receipt-*")
	o, s := statementCodecs(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, err := o.OpenReceipt(msg)
		if err != nil {
			return
		}
		again, err := s.SealReceipt(nil, r)
		require.NoError(t, err)
		back, err := o.OpenReceipt(again)
		require.NoError(t, err)
		require.Equal(t, r, back)
	})
}

func FuzzAnnouncement(f *testing.F) {
	addGolden(f, "announcement-*")
	o, s := statementCodecs(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		a, err := o.OpenAnnouncement(msg)
		if err != nil {
			return
		}
		again, err := s.SealAnnouncement(nil, a)
		require.NoError(t, err)
		back, err := o.OpenAnnouncement(again)
		require.NoError(t, err)
		require.Equal(t, a, back)
	})
}

func FuzzGone(f *testing.F) {
	addGolden(f, "gone-*")
	o, s := statementCodecs(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		g, err := o.OpenGone(msg)
		if err != nil {
			return
		}
		again, err := s.SealGone(nil, g)
		require.NoError(t, err)
		back, err := o.OpenGone(again)
		require.NoError(t, err)
		require.Equal(t, g, back)
	})
}

func FuzzResult(f *testing.F) {
	addGolden(f, "result-*")
	o, s := statementCodecs(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, err := o.OpenResult(msg)
		if err != nil {
			return
		}
		again, err := s.SealResult(nil, r)
		require.NoError(t, err)
		back, err := o.OpenResult(again)
		require.NoError(t, err)
		require.Equal(t, r.Payload, back.Payload)
		require.Equal(t, r.EventID, back.EventID)
	})
}

func FuzzConfirmation(f *testing.F) {
	addGolden(f, "confirm-*")
	o, s := statementCodecs(f)
	f.Fuzz(func(t *testing.T, msg []byte) {
		c, err := o.OpenConfirmation(msg)
		if err != nil {
			return
		}
		again, err := s.SealConfirmation(nil, c)
		require.NoError(t, err)
		back, err := o.OpenConfirmation(again)
		require.NoError(t, err)
		require.Equal(t, len(c.Results), len(back.Results))
	})
}

// A note opens only as its own kind.
func FuzzNote(f *testing.F) {
	o, s := statementCodecs(f)
	for _, kind := range []NoteKind{Learned, Fleet, Credit} {
		msg, err := s.SealNote(nil, &Note{kind, "1", "n", time.Unix(1, 0), []byte(`{"a":[1]}`)})
		require.NoError(f, err)
		f.Add(msg)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		opened := 0
		for _, kind := range []NoteKind{Learned, Fleet, Credit} {
			n, err := o.OpenNote(kind, msg)
			if err != nil {
				continue
			}
			opened++
			again, err := s.SealNote(nil, n)
			require.NoError(t, err)
			back, err := o.OpenNote(kind, again)
			require.NoError(t, err)
			require.Equal(t, n.Node, back.Node)
			require.True(t, n.Created.Equal(back.Created))
		}
		require.LessOrEqual(t, opened, 1)
	})
}

func statementCodecs(f *testing.F) (*Opener, *Sealer) {
	o := NewOpener(testKeys, Limits{MaxMessageKiB: 256, MaxRecords: 100, AllowPlain: true})
	s, err := NewSealer(variant{FormJSON, CipherNone, "", CompressionNone, false}.config(), testKeys)
	require.NoError(f, err)
	return o, s
}

// Random columns give bytes or an error, within the limit.
func FuzzUnfold(f *testing.F) {
	for _, v := range []string{"protobuf-none-fold-zstd.pb", "protobuf-none-fold-gzip.pb"} {
		b, err := os.ReadFile(filepath.Join("testdata", "golden", v))
		require.NoError(f, err)
		e, err := parse(b)
		require.NoError(f, err)
		u := unpacker{limit: 1 << 20}
		data, err := u.decompress(e.attrs.get("contentencoding")[len(foldPrefix):], e.data, 1<<20)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		out, err := fold.Unfold(src, 1<<16)
		if err == nil {
			require.LessOrEqual(t, len(out), 1<<16)
		}
	})
}
