package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"app-offload/functions/task"
)

// keyMap is a key store with a changeable current key.
type keyMap struct {
	current string
	keys    map[string][]byte
	err     error
}

func (k *keyMap) Current() (string, []byte, error) {
	return k.current, k.keys[k.current], k.err
}

func (k *keyMap) Key(id string) ([]byte, error) {
	if key := k.keys[id]; key != nil && k.err == nil {
		return key, nil
	}
	return nil, errors.Join(k.err, errors.New("no such key"))
}

func pattern(first byte, n int) []byte {
	key := make([]byte, n)
	for i := range key {
		key[i] = first + byte(i)
	}
	return key
}

// testKeys are public; the golden files and the Python reader's test use them too.
var testKeys = &keyMap{current: "k32", keys: map[string][]byte{
	"k16": pattern(0x10, 16), "k24": pattern(0x40, 24), "k32": pattern(0x80, 32),
}}

func mustSealer(t testing.TB, cfg Config) *Sealer {
	t.Helper()
	s, err := NewSealer(cfg, testKeys)
	require.NoError(t, err)
	return s
}

// variant is one combination of configurable choices.
type variant struct {
	form, cipher, key, compression string
	fold                           bool
}

func (v variant) String() string {
	name := v.form + "-" + v.cipher + "-" + v.compression
	if v.cipher == CipherEAX {
		name = v.form + "-" + v.cipher + "-" + v.key + "-" + v.compression
	}
	if v.fold {
		name = strings.Replace(name, v.compression, foldPrefix+v.compression, 1)
	}
	return name
}

func (v variant) config() Config {
	cfg := DefaultConfig()
	cfg.Form, cfg.Cipher, cfg.Compression, cfg.Fold = v.form, v.cipher, v.compression, v.fold
	if v.cipher != CipherNone {
		cfg.KeyID = v.key
	}
	return cfg
}

func variants() (all []variant) {
	for _, form := range []string{FormJSON, FormProtobuf} {
		for _, c := range []struct{ cipher, key string }{{CipherNone, ""}, {CipherGCM, "k32"}, {CipherEAX, "k16"}, {CipherEAX, "k24"}, {CipherEAX, "k32"}} {
			for _, compression := range []string{CompressionZstd, CompressionGzip, CompressionNone} {
				if form == FormJSON && c.cipher == CipherNone && compression != CompressionNone {
					continue // plain JSON is never compressed
				}
				all = append(all, variant{form, c.cipher, c.key, compression, false})
				if compression != CompressionNone {
					all = append(all, variant{form, c.cipher, c.key, compression, true})
				}
			}
		}
	}
	return all
}

func opener(v variant) *Opener {
	return NewOpener(testKeys, Limits{AllowPlain: v.cipher == CipherNone})
}

// printable draws text that attributes may contain.
func printable(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-zA-Z0-9 /+#%äß漢:._-]{1,20}`).Draw(t, label)
}

func drawData(t *rapid.T, enc task.Encoding) []byte {
	if enc != task.JSON || rapid.IntRange(0, 4).Draw(t, "odd") == 0 {
		return rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
	}
	value := rapid.SampledFrom([]string{
		`{}`, `{"a": 1 }`, `{ "html":"<&>\u2028\/" , "n":1e400}`, `{"id":"5b1e9c1e-0f5c-4a43-9d8d-3f9ad8f6a001","o":1750000000000000001}`,
		`{"b":"` + strings.Repeat("QUJD/+", 40) + `="}`, `{"x":"` + "\u00e4\U0001F600" + `"}`,
	}).Draw(t, "json")
	return []byte(value)
}

func drawTask(t *rapid.T) *task.Task {
	enc := rapid.SampledFrom([]task.Encoding{task.JSON, task.CBOR, task.Text, task.Binary}).Draw(t, "encoding")
	x := &task.Task{
		EventID: printable(t, "event"), Device: rapid.String().Draw(t, "device"), Profile: printable(t, "profile"), Source: printable(t, "source"),
		Origin: rapid.Int64().Draw(t, "origin"), Received: rapid.Int64().Draw(t, "received"), Of: rapid.IntRange(1, 9).Draw(t, "of"),
		Class:    &task.Class{Name: printable(t, "class"), Priority: rapid.IntRange(0, 9).Draw(t, "priority")},
		Critical: rapid.Bool().Draw(t, "critical"), Encoding: enc, Data: drawData(t, enc),
		Complexity: rapid.Float64Range(0, 100).Draw(t, "complexity"), Score: rapid.Float64Range(0, 1).Draw(t, "score"),
		Deadline: time.Duration(rapid.IntRange(0, 1<<30).Draw(t, "deadline")) * time.Millisecond, Policy: printable(t, "policy"),
	}
	x.Chunk = rapid.IntRange(0, x.Of-1).Draw(t, "chunk")
	if x.Chunk > 0 {
		x.Resource, x.Type = printable(t, "resource"), task.ValueType(rapid.IntRange(0, int(task.Object)).Draw(t, "type"))
		x.Offset, x.Count, x.Hole = rapid.IntRange(0, 1<<20).Draw(t, "offset"), rapid.IntRange(0, 1<<20).Draw(t, "count"), rapid.IntRange(0, 9).Draw(t, "hole")
	} else if x.Of > 1 {
		x.Holes = []task.Hole{{Resource: printable(t, "hole"), At: rapid.IntRange(0, len(x.Data)).Draw(t, "at"), Length: 512, Encoding: task.Text}}
	}
	return x
}

