package delivery

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/stretchr/testify/require"

	"app-offload/functions/clock"
	"app-offload/functions/engine"
	"app-offload/functions/engine/tflite"
	"app-offload/functions/models"
)

// made returns a model of about 200 KiB and its manifest.
func made(t testing.TB, v string) (file, manifest []byte) {
	t.Helper()
	w := &tflite.Writer{}
	const n = 50_000
	weights := make([]float32, n)
	for i := range weights {
		weights[i] = float32(i)
	}
	x := w.Tensor(engine.Spec{Name: "x", Type: engine.Float32, Shape: []int{1, n}})
	y := w.Tensor(engine.Spec{Name: "y", Type: engine.Float32, Shape: []int{1, 1}})
	w.Operator("FULLY_CONNECTED", tflite.Options{}, []int{x, w.Floats("w", weights, 1, n), -1}, y)
	w.Ends([]int{x}, []int{y})
	file, err := w.Bytes()
	require.NoError(t, err)
	m, err := models.Describe("m", file, 64<<20)
	require.NoError(t, err)
	m.Version = models.Version(v)
	manifest, err = json.Marshal(m)
	require.NoError(t, err)
	return file, manifest
}

type world struct {
	t     *testing.T
	dir   string
	keys  []string
	sign  func([]byte) []byte
	key   minisign.PrivateKey
	fake  *clock.Fake
	store *models.Store
	r     *Receiver
}

func newWorld(t *testing.T) *world { return newWorldIn(t, t.TempDir()) }

func newWorldIn(t *testing.T, dir string) *world {
	t.Helper()
	public, private, err := minisign.GenerateKey(rand.Reader)
	require.NoError(t, err)
	w := &world{t: t, dir: dir, keys: []string{public.String()}, fake: clock.NewFake(time.Date(2026, 11, 3, 12, 0, 0, 0, time.UTC))}
	w.key = private
	w.sign = func(b []byte) []byte { return minisign.Sign(private, b) }
	w.start()
	return w
}

func (w *world) signWith(manifest []byte, trusted string) []byte {
	return minisign.SignWithComments(w.key, manifest, trusted, "")
}

func (w *world) start() {
	w.t.Helper()
	cfg := models.DefaultConfig()
	cfg.Dir, cfg.Keys, cfg.MaxMiB = w.dir, w.keys, 1
	var err error
	c := clock.New(w.fake)
	w.store, err = models.Open(w.t.Context(), cfg, c)
	require.NoError(w.t, err)
	w.r, err = NewReceiver(w.store, Config{Window: 8}, c)
	require.NoError(w.t, err)
}

func (w *world) offer(version string) *Sender {
	w.t.Helper()
	file, manifest := made(w.t, version)
	s, err := NewSender(manifest, w.sign(manifest), bytes.NewReader(file), 4096, false)
	require.NoError(w.t, err)
	return s
}

func (w *world) version() string {
	list, _ := w.store.Status()
	if len(list) == 0 {
		return ""
	}
	return string(list[0].Version)
}

