package delivery

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/models"
)

// Missing values select the default, and the smallest valid value is used.
func TestDefaultsOfAReceiver(t *testing.T) {
	want := Config{Partials: 4, Window: 32, RetryAfter: 10 * time.Second, Tries: 3}
	require.Equal(t, want, Config{}.orDefault())
	require.Equal(t, want, Config{-1, -1, -1, -1}.orDefault())
	least := Config{1, 1, 1, 1}
	require.Equal(t, least, least.orDefault())
}

// The ranges of a request ascend, do not overlap, and are within the file.
func TestTheRangesOfARequest(t *testing.T) {
	for _, c := range []struct {
		ranges [][2]int
		valid  bool
	}{
		{nil, true},
		{[][2]int{{0, 0}}, true},
		{[][2]int{{0, 9}}, true},
		{[][2]int{{0, 1}, {2, 9}}, true},
		{[][2]int{{9, 9}}, true},
		{[][2]int{{0, 10}}, false},
		{[][2]int{{-1, 0}}, false},
		{[][2]int{{1, 0}}, false},
		{[][2]int{{0, 1}, {1, 2}}, false},
		{[][2]int{{4, 5}, {1, 2}}, false},
	} {
		w := &Want{Type: wantType, State: Wanted, Of: 10, Ranges: c.ranges}
		require.Equal(t, c.valid, w.check() == nil, "%v", c.ranges)
	}
	for name, change := range map[string]func(w *Want){
		"its type": func(w *Want) { w.Type = "x" }, "its state": func(w *Want) { w.State = "x" }, "more than there are": func(w *Want) { w.Have = 11 },
		"less than none": func(w *Want) { w.Have = -1 }, "too many": func(w *Want) { w.Of = maxParts + 1 },
		"a long reason": func(w *Want) { w.Reason = string(make([]byte, maxText+1)) }, "many ranges": func(w *Want) { w.Ranges = make([][2]int, maxRuns+1) },
	} {
		w := &Want{Type: wantType, State: Wanted, Have: 10, Of: 10, Reason: string(make([]byte, maxText))}
		require.NoError(t, w.check())
		change(w)
		require.Error(t, w.check(), name)
	}
}

// Chunks are made durable every syncEvery chunks, which bounds the loss of a kill and the wear of flash.
func TestChunksAreMadeDurableTogether(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	reply, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	want, err := DecodeWant(reply)
	require.NoError(t, err)
	require.Equal(t, [][2]int{{0, 7}}, want.Ranges, "as many as the window has")
	for i := range s.of - 1 {
		chunk, err := s.chunk(i)
		require.NoError(t, err)
		_, err = w.r.Handle(t.Context(), chunk)
		require.NoError(t, err)
		_, err = os.Stat(w.dir + "/" + incoming + "/" + s.ID().String() + haveAt)
		require.Equal(t, i+1 >= syncEvery, err == nil, "after %d chunks", i+1)
		require.Equal(t, (i+1)%syncEvery, w.r.open[s.ID()].unsynced)
	}
	require.NoError(t, w.r.Close())
	require.NoError(t, w.store.Close(t.Context()))
	w.start()
	require.Equal(t, s.of-1, w.r.Progress()[0].Have, "an orderly end keeps all")
}

// Remains of deliveries that cannot be resumed are removed at the start.
func TestWhatCannotGoOnIsRemoved(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	require.NoError(t, w.r.Close())
	folder := w.dir + "/" + incoming + "/"
	offer, err := os.ReadFile(folder + s.ID().String() + offerAt)
	require.NoError(t, err)
	chunk, err := s.chunk(0)
	require.NoError(t, err)
	for name, content := range map[string][]byte{"other": offer, "rubbish": []byte("{"), "chunk": chunk, "empty": nil} {
		require.NoError(t, os.Mkdir(folder+name, 0o750))
		if content != nil {
			require.NoError(t, os.WriteFile(folder+name+offerAt, content, 0o600))
		}
	}
	require.NoError(t, w.store.Close(t.Context()))
	w.start()
	require.Len(t, w.r.Progress(), 1)
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.Equal(t, s.ID().String(), left[0].Name())
}

// An id is exactly the digits that it is written as.
func TestTheTextOfAnID(t *testing.T) {
	id := ID{0xab, 31: 0xcd}
	text := id.String()
	for read, want := range map[string]bool{
		text: true, strings.ToUpper(text): false, text[1:]: false, text[2:]: false, text + "00": false, "x" + text[1:]: false, text[:63] + "x": false, "": false,
	} {
		var got ID
		err := got.UnmarshalText([]byte(read))
		require.Equal(t, want, err == nil, read)
		require.True(t, !want || got == id, read)
	}
}

// Chunks are requested again after RetryAfter without a chunk, and an invalid manifest makes no offer.
func TestAskingAgainWaitsForTheLastChunk(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	due := func(after time.Duration) int {
		w.fake.Advance(after)
		replies, err := w.r.Due(t.Context())
		require.NoError(t, err)
		return len(replies)
	}
	require.Zero(t, due(10*time.Second-1))
	chunk, err := s.chunk(0)
	require.NoError(t, err)
	_, err = w.r.Handle(t.Context(), chunk)
	require.NoError(t, err)
	require.Zero(t, due(10*time.Second-1))
	require.Equal(t, 1, due(1))
	require.Zero(t, due(10*time.Second-1))
	require.Equal(t, 1, due(1))
	require.Zero(t, due(10*time.Second-1))
	_, err = w.r.Handle(t.Context(), s.Offer()) // is answered with a request
	require.NoError(t, err)
	require.Zero(t, due(1))
	file := w.r.open[s.ID()].file
	require.NoError(t, w.r.Close())
	require.ErrorIs(t, file.Close(), os.ErrClosed)
	_, err = NewSender([]byte("{}"), nil, nil, 4096, false)
	require.ErrorContains(t, err, "offering a model")

	for want, chunks := range map[*Want]int{
		{ID: s.ID(), State: Wanted, Of: s.of, Ranges: [][2]int{{1, 2}}}:     2,
		{ID: s.ID(), State: Installed, Of: s.of, Ranges: [][2]int{{1, 2}}}:  0,
		{ID: s.ID(), State: Wanted, Of: s.of + 1, Ranges: [][2]int{{1, 2}}}: 0,
		{State: Wanted, Of: s.of, Ranges: [][2]int{{1, 2}}}:                 0,
	} {
		for _, err := range s.Answer(want) {
			require.NoError(t, err)
			chunks--
		}
		require.Zero(t, chunks, "%+v", want)
	}
	_, err = (&Want{State: "lost"}).Encode()
	require.ErrorContains(t, err, "lost")
}

// A bit stands only for a chunk that is on disk.
func TestNoBitBeforeItsChunk(t *testing.T) {
	root, err := os.OpenRoot(t.TempDir())
	require.NoError(t, err)
	defer root.Close()
	m := &models.Manifest{Name: "m", Version: "1", Size: 3000}
	p, err := begin(root, &Offer{Chunk: 1024}, m)
	require.NoError(t, err)
	require.NoError(t, p.add(&Chunk{Index: 1, Data: make([]byte, 1024)}))
	require.NoError(t, p.file.Close())
	require.ErrorIs(t, p.sync(), os.ErrClosed)
	_, err = root.Stat(p.dir + haveAt)
	require.ErrorIs(t, err, os.ErrNotExist)
}