func drawBatch(t *rapid.T) *Batch {
	b := &Batch{
		ID: printable(t, "id"), Node: printable(t, "node"), Epoch: printable(t, "epoch"), Class: printable(t, "class"),
		Created: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
		Floor:   rapid.Uint64().Draw(t, "floor"),
	}
	for range rapid.IntRange(1, 6).Draw(t, "tasks") {
		b.Sequences = append(b.Sequences, rapid.Uint64().Draw(t, "sequence"))
		b.Tasks = append(b.Tasks, drawTask(t).Append(nil))
	}
	return b
}

// Open reverses Seal, in every form, with every cipher, key size and compression.
func TestOpenReversesSeal(t *testing.T) {
	for _, form := range []string{FormJSON, FormProtobuf} {
		for _, cipher := range []string{CipherNone, CipherGCM, CipherEAX} {
			var some []variant
			sealers := map[variant]*Sealer{}
			for _, v := range variants() {
				if v.form == form && v.cipher == cipher {
					some = append(some, v)
					sealers[v] = mustSealer(t, v.config())
				}
			}
			t.Run(form+"-"+cipher, rapid.MakeCheck(func(t *rapid.T) {
				v := rapid.SampledFrom(some).Draw(t, "variant")
				b := drawBatch(t)
				msg, err := sealers[v].Seal([]byte("before"), b)
				require.NoError(t, err)
				require.Equal(t, "before", string(msg[:6]))
				back, err := opener(v).Open(msg[6:])
				require.NoError(t, err)
				require.Equal(t, b, back)
			}))
		}
	}
}

// An undecodable record is rejected in the readable form, by its sequence, and carried along in the compact one.
func TestSealRefusesWhatCannotBeRead(t *testing.T) {
	good := goldenBatch()
	for name, change := range map[string]func(*Batch){
		"no tasks":            func(b *Batch) { b.Tasks, b.Sequences = nil, nil },
		"a sequence too many": func(b *Batch) { b.Sequences = append(b.Sequences, 1) },
		"no id":               func(b *Batch) { b.ID = "" },
		"no node":             func(b *Batch) { b.Node = "" },
		"control character":   func(b *Batch) { b.Epoch = "a\nb" },
		"not UTF-8":           func(b *Batch) { b.Class = "\xff" },
		"year 10000":          func(b *Batch) { b.Created = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"broken record":       func(b *Batch) { b.Tasks = [][]byte{[]byte("\xff\xff")}; b.Sequences = b.Sequences[:1] },
	} {
		t.Run(name, func(t *testing.T) {
			b := *good
			change(&b)
			out, err := mustSealer(t, DefaultConfig()).Seal([]byte("kept"), &b)
			var wrong *MalformedError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, "kept", string(out))
		})
	}
}

func TestMessageLimitAsksForASmallerBatch(t *testing.T) {
	cfg := DefaultConfig()
	cfg.MaxMessageKiB, cfg.Compression = 4, CompressionNone
	b := goldenBatch()
	for len(b.Tasks) < 100 {
		b.Tasks, b.Sequences = append(b.Tasks, b.Tasks[0]), append(b.Sequences, 0)
	}
	_, err := mustSealer(t, cfg).Seal(nil, b)
	var large *TooLargeError
	require.ErrorAs(t, err, &large)
	require.Equal(t, "message", large.What)
	require.EqualValues(t, 4096, large.Limit)
}

// Event JSON goes in and out byte for byte, spaces and escapes included, and is embedded in the message verbatim.
func TestEventIsEmbeddedVerbatim(t *testing.T) {
	event := `{ "id" : "<&\u00e9\/>" ,"n":1.50e+00}`
	x := &task.Task{EventID: "e", Of: 1, Encoding: task.JSON, Data: []byte(event)}
	b := &Batch{ID: "i", Node: "n", Epoch: "e", Sequences: []uint64{1}, Tasks: [][]byte{x.Append(nil)}}
	cfg := DefaultConfig()
	cfg.Cipher = CipherNone
	msg, err := mustSealer(t, cfg).Seal(nil, b)
	require.NoError(t, err)
	require.Contains(t, string(msg), `"event":`+event)
}

func TestConfigNamesAllProblems(t *testing.T) {
	require.NoError(t, DefaultConfig().Validate())
	err := Config{Form: "xml", Cipher: "rot13", Compression: "lz4", KeyID: "a\x00", CompressionLevel: 9}.Validate()
	for _, key := range []string{"Form", "Cipher", "Compression", "KeyID", "CompressionLevel", "MaxMessageKiB", "MaxDataMiB"} {
		require.ErrorContains(t, err, "Seal."+key+" ")
	}
	_, err = NewSealer(Config{}, nil)
	require.Error(t, err)
}

