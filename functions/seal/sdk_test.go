package seal

import (
	"encoding/json"
	"testing"
	"time"

	format "github.com/cloudevents/sdk-go/binding/format/protobuf/v2"
	sdk "github.com/cloudevents/sdk-go/v2/binding/format"
	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"
)

// The CloudEvents SDK reads every message we write, with all attributes and the same data, finds it valid, and what it writes again opens here: so
// any intermediary built on it preserves the seal.
func TestSDKReadsAndRewritesMessages(t *testing.T) {
	for _, v := range variants() {
		t.Run(v.String(), func(t *testing.T) {
			msg, err := mustSealer(t, v.config()).Seal(nil, goldenBatch())
			require.NoError(t, err)
			var f sdk.Format = sdk.JSON
			if v.form == FormProtobuf {
				f = format.Protobuf
			}
			var ce event.Event
			require.NoError(t, f.Unmarshal(msg, &ce))
			requireSDKEvent(t, v, &ce)
			e, err := parse(msg)
			require.NoError(t, err)
			require.Equal(t, string(e.data), string(ce.Data()))

			again, err := f.Marshal(&ce)
			require.NoError(t, err)
			b, err := opener(v).Open(again)
			require.NoError(t, err)
			want := goldenBatch()
			if e.inline {
				// Inline JSON may be rewritten ("<" becomes "\u003c"): the same event in other bytes.
				want.Tasks, b.Tasks = want.Tasks[1:], b.Tasks[1:]
			}
			require.Equal(t, want, b)
		})
	}
}

func requireSDKEvent(t *testing.T, v variant, ce *event.Event) {
	t.Helper()
	b := goldenBatch()
	require.NoError(t, ce.Validate())
	require.Equal(t, []string{"1.0", b.ID, typeBatch, b.Class, nodeSource(b.Node)}, []string{ce.SpecVersion(), ce.ID(), ce.Type(), ce.Subject(), ce.Source()})
	require.True(t, b.Created.Equal(ce.Time()))
	want := map[string]any{
		"epoch": b.Epoch, "sequence": "00000000000000000018", "count": int32(5), "floor": "00000000000000000017",
		"cipher": v.cipher, "contentencoding": v.compression,
	}
	if v.fold {
		want["contentencoding"] = foldPrefix + v.compression
	}
	if v.key != "" {
		want["keyid"] = v.key
	}
	require.Equal(t, want, ce.Extensions())
}

// The readable form is JSON at every level.
func TestPlainFormIsReadable(t *testing.T) {
	msg, err := mustSealer(t, variant{FormJSON, CipherNone, "", CompressionNone, false}.config()).Seal(nil, goldenBatch())
	require.NoError(t, err)
	var ce struct {
		Data struct {
			Node    string
			Records []struct {
				Sequence     uint64
				Encoding     string
				Event        struct{ DeviceName string }
				Text, Base64 string
			}
		}
	}
	require.NoError(t, json.Unmarshal(msg, &ce))
	r := ce.Data.Records
	require.Len(t, r, 5)
	require.Equal(t, "press-1", r[0].Event.DeviceName)
	require.Equal(t, "cbor", r[1].Encoding)
	require.Equal(t, "1.000000e+00,2.500000e+00,-3.000000e-01,4.000000e+00", r[3].Text)
	require.Equal(t, "/9j/4AAQ", r[4].Base64)
}

// BenchmarkSeal and BenchmarkOpen take 100 small events a message; BenchmarkWrap measures the SDK's share.
func BenchmarkSeal(b *testing.B) {
	f := newFeed(1)
	batch, _ := f.batch(100, f.small)
	for _, v := range benchVariants() {
		b.Run(v.String(), func(b *testing.B) {
			s := mustSealer(b, v.config())
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				msg, err := s.Seal(dst[:0], batch)
				require.NoError(b, err)
				dst = msg
			}
			b.SetBytes(int64(len(dst)))
			b.ReportMetric(float64(b.Elapsed())/float64(time.Microsecond)/float64(b.N)/100, "µs/event")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	f := newFeed(1)
	batch, _ := f.batch(100, f.small)
	for _, v := range benchVariants() {
		b.Run(v.String(), func(b *testing.B) {
			msg, err := mustSealer(b, v.config()).Seal(nil, batch)
			require.NoError(b, err)
			o := opener(v)
			b.ReportAllocs()
			for b.Loop() {
				_, err := o.Open(msg)
				require.NoError(b, err)
			}
			b.ReportMetric(float64(b.Elapsed())/float64(time.Microsecond)/float64(b.N)/100, "µs/event")
		})
	}
}

func benchVariants() (list []variant) {
	list = append(list, variant{FormJSON, CipherNone, "", CompressionNone, false})
	for _, cipher := range []string{CipherGCM, CipherEAX} {
		for _, fold := range []bool{true, false} {
			list = append(list, variant{FormProtobuf, cipher, "k32", CompressionZstd, fold})
		}
	}
	return list
}

// BenchmarkWrap measures the cost of the CloudEvents SDK alone: attributes and 15 KiB of payload into a message.
func BenchmarkWrap(b *testing.B) {
	for _, form := range []string{FormJSON, FormProtobuf} {
		b.Run(form, func(b *testing.B) {
			e := &envelope{attrs: newAttributes(goldenBatch().attributes(mediaProtobuf)...), data: make([]byte, 15<<10)}
			var dst []byte
			b.ReportAllocs()
			for b.Loop() {
				msg, err := e.appendTo(dst[:0], form)
				require.NoError(b, err)
				dst = msg
			}
		})
	}
}
