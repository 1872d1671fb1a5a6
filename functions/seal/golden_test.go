package seal

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenBatch has a record of every kind: an event, its copy in CBOR, and a frame with chunks of both encodings.
func goldenBatch() *Batch {
	class := &task.Class{Name: "machines", Priority: 5}
	base := task.Task{
		EventID: "0f7c1f0e-6f0b-4a83-9c0c-1de2a1b7c001", Device: "press-1", Profile: "press", Source: "all",
		Origin: 1750000000000000001, Received: 1750000000002500000, Of: 1, Class: class, Encoding: task.JSON,
		Data: []byte(`{"apiVersion":"v3","id":"0f7c1f0e-6f0b-4a83-9c0c-1de2a1b7c001","deviceName":"press-1","profileName":"press","sourceName":"all","origin":1750000000000000001,` +
			`"readings":[{"id":"51d5d0d1-4a4f-4fd7-8f38-3b8b1c5a4001","origin":1750000000000000001,"deviceName":"press-1","resourceName":"force","profileName":"press","valueType":"Float32","value":"1.234500e+02"}],` +
			`"tags":{"line":"Süd <3>"}}`),
		Complexity: 50, Deadline: 2 * time.Second, Score: 0.69, Policy: "weighted",
	}
	cbor := base
	cbor.EventID, cbor.Encoding, cbor.Data = "cbor-event", task.CBOR, []byte{0xa1, 0x62, 'i', 'd', 0x61, 'x', 0xff, 0xfe}
	frame := base
	frame.EventID, frame.Of, frame.Critical = "cut-event", 3, true
	frame.Data = []byte(`{"id":"cut-event","readings":[{"value":"[]"},{"binaryValue":""}]}`)
	frame.Holes = []task.Hole{{Resource: "wave", At: 41, Length: 4, Encoding: task.Text}, {Resource: "image", At: 62, Length: 6, Encoding: task.Binary}}
	text := base
	text.EventID, text.Of, text.Chunk, text.Resource, text.Type, text.Count = "cut-event", 3, 1, "wave", task.Float32Array, 4
	text.Encoding, text.Data = task.Text, []byte("1.000000e+00,2.500000e+00,-3.000000e-01,4.000000e+00")
	blob := text
	blob.Chunk, blob.Hole, blob.Resource, blob.Type, blob.Count = 2, 1, "image", task.Blob, 6
	blob.Encoding, blob.Data = task.Binary, []byte{0xff, 0xd8, 0xff, 0xe0, 0x00, 0x10}
	b := &Batch{
		ID: "b-000001", Node: "gateway 7/ä", Epoch: "18c2b1f0a3d4e5f6", Class: "machines",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 600_000_000, time.UTC), Floor: 17,
		Sequences: []uint64{18, 19, 21, 20, 1 << 40},
	}
	for _, t := range []*task.Task{&base, &cbor, &frame, &text, &blob} {
		b.Tasks = append(b.Tasks, t.Append(nil))
	}
	return b
}

// countingNonces make golden files reproducible. Never use such a source for anything else.
type countingNonces struct{ next byte }

func (c *countingNonces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = c.next
		c.next++
	}
	return len(p), nil
}

func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, got, 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run go test ./functions/seal -run Golden -update")
	return want
}

func (v variant) file() string {
	if v.form == FormJSON {
		return v.String() + ".json"
	}
	return v.String() + ".pb"
}

// Golden files hold two promises: old messages stay readable, and equal batches make equal messages. If only the second breaks, because a compressor
// improved, rewrite them; never for the first.
func TestGoldenBatches(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			s := mustSealer(t, v.config())
			s.keys.nonces = &countingNonces{}
			got, err := s.Seal(nil, goldenBatch())
			require.NoError(t, err)
			want := golden(t, v.file(), got)
			b, err := opener(v).Open(want)
			require.NoError(t, err)
			require.Equal(t, goldenBatch(), b)
			require.True(t, bytes.Equal(want, got), "the message changed; it was\n%q\nand is\n%q", want, got)
		})
	}
}

// Nodes send batches with a session; those without one stay readable.
func TestGoldenBatchesOfASession(t *testing.T) {
	for _, v := range sessionVariants {
		t.Run(v.String(), func(t *testing.T) {
			s := mustSealer(t, v.config())
			s.keys.nonces = &countingNonces{}
			sent := goldenBatch()
			sent.Session = "5d2f0c9e8b7a6153"
			got, err := s.Seal(nil, sent)
			require.NoError(t, err)
			want := golden(t, "session-"+v.file(), got)
			b, err := opener(v).Open(want)
			require.NoError(t, err)
			require.Equal(t, sent, b)
			require.True(t, bytes.Equal(want, got), "the message changed; it was\n%q\nand is\n%q", want, got)
		})
	}
}

var sessionVariants = []variant{
	{FormJSON, CipherGCM, "k32", CompressionZstd, true}, {FormProtobuf, CipherGCM, "k32", CompressionZstd, true}, {FormJSON, CipherNone, "", CompressionNone, false},
}

