package delivery

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"app-offload/functions/models"
)

// Each number of a message has its range, including the ends.
func TestTheLimitsOfMessages(t *testing.T) {
	for size, valid := range map[int]bool{MinChunk - 1: false, MinChunk: true, MaxChunk: true, MaxChunk + 1: false} {
		o := Offer{Manifest: []byte("{}"), Chunk: size}
		msg, err := o.Encode()
		require.Equal(t, valid, err == nil, size)
		if !valid {
			msg, err = json.Marshal(&o)
			require.NoError(t, err)
		}
		_, _, err = DecodeDown(msg)
		require.Equal(t, valid, err == nil, size)
		_, manifest := made(t, "1")
		_, err = NewSender(manifest, nil, nil, size, false)
		require.Equal(t, valid, err == nil, size)
	}
	chunk := func(index, size int) error {
		c := Chunk{Index: index, Data: make([]byte, size)}
		got, same, err := DecodeDown(c.Append(nil))
		require.Nil(t, got)
		if err == nil {
			require.Equal(t, &c, same)
		}
		return err
	}
	for _, c := range []struct {
		index, size int
		valid       bool
	}{{0, 0, false}, {0, 1, true}, {0, MaxChunk, true}, {0, MaxChunk + 1, false}, {maxParts - 1, 1, true}, {maxParts, 1, false}} {
		require.Equal(t, c.valid, chunk(c.index, c.size) == nil, "%+v", c)
	}
	for name, c := range map[string]struct {
		want  Want
		valid bool
	}{
		"most chunks":  {Want{Of: maxParts, Have: maxParts}, true},
		"none":         {Want{}, true},
		"fewer":        {Want{Of: -1, Have: -1}, false},
		"most ranges":  {Want{Of: 2 * maxRuns, Ranges: every(maxRuns)}, true},
		"more ranges":  {Want{Of: 3 * maxRuns, Ranges: every(maxRuns + 1)}, false},
		"long reason":  {Want{Reason: string(make([]byte, maxText))}, true},
		"cut to that":  {Want{Reason: string(make([]byte, maxText+1))}, true},
		"other states": {Want{State: "lost"}, false},
	} {
		if c.want.State == "" {
			c.want.State = Refused
		}
		msg, err := c.want.Encode()
		require.Equal(t, c.valid, err == nil, name)
		if c.valid {
			again, err := DecodeWant(msg)
			require.NoError(t, err)
			require.Equal(t, c.want, *again)
			for room, valid := range map[int]bool{0: true, 1: false} {
				_, err = DecodeWant(append(bytes.Repeat([]byte(" "), maxOffer-len(msg)+room), msg...))
				require.Equal(t, valid, err == nil, "%s in %d bytes more than may be", name, room)
				if !valid {
					require.ErrorContains(t, err, "at most")
				}
			}
		}
	}
	exact := 0
	for _, o := range []Offer{{Chunk: 1024}, {Chunk: 10240}, {Chunk: 102400}, {Chunk: 1024, Signature: []byte("s")}} {
		o.Manifest = []byte("123")
		b, err := o.Encode()
		require.NoError(t, err)
		o.Manifest = make([]byte, 3+3*((maxOffer-len(b))/4)) // 3 bytes are 4 in base64
		b, err = o.Encode()
		require.NoError(t, err)
		if len(b) == maxOffer {
			exact++
		}
		o.Manifest = append(o.Manifest, 1)
		_, err = o.Encode()
		require.ErrorContains(t, err, "at most")
	}
	require.Equal(t, 1, exact, "one of each remainder")
	_, _, err := DecodeDown([]byte(`{"type":"offload.model.offer.v2","chunk":4096,"manifest":"YQ=="}`))
	require.ErrorContains(t, err, "expected offload.model.offer.v1")
}

// every returns ranges of one chunk each, of every other chunk.
func every(n int) (list [][2]int) {
	for i := range n {
		list = append(list, [2]int{2 * i, 2 * i})
	}
	return list
}

// broken is a file that is unreadable after its first chunk.
type broken struct{ *bytes.Reader }

var errBroken = errors.New("broken")

func (b broken) ReadAt(p []byte, at int64) (int, error) {
	if at > 0 {
		return 0, errBroken
	}
	return b.Reader.ReadAt(p, at)
}

// eager is a file that reports its end together with its last bytes.
type eager struct{ *bytes.Reader }