// A link that loses a third of all messages, repeats and reorders others, and a node that is killed three times: the model is installed, and chunks
// on disk are not sent again except for a few.
func TestDeliveryOverABadLink(t *testing.T) {
	w := newWorld(t)
	sender := w.offer("1")
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	rnd := mathrand.New(mathrand.NewPCG(seed, 1)) //nolint:gosec // a test
	down, kills, sent, done := [][]byte{sender.Offer()}, 0, 0, false
	for round := 0; !done; round++ {
		require.Less(t, round, 5000)
		if len(down) == 0 {
			w.fake.Advance(10 * time.Second)
			down = append(down, sender.Offer()) // like a retained message after each connect
		}
		rnd.Shuffle(len(down), func(i, j int) { down[i], down[j] = down[j], down[i] })
		msgs := down
		down = nil
		var up [][]byte
		for _, msg := range msgs {
			for range rnd.IntN(3) { // lost, once, twice
				reply, err := w.r.Handle(t.Context(), msg)
				if err != nil {
					require.ErrorIs(t, err, ErrNoOffer, "a repeat after the end")
				}
				if reply != nil {
					up = append(up, reply)
				}
			}
		}
		due, err := w.r.Due(t.Context())
		require.NoError(t, err)
		up = append(up, due...)
		for _, msg := range up {
			want, err := DecodeWant(msg)
			require.NoError(t, err)
			done = done || want.State == Installed
			if rnd.IntN(3) == 0 {
				continue
			}
			for chunk, err := range sender.Answer(want) {
				require.NoError(t, err)
				down = append(down, chunk)
				sent++
			}
		}
		if progress := w.r.Progress(); len(progress) == 1 && progress[0].Have > 12*(kills+1) && kills < 3 {
			kills++
			require.NoError(t, w.store.Close(t.Context())) // the receiver is not closed, as in a kill
			w.start()
			require.Len(t, w.r.Progress(), 1, "the delivery continues")
			require.GreaterOrEqual(t, w.r.Progress()[0].Have, progress[0].Have-syncEvery)
		}
	}
	require.Equal(t, 3, kills)
	require.Equal(t, "1", w.version())
	t.Logf("%d chunks sent of %d", sent, sender.of)
	rest, err := os.ReadDir(filepath.Join(w.dir, incoming))
	require.NoError(t, err)
	require.Empty(t, rest)
	reply, err := w.r.Handle(t.Context(), sender.Offer())
	require.NoError(t, err)
	want, err := DecodeWant(reply)
	require.NoError(t, err)
	require.Equal(t, Installed, want.State, "an offer of what is in force takes nothing")
}

// deliver sends all requested chunks, changed by a function, until the receiver reports.
func (w *world) deliver(s *Sender, change func([]byte) []byte) (*Want, error) {
	w.t.Helper()
	reply, err := w.r.Handle(w.t.Context(), s.Offer())
	for reply != nil {
		want, bad := DecodeWant(reply)
		require.NoError(w.t, bad)
		if want.State != Wanted {
			return want, err
		}
		reply = nil
		for chunk, bad := range s.Answer(want) {
			require.NoError(w.t, bad)
			if r, e := w.r.Handle(w.t.Context(), change(chunk)); r != nil || e != nil {
				reply, err = r, e
			}
		}
	}
	return nil, err
}

// A disk that is full at the offer, in the middle, or at the installation delays a delivery. No stored chunk is requested again.
func TestAFullDiskDelaysADelivery(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("mounting a small disk: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	w := newWorldIn(t, dir)
	ballast := filepath.Join(dir, ".ballast")
	fill := func(free int64) {
		f, err := os.Create(ballast)
		require.NoError(t, err)
		size := int64(0)
		for err == nil {
			var n int
			n, err = f.Write(make([]byte, 4096))
			size += int64(n)
		}
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.NoError(t, f.Truncate(size-4096*free))
		require.NoError(t, f.Close())
	}
	empty := func() [][]byte {
		require.NoError(t, os.Remove(ballast))
		w.fake.Advance(11 * time.Second)
		replies, err := w.r.Due(t.Context())
		require.NoError(t, err)
		require.Len(t, replies, 1)
		return replies
	}
	sender := w.offer("1")
	fill(0)
	reply, err := w.r.Handle(t.Context(), sender.Offer())
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.Nil(t, reply)
	replies, sent, full := empty(), 0, 0
	for len(replies) > 0 {
		want, err := DecodeWant(replies[0])
		require.NoError(t, err)
		replies = nil
		if want.State != Wanted {
			require.Equal(t, Installed, want.State, want.Reason)
			break
		}
		for chunk, err := range sender.Answer(want) {
			require.NoError(t, err)
			switch have := w.r.Progress()[0].Have; {
			case have == 20 && full == 0:
				fill(0)
			case have == sender.of-1:
				fill(1) // room for the last chunk, but not for the manifest
			}
			reply, err := w.r.Handle(t.Context(), chunk)
			sent++
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOSPC)
				require.Nil(t, reply)
				full++
				replies = empty()
				break
			}
			if reply != nil {
				replies = [][]byte{reply}
			}
		}
	}
	require.Equal(t, 2, full)
	require.Equal(t, sender.of+1, sent, "one chunk was sent twice")
	require.Equal(t, "1", w.version())
}

