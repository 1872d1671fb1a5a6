package seal

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const receiptAttributes = `"specversion":"1.0","type":"offload.receipt.v1","id":"r","source":"/offload/v1/cloud/n","subject":"n","time":"2026-01-02T03:04:05Z",` +
	`"datacontenttype":"application/json","cipher":"none"`

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A small compressed statement must not become a large one in memory, and its ranges are counted before they are kept.
func TestAStatementIsBoundedBeforeItIsUnpacked(t *testing.T) {
	pack, err := newCompressor(CompressionGzip, false, 4)
	require.NoError(t, err)
	for _, name := range []string{"safe", "gaps", "conflicts"} {
		plain := []byte(`{"node":"n","epoch":"e","` + name + `":[[1,1]` + strings.Repeat(",[1,1]", 11_000_000) + `]}`)
		packed, err := pack.pack(nil, plain)
		require.NoError(t, err)
		data, err := json.Marshal(packed)
		require.NoError(t, err)
		msg := []byte("{" + receiptAttributes + `,"contentencoding":"gzip","data_base64":` + string(data) + "}")
		require.Less(t, len(msg), 200_000)
		var openErr error
		spent := allocated(func() { _, openErr = NewOpener(nil, Limits{}).OpenReceipt(msg) })
		var large *TooLargeError
		require.ErrorAs(t, openErr, &large)
		require.Less(t, spent, uint64(24<<20), "%s: a receipt of %d bytes", name, len(msg))
	}
}

func TestRangesAreCountedWhileTheyAreRead(t *testing.T) {
	list := "[[1,1]" + strings.Repeat(",[1,1]", 200_000) + "]"
	for name, data := range map[string]string{
		"safe":      `{"node":"n","epoch":"e","safe":` + list + `}`,
		"gaps":      `{"node":"n","epoch":"e","gaps":` + list + `}`,
		"conflicts": `{"node":"n","epoch":"e","conflicts":` + list + `}`,
		"together":  `{"node":"n","epoch":"e","safe":[[1,1],[3,3]],"gaps":` + list + `}`,
		"one range": `{"node":"n","epoch":"e","safe":[[` + strings.Repeat("1,", 400_000) + `1]]}`,
	} {
		t.Run(name, func(t *testing.T) {
			msg := []byte("{" + receiptAttributes + `,"contentencoding":"none","data":` + data + "}")
			var err error
			spent := allocated(func() { _, err = NewOpener(nil, Limits{MaxRecords: 1000}).OpenReceipt(msg) })
			require.Error(t, err)
			if name != "one range" {
				require.ErrorContains(t, err, "ranges exceeds the limit of 1000", "how many there are is not known")
			}
			require.Less(t, spent, uint64(8*len(msg)))
		})
	}
	msg := []byte("{" + receiptAttributes + `,"contentencoding":"none","data":{"node":"n","epoch":"e","safe":` + list + `}}`)
	_, err := NewOpener(nil, Limits{MaxRecords: 200_001}).OpenReceipt(msg)
	require.NoError(t, err)
}

// A statement of 70 MB is rejected by its size, whatever its content.
func TestALargeStatementIsRefusedUnread(t *testing.T) {
	o := NewOpener(nil, Limits{})
	msg := []byte("{" + strings.Repeat(" ", 70<<20) + "}")
	for name, open := range map[string]func() error{
		"receipt":      func() error { _, err := o.OpenReceipt(msg); return err },
		"gone":         func() error { _, err := o.OpenGone(msg); return err },
		"announcement": func() error { _, err := o.OpenAnnouncement(msg); return err },
		"result":       func() error { _, err := o.OpenResult(msg); return err },
	} {
		var err error
		spent := allocated(func() { err = open() })
		var large *TooLargeError
		require.ErrorAs(t, err, &large, name)
		require.Less(t, spent, uint64(1<<20), name)
	}
}