func (e eager) ReadAt(p []byte, at int64) (int, error) {
	n, err := e.Reader.ReadAt(p, at)
	if at+int64(n) == e.Size() {
		err = io.EOF
	}
	return n, err
}

// A sender stops at the first chunk that it cannot read, or that the consumer rejects, and offers no file with too many chunks.
func TestWhereASenderEnds(t *testing.T) {
	file, manifest := made(t, "1")
	s, err := NewSender(manifest, nil, broken{bytes.NewReader(file)}, 4096, false)
	require.NoError(t, err)
	w := &Want{ID: s.ID(), State: Wanted, Of: s.of, Ranges: [][2]int{{0, 5}, {7, 9}}}
	var errs []error
	for _, err := range s.Answer(w) {
		errs = append(errs, err)
	}
	require.Len(t, errs, 2)
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], errBroken)
	s.file = bytes.NewReader(file)
	n := 0
	for range s.Answer(w) {
		if n++; n == 3 {
			break
		}
	}
	require.Equal(t, 3, n)

	s.file = eager{bytes.NewReader(file)}
	last, err := s.chunk(s.of - 1)
	require.NoError(t, err, "the end of the file may come with its last bytes")
	require.Equal(t, file[(s.of-1)*4096:], last[header:])

	sized := func(size int64) error {
		var m map[string]any
		require.NoError(t, json.Unmarshal(manifest, &m))
		m["size"] = size
		text, err := json.Marshal(m)
		require.NoError(t, err)
		_, err = NewSender(text, nil, nil, MinChunk, false)
		return err
	}
	require.NoError(t, sized(maxParts*MinChunk))
	require.ErrorContains(t, sized(maxParts*MinChunk+1), "use larger chunks")
}

// A chunk that was not requested is stored, but the next request waits for the requested ones.
func TestAChunkThatWasNotAskedFor(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	for _, i := range []int{20, 8, 1, 0, 2, 3, 4, 5, 6, 7} { // of 0 to 7
		chunk, err := s.chunk(i)
		require.NoError(t, err)
		for range 2 { // a repetition gets no answer
			reply, err := w.r.Handle(t.Context(), chunk)
			require.NoError(t, err)
			if i != 7 {
				require.Nil(t, reply, i)
				continue
			}
			if reply == nil {
				continue
			}
			want, err := DecodeWant(reply)
			require.NoError(t, err)
			require.Equal(t, [][2]int{{9, 16}}, want.Ranges)
			require.Equal(t, 10, want.Have)
		}
	}
}

// A chunk that arrives after a start, before anything was requested, makes the receiver request the others.
func TestAChunkThatArrivesAfterAStart(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	require.NoError(t, w.r.Close())
	require.NoError(t, w.store.Close(t.Context()))
	w.start()
	chunk, err := s.chunk(0)
	require.NoError(t, err)
	reply, err := w.r.Handle(t.Context(), chunk)
	require.NoError(t, err)
	want, err := DecodeWant(reply)
	require.NoError(t, err)
	require.Equal(t, 1, want.Ranges[0][0])
}

// A start resumes as many deliveries as allowed, each of which the store would still accept, and after Close there are none.
func TestWhatAStartTakesUp(t *testing.T) {
	w := newWorld(t)
	_, manifest := made(t, "1")
	folder := w.dir + "/" + incoming + "/"
	put := func(name, variant string) string {
		one := bytes.Replace(bytes.Replace(manifest, []byte(`"name":"m"`), []byte(`"name":"`+name+`"`), 1), []byte(`"edge"`), []byte(`"`+variant+`"`), 1)
		o := Offer{Manifest: one, Signature: w.sign(one), Chunk: 4096}
		msg, err := o.Encode()
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(folder+o.ID().String(), 0o750))
		require.NoError(t, os.WriteFile(folder+o.ID().String()+offerAt, msg, 0o600))
		return folder + o.ID().String()
	}
	put("cloud", "cloud")
	require.NoError(t, os.Mkdir(put("blocked", "edge")+partAt, 0o750))
	again := func(want int) {
		t.Helper()
		require.NoError(t, w.r.Close())
		require.Empty(t, w.r.Progress())
		require.NoError(t, w.store.Close(t.Context()))
		w.start()
		require.Len(t, w.r.Progress(), want)
		left, err := os.ReadDir(folder)
		require.NoError(t, err)
		require.Len(t, left, want)
	}
	again(0)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		put(name, "edge")
	}
	again(4)
	replies, err := w.r.Due(t.Context())
	require.NoError(t, err)
	require.Len(t, replies, 4, "resumed deliveries are requested immediately")
	require.NoError(t, w.r.Close())
	require.NoError(t, os.RemoveAll(folder))
	for _, put := range []func(path string) error{
		func(path string) error { return os.WriteFile(path, nil, 0o600) }, func(path string) error { return os.Symlink(incoming, path) }, // in a circle
	} {
		require.NoError(t, os.RemoveAll(w.dir+"/"+incoming))
		require.NoError(t, put(w.dir+"/"+incoming))
		_, err = NewReceiver(w.store, Config{}, nil)
		require.ErrorContains(t, err, "resuming deliveries")
	}
}