// A lack of descriptors at any step of the installation delays a delivery and refuses none.
func TestALackOfDescriptorsDelaysADelivery(t *testing.T) {
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	lacked, delayed := true, 0
	for spare := 0; lacked; spare++ {
		w := newWorld(t)
		sender := w.offer("1")
		reply, err := w.r.Handle(t.Context(), sender.Offer())
		require.NoError(t, err)
		lacked = false
		for tries := 0; w.version() == ""; tries++ {
			require.Less(t, tries, 100)
			if reply == nil {
				w.fake.Advance(11 * time.Second)
				replies, err := w.r.Due(t.Context())
				require.NoError(t, err)
				if reply = sender.Offer(); len(replies) > 0 {
					reply = replies[0]
				} else if reply, err = w.r.Handle(t.Context(), reply); err != nil {
					require.NoError(t, err)
				}
			}
			want, err := DecodeWant(reply)
			require.NoError(t, err)
			require.NotEqual(t, Refused, want.State, "%d descriptors: %s", spare, want.Reason)
			reply = nil
			for chunk, err := range sender.Answer(want) {
				require.NoError(t, err)
				last := w.r.Progress()[0].Have == sender.of-1 && !lacked
				if last {
					few := limit
					few.Cur = uint64(lowest(t) + spare)
					require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
				}
				r, err := w.r.Handle(t.Context(), chunk)
				require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
				if r != nil {
					reply = r
				}
				if err != nil {
					require.ErrorIs(t, err, syscall.EMFILE)
					require.NotEmpty(t, w.r.Progress(), "%d descriptors: the file was dropped", spare)
					lacked = true
					delayed++
				}
			}
			require.NoError(t, w.store.Scan(t.Context()))
		}
		require.NoError(t, w.r.Close())
		require.NoError(t, w.store.Close(t.Context()))
	}
	require.Greater(t, delayed, 1)
}

// lowest returns the lowest free descriptor.
func lowest(t *testing.T) int {
	f, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer f.Close()
	return int(f.Fd())
}

// A corrupted chunk costs a repetition of the file, up to three times; then the version is refused, and the one in force stays.
func TestAChangedChunk(t *testing.T) {
	w := newWorld(t)
	good := func(b []byte) []byte { return b }
	want, err := w.deliver(w.offer("1"), good)
	require.NoError(t, err)
	require.Equal(t, Installed, want.State)
	n := 0
	once := func(b []byte) []byte {
		if n++; n == 5 {
			b[len(b)-1]++
		}
		return b
	}
	want, err = w.deliver(w.offer("2"), once)
	require.NoError(t, err)
	require.Equal(t, Installed, want.State)
	firsts := 0
	always := func(b []byte) []byte {
		if b[header-1] == 0 { // the low byte of the index
			firsts++
		}
		b[len(b)-1]++
		return b
	}
	want, err = w.deliver(w.offer("3"), always)
	require.ErrorIs(t, err, ErrGivenUp)
	require.Equal(t, Refused, want.State)
	require.Contains(t, want.Reason, "SHA-256")
	require.Equal(t, 3, firsts, "it came three times")
	require.Equal(t, "2", w.version())
	require.Empty(t, w.r.Progress())
}

// Offers that would be refused at the end are refused immediately, before any disk is used.
func TestOffersThatAreRefused(t *testing.T) {
	w := newWorld(t)
	_, err := w.deliver(w.offer("2"), func(b []byte) []byte { return b })
	require.NoError(t, err)
	file, manifest := made(t, "3")
	_, old := made(t, "1")
	large := bytes.Replace(manifest, fmt.Appendf(nil, `"size":%d`, len(file)), []byte(`"size":9000000`), 1)
	cloud := bytes.Replace(manifest, []byte(`"edge"`), []byte(`"cloud"`), 1)
	for want, o := range map[string]Offer{
		"not signed":                        {Manifest: manifest, Chunk: 4096},
		"does not fit":                      {Manifest: manifest, Signature: w.sign(old), Chunk: 4096},
		"not newer":                         {Manifest: old, Signature: w.sign(old), Chunk: 4096},
		"reading a manifest":                {Manifest: []byte("{}"), Signature: w.sign([]byte("{}")), Chunk: 4096},
		"at most 1048576":                   {Manifest: large, Signature: w.sign(large), Chunk: 4096},
		"the variant of the model is cloud": {Manifest: cloud, Signature: w.sign(cloud), Chunk: 4096},
		"is installed with ano":             {Manifest: append([]byte(" "), bytes.Replace(manifest, []byte(`"3"`), []byte(`"2"`), 1)...), Chunk: 4096},
	} {
		if o.Signature == nil && want != "not signed" {
			o.Signature = w.sign(o.Manifest)
		}
		msg, err := o.Encode()
		require.NoError(t, err)
		reply, err := w.r.Handle(t.Context(), msg)
		require.ErrorContains(t, err, want)
		answer, err := DecodeWant(reply)
		require.NoError(t, err)
		require.Equal(t, Refused, answer.State)
		require.Contains(t, answer.Reason, want)
	}
	entries, err := os.ReadDir(filepath.Join(w.dir, incoming))
	require.NoError(t, err)
	require.Empty(t, entries)
	require.Equal(t, "2", w.version())
}