func TestDecompressionIsBounded(t *testing.T) {
	const limit = 64 << 10
	bomb := make([]byte, 64*limit)
	for _, name := range []string{CompressionZstd, CompressionGzip} {
		for _, fold := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s fold=%v", name, fold), func(t *testing.T) {
				c, err := newCompressor(name, fold, 2)
				require.NoError(t, err)
				packed, err := c.pack(nil, bomb)
				require.NoError(t, err)
				u := unpacker{limit: limit}
				_, err = u.unpack(c.name, packed, limit)
				var large *TooLargeError
				require.ErrorAs(t, err, &large)
				require.EqualError(t, err, fmt.Sprintf("data exceeds the limit of %d", limit), "by how much is not known")
				// Without the size in its header too, as in a stream.
				if c.zstd != nil && !fold {
					var out bytes.Buffer
					c.zstd.Reset(&out)
					_, err := io.Copy(c.zstd, bytes.NewReader(bomb))
					require.NoError(t, err)
					require.NoError(t, c.zstd.Close())
					_, err = u.unpack(c.name, out.Bytes(), limit)
					require.ErrorAs(t, err, &large)
					require.EqualError(t, err, fmt.Sprintf("data exceeds the limit of %d", limit))
				}
				packed, err = c.pack(nil, bomb[:limit])
				require.NoError(t, err)
				back, err := u.unpack(c.name, packed, limit)
				require.NoError(t, err)
				require.Len(t, back, limit)
			})
		}
	}
}

// Each compression unpacks to the same bytes at every level, and gzip compresses more at its highest. A size just above the limit is rejected, also
// without compression, and truncated or damaged data is reported as malformed.
func TestEveryCompressionAtEveryLevel(t *testing.T) {
	var src []byte
	for n := range 400 {
		src = fmt.Appendf(src, `{"deviceName":"pump-%d","origin":%d,"readings":[{"resourceName":"Pressure","value":"%d.%d"}]}`, n%7, int64(1e18)+int64(n*n*7919), n*n%97, n*31%1000)
	}
	for _, name := range []string{CompressionZstd, CompressionGzip, CompressionNone} {
		for _, folds := range []bool{false, true} {
			sizes := make([]int, 0, 4)
			for level := 1; level <= 4; level++ {
				c, err := newCompressor(name, folds, level)
				require.NoError(t, err)
				packed, err := c.pack([]byte("kept"), src)
				require.NoError(t, err)
				require.Equal(t, "kept", string(packed[:4]))
				packed = packed[4:]
				sizes = append(sizes, len(packed))
				u := unpacker{limit: int64(len(src))}
				back, err := u.unpack(c.name, packed, int64(len(src)))
				require.NoError(t, err)
				require.Equal(t, string(src), string(back))
				_, err = u.unpack(c.name, packed, int64(len(src))-1)
				var large *TooLargeError
				require.ErrorAs(t, err, &large, "%s %v", c.name, level)
				require.EqualValues(t, len(src)-1, large.Limit)
				require.Contains(t, []int64{-1, int64(len(src))}, large.Size)
				if name == CompressionNone {
					continue
				}
				for _, cut := range []int{0, 1, 5, len(packed) / 2, len(packed) - 1} {
					_, err = u.unpack(c.name, packed[:cut], int64(len(src)))
					if cut == 0 && name == CompressionZstd && !folds {
						continue // nothing is the stream of nothing
					}
					require.ErrorAs(t, err, new(*MalformedError), "%s, %d bytes", c.name, cut)
				}
			}
			if name == CompressionGzip {
				require.Less(t, sizes[3], sizes[0])
			}
		}
	}
	u := unpacker{limit: 10}
	for _, unknown := range []string{"lz4", foldPrefix + CompressionNone, foldPrefix, ""} {
		_, err := u.unpack(unknown, []byte("x"), 10)
		require.ErrorAs(t, err, new(*MalformedError), unknown)
	}
}

// An attribute without a value of its type is an error that names both.
func TestAttributesOfAWrongType(t *testing.T) {
	for name, value := range map[string]string{"time": "yesterday", "count": "many"} {
		_, err := (&envelope{attrs: attributes{{"id", "1", text}, {name, value, kindOf(name)}}}).event()
		require.ErrorContains(t, err, fmt.Sprintf("setting attribute %s to %q: ", name, value))
	}
	e, err := (&envelope{attrs: attributes{{"time", "2026-11-03T12:00:00Z", timestamp}, {"count", "7", integer}, {"subject", "s", text}}}).event()
	require.NoError(t, err)
	require.Equal(t, int32(7), e.Extensions()["count"])
	require.Equal(t, 2026, e.Time().Year())
	require.Equal(t, "s", e.Subject())
}