// An offer that waits for room is replaced by one of its own model, and by no other.
func TestAnOfferThatWaitsIsReplacedByItsModel(t *testing.T) {
	w := newWorld(t)
	_, manifest := made(t, "1")
	offer := func(name string) {
		one := bytes.Replace(manifest, []byte(`"name":"m"`), []byte(`"name":"`+name+`"`), 1)
		o := Offer{Manifest: one, Signature: w.sign(one), Chunk: 4096}
		msg, err := o.Encode()
		require.NoError(t, err)
		_, err = w.r.Handle(t.Context(), msg)
		require.NoError(t, err)
	}
	older := bytes.Replace(manifest, []byte(`"version":"1"`), []byte(`"version":"0.9"`), 1)
	m, err := models.ParseManifest(older)
	require.NoError(t, err)
	w.r.later = &waiting{&Offer{Manifest: older}, m}
	offer("other")
	require.NotNil(t, w.r.later)
	offer("m")
	require.Nil(t, w.r.later)
}

// A start uses the bitmap of chunks only if it is undamaged; otherwise all chunks are requested again.
func TestBitsThatAreDamaged(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"as they were": func(b []byte) []byte { return b },
		"a bit":        func(b []byte) []byte { b[0] ^= 2; return b },
		"the sum":      func(b []byte) []byte { b[len(b)-1]++; return b },
		"cut off":      func(b []byte) []byte { return b[:len(b)-1] },
		"longer":       func(b []byte) []byte { return append(b, 0) },
		"only a sum":   func([]byte) []byte { return make([]byte, 4) },
		"none":         func([]byte) []byte { return nil },
	} {
		w := newWorld(t)
		s := w.offer("1")
		_, err := w.r.Handle(t.Context(), s.Offer())
		require.NoError(t, err)
		for i := range 5 {
			chunk, err := s.chunk(i)
			require.NoError(t, err)
			_, err = w.r.Handle(t.Context(), chunk)
			require.NoError(t, err)
		}
		require.NoError(t, w.r.Close())
		require.NoError(t, w.store.Close(t.Context()))
		path := w.dir + "/" + incoming + "/" + s.ID().String() + haveAt
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, change(b), 0o600))
		w.start()
		require.Len(t, w.r.Progress(), 1)
		require.Equal(t, map[bool]int{true: 5, false: 0}[name == "as they were"], w.r.Progress()[0].Have, name)
	}
}

// A stop during the handling of the last chunk refuses nothing: the next start has the version in force.
func TestAStopWhileAModelIsInstalled(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range s.of {
		chunk, err := s.chunk(i)
		require.NoError(t, err)
		if i == s.of-1 {
			cancel()
		}
		reply, err := w.r.Handle(ctx, chunk)
		if i < s.of-1 {
			require.NoError(t, err)
			continue
		}
		require.ErrorIs(t, err, context.Canceled)
		require.Nil(t, reply)
	}
	require.Empty(t, w.r.Progress())
	require.NoError(t, w.r.Close())
	require.NoError(t, w.store.Close(t.Context()))
	w.start()
	require.Equal(t, "1", w.version())
}

// If a delivery cannot be removed, the offer that would replace it is an error, and nothing is begun.
func TestADeliveryThatCannotBeRemoved(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	require.NoError(t, w.r.open[s.ID()].file.Close())
	reply, err := w.r.Handle(t.Context(), w.offer("2").Offer())
	require.ErrorIs(t, err, os.ErrClosed)
	require.Nil(t, reply)
	require.Empty(t, w.r.Progress())
}