// Quotations of a message in errors are short everywhere: such texts are kept and shown.
func TestErrorsAreShort(t *testing.T) {
	long := strings.Repeat("\x7f", 1<<20)
	quoted := fmt.Sprintf("%q", strings.Repeat("x", 1<<20))
	digits := strings.Repeat("7", 1<<20)
	o := NewOpener(nil, Limits{MaxMessageKiB: 8 << 10, MaxStatementKiB: 8 << 10})
	attrs := receiptAttributes + `,"contentencoding":"none"`
	for name, msg := range map[string]string{
		"id":        strings.Replace("{"+attrs+`,"data":{}}`, `"id":"r"`, `"id":"`+long+`"`, 1),
		"name":      "{" + attrs + `,"` + long + `":"x","data":{}}`,
		"count":     "{" + attrs + `,"count":` + digits + `,"data":{}}`,
		"text":      "{" + attrs + `,"epoch":` + digits + `,"data":{}}`,
		"time":      strings.Replace("{"+attrs+`,"data":{}}`, `2026-`, digits, 1),
		"source":    strings.Replace("{"+attrs+`,"data":{"node":"n"}}`, "cloud/n", "cloud/"+strings.Repeat("n", 4000), 1),
		"encoding":  "{" + receiptAttributes + `,"contentencoding":"` + strings.Repeat("z", 4000) + `","data":{}}`,
		"node":      "{" + attrs + `,"data":{"node":` + quoted + `}}`,
		"range":     "{" + attrs + `,"data":{"node":"n","safe":[[1,2,` + digits + `]]}}`,
		"number":    "{" + attrs + `,"data":{"node":"n","safe":[[` + digits + `,1]]}}`,
		"wrong":     "{" + attrs + `,"data":{"node":` + digits + `}}`,
		"limits":    "{" + attrs + `,"data":{"node":"n","limits":{"maxData":` + digits + `}}}`,
		"list":      "{" + attrs + `,"data":{"node":"n","safe":` + quoted + `}}`,
		"specially": strings.Replace("{"+attrs+`,"data":{}}`, "1.0", strings.Repeat("1", 4000), 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.OpenReceipt([]byte(msg))
			require.Error(t, err)
			require.Less(t, len(err.Error()), 2048)
		})
	}
	gone, err := mustSealer(t, variant{FormJSON, CipherNone, "", CompressionNone, false}.config()).SealGone(nil, &Gone{
		ID: "g", Node: "n", Epoch: "e", Created: goldenGone().Created, Ranges: []GoneRange{{Range{1, 1}, strings.Repeat("ä", 1<<16)}},
	})
	require.NoError(t, err)
	g, err := o.OpenGone(gone)
	require.NoError(t, err)
	require.Less(t, len(g.Ranges[0].Reason), 200)
}

func TestNegativeConsumerLimitsAreRefused(t *testing.T) {
	s, o := mustSealer(t, DefaultConfig()), NewOpener(testKeys, Limits{})
	for _, l := range []ConsumerLimits{{MaxMessage: -1}, {MaxData: -1}} {
		a := goldenAnnouncement()
		a.Limits = l
		msg, err := s.SealAnnouncement(nil, a)
		require.NoError(t, err)
		_, err = o.OpenAnnouncement(msg)
		require.Error(t, err, "%+v", l)
		r := goldenFullReceipt()
		r.Limits = l
		msg, err = s.SealReceipt(nil, r)
		require.NoError(t, err)
		_, err = o.OpenReceipt(msg)
		require.Error(t, err, "%+v", l)
	}
}

// The name of an attribute unknown to this format may have up to 64 bytes.
func TestNamesOfAttributesAreBounded(t *testing.T) {
	open := func(name string) error {
		msg := "{" + receiptAttributes + `,"contentencoding":"none","` + name + `":"x","data":{"node":"n","epoch":"e","safe":[[1,2]],"gaps":[]}}`
		_, err := NewOpener(nil, Limits{}).OpenReceipt([]byte(msg))
		return err
	}
	require.NoError(t, open("x"))
	require.NoError(t, open(strings.Repeat("x", 64)))
	var wrong *MalformedError
	require.ErrorAs(t, open(strings.Repeat("x", 65)), &wrong)
	require.ErrorContains(t, wrong, "attributes")
}

// A limit is the largest allowed size, whether configured or a consumer's.
func TestALimitItselfIsAllowed(t *testing.T) {
	for consumer, want := range map[int64]int{0: 1 << 10, 100: 100, 1 << 10: 1 << 10, 2 << 10: 1 << 10} {
		c := below(1<<10, "Seal.MaxMessageKiB", consumer)
		require.NoError(t, c.check("message", want))
		require.ErrorAs(t, c.check("message", want+1), new(*TooLargeError))
	}
}

// Base64 without repetitions still gets shorter by its redundancy.
func TestBase64IsPacked(t *testing.T) {
	c, err := newCompressor(CompressionZstd, false, 1)
	require.NoError(t, err)
	raw := make([]byte, 30_000)
	rand.NewChaCha8([32]byte{}).Read(raw)
	packed, err := c.pack(nil, []byte(base64.StdEncoding.EncodeToString(raw)))
	require.NoError(t, err)
	require.Less(t, len(packed), len(raw)*21/20)
}