func goldenReceipt() *Receipt {
	return &Receipt{
		ID: "r-1", Node: "gateway 7/ä", Epoch: "18c2b1f0a3d4e5f6", Created: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC),
		Safe: []Range{{1, 17}, {20, 20}, {1 << 63, 1<<64 - 1}}, Gaps: []Range{{18, 19}},
	}
}

// goldenFullReceipt has every field that a receipt may have.
func goldenFullReceipt() *Receipt {
	r := goldenReceipt()
	r.Session, r.Conflicts, r.Limits = "5d2f0c9e8b7a6153", []Range{{21, 21}}, ConsumerLimits{MaxMessage: 16 << 20, MaxData: 64 << 20}
	return r
}

func goldenAnnouncement() *Announcement {
	return &Announcement{
		ID: "a-1", Consumer: "cloud 1/ä", Created: time.Date(2026, 1, 2, 3, 4, 9, 0, time.UTC),
		Limits: ConsumerLimits{MaxMessage: 16 << 20, MaxData: 64 << 20},
	}
}

func goldenGone() *Gone {
	return &Gone{
		ID: "g-1", Node: "gateway 7/ä", Epoch: "18c2b1f0a3d4e5f6", Created: time.Date(2026, 1, 2, 3, 4, 7, 0, time.UTC),
		Ranges: []GoneRange{{Range{18, 18}, "expired"}, {Range{19, 19}, "dropped:spool full"}},
	}
}

func goldenConfirmation() *Confirmation {
	return &Confirmation{
		ID: "c-1", Node: "gateway 7/ä", Created: time.Date(2026, 1, 2, 3, 4, 10, 0, time.UTC),
		Results: []ConfirmedResult{{ID: "17-00c0ffee00c0ffee"}, {ID: "18-0", Refused: "no such device"}},
	}
}

func goldenResult() *Result {
	return &Result{
		ID: "o-1", Node: "gateway 7/ä", Created: time.Date(2026, 1, 2, 3, 4, 8, 0, time.UTC), EventID: "cut-event", Chunk: 1,
		Completed: time.Date(2026, 1, 2, 3, 4, 7, 5, time.UTC), OK: true, ContentType: "application/json", Payload: []byte(`{"rms":0.7}`),
	}
}

func TestGoldenStatements(t *testing.T) {
	for _, v := range []variant{{cipher: CipherNone}, {cipher: CipherGCM, key: "k32"}, {cipher: CipherEAX, key: "k16"}} {
		s, o := mustSealer(t, variant{FormProtobuf, v.cipher, v.key, CompressionZstd, true}.config()), opener(v)
		s.keys.nonces = &countingNonces{}
		for name, seal := range map[string]func() ([]byte, error){
			"receipt":      func() ([]byte, error) { return s.SealReceipt(nil, goldenReceipt()) },
			"receipt-full": func() ([]byte, error) { return s.SealReceipt(nil, goldenFullReceipt()) },
			"announcement": func() ([]byte, error) { return s.SealAnnouncement(nil, goldenAnnouncement()) },
			"gone":         func() ([]byte, error) { return s.SealGone(nil, goldenGone()) },
			"result":       func() ([]byte, error) { return s.SealResult(nil, goldenResult()) },
			"confirm":      func() ([]byte, error) { return s.SealConfirmation(nil, goldenConfirmation()) },
		} {
			t.Run(name+"-"+v.cipher, func(t *testing.T) {
				s.keys.nonces = &countingNonces{}
				got, err := seal()
				require.NoError(t, err)
				want := golden(t, name+"-"+v.cipher+".json", got)
				require.True(t, bytes.Equal(want, got), "the message changed; it was\n%s\nand is\n%s", want, got)
				switch name {
				case "receipt":
					r, err := o.OpenReceipt(want)
					require.NoError(t, err)
					require.Equal(t, goldenReceipt(), r)
				case "receipt-full":
					r, err := o.OpenReceipt(want)
					require.NoError(t, err)
					require.Equal(t, goldenFullReceipt(), r)
				case "announcement":
					a, err := o.OpenAnnouncement(want)
					require.NoError(t, err)
					require.Equal(t, goldenAnnouncement(), a)
				case "gone":
					g, err := o.OpenGone(want)
					require.NoError(t, err)
					require.Equal(t, goldenGone(), g)
				case "confirm":
					c, err := o.OpenConfirmation(want)
					require.NoError(t, err)
					require.Equal(t, goldenConfirmation(), c)
				case "result":
					r, err := o.OpenResult(want)
					require.NoError(t, err)
					require.Equal(t, goldenResult(), r)
				}
			})
		}
	}
}

// The authenticated bytes, written out for authors of readers.
func TestGoldenAuthenticatedAttributes(t *testing.T) {
	attrs := newAttributes(append(goldenBatch().attributes(mediaProtobuf), "contentencoding", "fold-zstd", "cipher", CipherGCM, "keyid", "k32")...)
	want := golden(t, "aad.txt", attrs.appendAAD(nil))
	require.Equal(t, string(want), string(attrs.appendAAD(nil)))
	require.True(t, strings.HasPrefix(string(want), "offload-aad-v1\ncipher=11:aes-256-gcm\n"))
}