// Invalid messages have no effect and no reply.
func TestHostileMessages(t *testing.T) {
	w := newWorld(t)
	s := w.offer("1")
	_, err := w.r.Handle(t.Context(), s.Offer())
	require.NoError(t, err)
	chunk := func(id ID, index, size int) []byte {
		c := Chunk{ID: id, Index: index, Data: make([]byte, size)}
		return c.Append(nil)
	}
	for name, msg := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "mark only": mark[:], "short": chunk(s.id, 0, 0), "large": chunk(s.id, 0, MaxChunk+1),
		"far": chunk(s.id, maxParts, 10), "outside": chunk(s.id, s.of, 4096), "wrong size": chunk(s.id, 0, 4095), "stranger": chunk(ID{1}, 0, 4096),
		"unknown member": []byte(`{"type":"offload.model.offer.v1","chunk":4096,"manifest":"YQ==","x":1}`), "two": []byte(`{}{}`),
		"tiny chunks": []byte(`{"type":"offload.model.offer.v1","chunk":1,"manifest":"YQ=="}`), "huge": bytes.Repeat([]byte(" "), maxOffer+1),
	} {
		reply, err := w.r.Handle(t.Context(), msg)
		require.Error(t, err, name)
		require.Nil(t, reply, name)
	}
	require.Equal(t, 0, w.r.Progress()[0].Have)
	for _, junk := range []string{"x", "../x", ID{}.String()} {
		require.NoError(t, os.MkdirAll(filepath.Join(w.dir, incoming, filepath.Base(junk)), 0o700))
	}
	w.start()
	require.Len(t, w.r.Progress(), 1)
	entries, err := os.ReadDir(filepath.Join(w.dir, incoming))
	require.NoError(t, err)
	require.Len(t, entries, 1, "what is no delivery is removed")
}

// Deliveries are bounded: the longest idle one is replaced, and a new version of a model replaces the delivery of an older one.
func TestDeliveriesAreBounded(t *testing.T) {
	w := newWorld(t)
	_, manifest := made(t, "1")
	for i := range 6 {
		one := bytes.Replace(manifest, []byte(`"name":"m"`), fmt.Appendf(nil, `"name":"m%d"`, i), 1)
		o := Offer{Manifest: one, Signature: w.sign(one), Chunk: 4096}
		msg, err := o.Encode()
		require.NoError(t, err)
		_, err = w.r.Handle(t.Context(), msg)
		require.NoError(t, err)
		w.fake.Advance(time.Second)
	}
	require.Len(t, w.r.Progress(), 4)
	newer := bytes.Replace(bytes.Replace(manifest, []byte(`"name":"m"`), []byte(`"name":"m5"`), 1), []byte(`"version":"1"`), []byte(`"version":"2"`), 1)
	o := Offer{Manifest: newer, Signature: w.sign(newer), Chunk: 4096}
	msg, err := o.Encode()
	require.NoError(t, err)
	_, err = w.r.Handle(t.Context(), msg)
	require.NoError(t, err)
	names := map[string]models.Version{}
	for _, p := range w.r.Progress() {
		names[p.Name] = p.Version
	}
	require.Equal(t, map[string]models.Version{"m2": "1", "m3": "1", "m4": "1", "m5": "2"}, names)
	require.NoError(t, w.r.Close())
}

