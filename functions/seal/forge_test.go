package seal

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// A sealed message with any changed byte is rejected: attributes and payload are one.
func TestAnyFlippedByteIsRefused(t *testing.T) {
	for _, v := range variants() {
		if v.cipher == CipherNone || !v.fold || v.compression != CompressionZstd || v.key != "k32" {
			continue // the payload is authenticated before anything looks into it, so its kind makes no difference
		}
		t.Run(v.String(), func(t *testing.T) {
			b := goldenBatch()
			b.Tasks, b.Sequences = b.Tasks[3:], b.Sequences[3:]
			msg, err := mustSealer(t, v.config()).Seal(nil, b)
			require.NoError(t, err)
			o := opener(v)
			refuseFlips(t, msg, func(m []byte) error { _, err := o.Open(m); return err })
		})
	}
}

func TestAnyFlippedByteOfAStatementIsRefused(t *testing.T) {
	s, o := mustSealer(t, DefaultConfig()), NewOpener(testKeys, Limits{})
	receipt, err := s.SealReceipt(nil, goldenReceipt())
	require.NoError(t, err)
	refuseFlips(t, receipt, func(m []byte) error { _, err := o.OpenReceipt(m); return err })
	full, err := s.SealReceipt(nil, goldenFullReceipt())
	require.NoError(t, err)
	refuseFlips(t, full, func(m []byte) error { _, err := o.OpenReceipt(m); return err })
	announcement, err := s.SealAnnouncement(nil, goldenAnnouncement())
	require.NoError(t, err)
	refuseFlips(t, announcement, func(m []byte) error { _, err := o.OpenAnnouncement(m); return err })
	gone, err := s.SealGone(nil, goldenGone())
	require.NoError(t, err)
	refuseFlips(t, gone, func(m []byte) error { _, err := o.OpenGone(m); return err })
	result, err := s.SealResult(nil, goldenResult())
	require.NoError(t, err)
	refuseFlips(t, result, func(m []byte) error { _, err := o.OpenResult(m); return err })
	confirmation, err := s.SealConfirmation(nil, goldenConfirmation())
	require.NoError(t, err)
	refuseFlips(t, confirmation, func(m []byte) error { _, err := o.OpenConfirmation(m); return err })
	_, err = o.OpenGone(confirmation)
	require.Error(t, err, "it is no other statement")
}

// refuseFlips tries every single bit and some other changes at each position.
func refuseFlips(t *testing.T, msg []byte, open func([]byte) error) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	require.NoError(t, open(msg))
	for i := range msg {
		masks := []byte{1, 2, 4, 8, 16, 32, 64, 128, byte(1 + r.IntN(255))}
		if raceEnabled {
			masks = masks[5:] // the bits that distinguish upper from lower case are among them
		}
		for _, mask := range masks {
			msg[i] ^= mask
			if err := open(msg); err == nil {
				t.Fatalf("byte %d changed by %#x, in %q: it still opens", i, mask, msg[max(0, i-20):min(len(msg), i+20)])
			}
			msg[i] ^= mask
		}
	}
}

// The seal protects each attribute: with another valid value, omitted, or added.
func TestNoAttributeCanBeExchanged(t *testing.T) {
	msg, err := mustSealer(t, variant{FormJSON, CipherGCM, "k32", CompressionZstd, true}.config()).Seal(nil, goldenBatch())
	require.NoError(t, err)
	o := NewOpener(testKeys, Limits{})
	var members map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(msg, &members))
	other := map[string]string{
		"id": `"b-000002"`, "source": `"/offload/v1/node/other"`, "subject": `"cameras"`, "time": `"2026-01-02T03:04:05.7Z"`,
		"datacontenttype": `"application/x-protobuf"`, "epoch": `"18c2b1f0a3d4e5f7"`, "session": `"s"`, "sequence": `"00000000000000000019"`,
		"floor": `"00000000000000000018"`, "count": `4`, "contentencoding": `"gzip"`, "cipher": `"aes-eax"`, "keyid": `"k32x"`,
		"specversion": `"1.1"`, "type": `"offload.receipt.v1"`, "data_base64": `"AAAA"`, "traceparent": `"00-1"`,
	}
	for name := range members {
		require.Contains(t, other, name, "an attribute without a test")
	}
	for name, value := range other {
		t.Run(name, func(t *testing.T) {
			changed := map[string]json.RawMessage{}
			for k, v := range members {
				changed[k] = v
			}
			changed[name] = json.RawMessage(value)
			requireRefused(t, o, changed)
			delete(changed, name)
			if _, there := members[name]; there {
				requireRefused(t, o, changed)
			}
		})
	}
}

func requireRefused(t *testing.T, o *Opener, members map[string]json.RawMessage) {
	t.Helper()
	msg, err := json.Marshal(members)
	require.NoError(t, err)
	_, err = o.Open(msg)
	require.Error(t, err)
}