// An offer that is not newer than the delivery in progress, or waiting, does not replace it, unless it requests a rollback that its signature permits.
func TestAnOlderOfferDoesNotReplaceANewerOne(t *testing.T) {
	w := newWorld(t)
	offer := func(version, permits string, rollback bool) (*Want, error) {
		_, manifest := made(t, version)
		o := Offer{Manifest: manifest, Signature: w.signWith(manifest, permits), Chunk: 4096, Rollback: rollback}
		msg, err := o.Encode()
		require.NoError(t, err)
		reply, err := w.r.Handle(t.Context(), msg)
		answer, decoding := DecodeWant(reply)
		require.NoError(t, decoding)
		return answer, err
	}
	underWay := func() models.Version { return w.r.Progress()[0].Version }
	for _, c := range []struct {
		version  string
		permits  string
		rollback bool
		want     State
		underWay models.Version
	}{
		{"2", "", false, Wanted, "2"},
		{"1", "", false, Refused, "2"}, // as retained by a broker
		{"2.0", "", false, Refused, "2"},
		{"2", "", false, Wanted, "2"},
		{"1", "", true, Refused, "2"},
		{"1", "rollback:1", true, Refused, "2"},
		{"1", "rollback:2", false, Refused, "2"},
		{"1", "rollback:2", true, Wanted, "1"},
		{"3", "", true, Wanted, "3"},
	} {
		answer, err := offer(c.version, c.permits, c.rollback)
		require.Equal(t, c.want, answer.State, c)
		require.Equal(t, c.underWay, underWay(), c)
		if c.want == Refused {
			require.ErrorContains(t, err, "is in progress")
			require.Contains(t, answer.Reason, "is in progress")
		}
	}
	require.NoError(t, w.r.Close())
	_, four := made(t, "4")
	m, err := models.ParseManifest(four)
	require.NoError(t, err)
	w.r.later = &waiting{&Offer{Manifest: four}, m}
	answer, err := offer("3", "", false)
	require.ErrorContains(t, err, "4 of model m is in progress")
	require.Equal(t, Refused, answer.State)
	require.NotNil(t, w.r.later)
}

// Any bytes are a message or an error, and an encoded message decodes unchanged.
func FuzzDecode(f *testing.F) {
	o := Offer{Manifest: []byte("{}"), Signature: []byte("s"), Chunk: 4096, Rollback: true}
	offer, err := o.Encode()
	require.NoError(f, err)
	want := Want{State: Wanted, Ranges: [][2]int{{0, 3}, {5, 5}}, Have: 1, Of: 9}
	request, err := want.Encode()
	require.NoError(f, err)
	c := Chunk{Index: 3, Data: []byte("data")}
	for _, seed := range [][]byte{offer, request, c.Append(nil), mark[:]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		if o, c, err := DecodeDown(msg); err == nil && c != nil {
			require.Equal(t, msg, c.Append(nil))
		} else if err == nil {
			again, err := o.Encode()
			if err != nil {
				return // it was near the limit, and escapes made it longer
			}
			back, _, err := DecodeDown(again)
			require.NoError(t, err)
			require.Equal(t, o, back)
		}
		if w, err := DecodeWant(msg); err == nil {
			again, err := w.Encode()
			require.NoError(t, err)
			back, err := DecodeWant(again)
			require.NoError(t, err)
			require.Equal(t, w, back)
		}
	})
}

// Progress does not wait during an installation: the service's health check calls it each second.
func TestProgressDoesNotWaitForAnInstallation(t *testing.T) {
	w := newWorld(t)
	slow := filepath.Join(w.dir, "state.json.new")
	require.NoError(t, syscall.Mkfifo(slow, 0o600)) // the disk blocks the store until this is read
	ended := make(chan error, 1)
	sender := w.offer("1")
	go func() {
		_, err := w.deliver(sender, func(b []byte) []byte { return b })
		ended <- err
	}()
	seen := make(chan []Progress)
	go func() {
		for {
			list := w.r.Progress()
			if len(list) == 1 && list[0].Have == list[0].Of {
				seen <- list
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	select {
	case <-seen:
	case <-time.After(5 * time.Second):
		t.Error("it waits")
	}
	reader, err := os.Open(slow)
	require.NoError(t, err)
	require.Error(t, <-ended, "a pipe cannot be synced")
	require.NoError(t, reader.Close())
}