// A message from the SDK or a bridge, with members in another order and other spaces, still opens.
func TestOrderAndSpacesDoNotMatter(t *testing.T) {
	msg, err := mustSealer(t, DefaultConfig()).Seal(nil, goldenBatch())
	require.NoError(t, err)
	var members map[string]any
	require.NoError(t, json.Unmarshal(msg, &members))
	spaced, err := json.MarshalIndent(members, "", "  ")
	require.NoError(t, err)
	b, err := NewOpener(testKeys, Limits{}).Open(spaced)
	require.NoError(t, err)
	require.Equal(t, goldenBatch(), b)
}

// A plain receipt must not make a node with keys delete anything, nor one of another type or another key.
func TestForgedReceiptsAreRefused(t *testing.T) {
	plain, err := mustSealer(t, variant{FormJSON, CipherNone, "", CompressionNone, false}.config()).SealReceipt(nil, goldenReceipt())
	require.NoError(t, err)
	o := NewOpener(testKeys, Limits{})
	_, err = o.OpenReceipt(plain)
	require.ErrorIs(t, err, ErrForged)

	thief := &keyMap{current: "k32", keys: map[string][]byte{"k32": pattern(1, 32)}}
	s, err := NewSealer(DefaultConfig(), thief)
	require.NoError(t, err)
	wrongKey, err := s.SealReceipt(nil, goldenReceipt())
	require.NoError(t, err)
	_, err = o.OpenReceipt(wrongKey)
	require.ErrorIs(t, err, ErrForged)

	gone, err := mustSealer(t, DefaultConfig()).SealGone(nil, goldenGone())
	require.NoError(t, err)
	_, err = o.OpenReceipt(gone)
	var wrong *MalformedError
	require.ErrorAs(t, err, &wrong)
}

func TestMalformedMessages(t *testing.T) {
	o := NewOpener(nil, Limits{MaxMessageKiB: 1})
	attrs := `"specversion":"1.0","type":"offload.receipt.v1","id":"r","source":"/offload/v1/cloud/n","subject":"n","time":"2026-01-02T03:04:05Z",` +
		`"datacontenttype":"application/json","contentencoding":"none","cipher":"none"`
	data := `,"data":{"node":"n","epoch":"e","safe":[[1,2]],"gaps":[]}`
	_, err := o.OpenReceipt([]byte("{" + attrs + data + "}"))
	require.NoError(t, err)
	for name, msg := range map[string]string{
		"empty":             "",
		"not an object":     "[]",
		"cut":               "{" + attrs,
		"no data":           "{" + attrs + "}",
		"data twice":        "{" + attrs + data + data + "}",
		"attribute twice":   "{" + attrs + `,"id":"r"` + data + "}",
		"upper case":        "{" + attrs + `,"Extra":"r"` + data + "}",
		"empty attribute":   "{" + attrs + `,"extra":""` + data + "}",
		"control character": "{" + attrs + `,"extra":"\u0001"` + data + "}",
		"something follows": "{" + attrs + data + "}{}",
		"not UTF-8":         "{" + attrs + ",\"extra\":\"\xff\"" + data + "}",
		"wrong type":        "{" + attrs + `,"epoch":7` + data + "}",
		"time in words":     `{"time":"now"` + data + "}",
		"time with comma":   `{"time":"2026-01-02T03:04:05,5Z"` + data + "}",
		"backward range":    "{" + attrs + `,"data":{"node":"n","epoch":"e","safe":[[2,1]]}}`,
		"half a range":      "{" + attrs + `,"data":{"node":"n","epoch":"e","safe":[[2]]}}`,
		"other node":        "{" + attrs + `,"data":{"node":"m","epoch":"e","safe":[]}}`,
		"protobuf":          "\x0a\x01a",
		"protobuf, cut":     "\x0a\xff",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.OpenReceipt([]byte(msg))
			var wrong *MalformedError
			require.ErrorAs(t, err, &wrong)
		})
	}
	_, err = o.OpenReceipt(make([]byte, 1025))
	var large *TooLargeError
	require.ErrorAs(t, err, &large)
}

// The promised number of records neither allocates memory nor hides a difference.
func TestCountIsHeldAgainstTheRecords(t *testing.T) {
	cfg := variant{FormJSON, CipherNone, "", CompressionNone, false}.config()
	msg, err := mustSealer(t, cfg).Seal(nil, goldenBatch())
	require.NoError(t, err)
	o := NewOpener(nil, Limits{MaxRecords: 10})
	for count, wanted := range map[string]any{"4": new(*MalformedError), "6": new(*MalformedError), "0": new(*MalformedError), "-1": new(*MalformedError), "11": new(*TooLargeError)} {
		var members map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(msg, &members))
		members["count"] = json.RawMessage(count)
		changed, err := json.Marshal(members)
		require.NoError(t, err)
		_, err = o.Open(changed)
		require.True(t, errors.As(err, wanted), fmt.Sprintf("count %s: %v", count, err))
	}
}
