package seal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// pb encodes a protobuf message: numbers as varints, and strings.
func pb(fields ...any) (b []byte) {
	for i := 0; i < len(fields); i += 2 {
		num := protowire.Number(fields[i].(int))
		switch v := fields[i+1].(type) {
		case uint64:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), v)
		case int:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
		case int64:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
		case string:
			b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), v)
		case []byte:
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
		}
	}
	return b
}

// A protobuf value has one canonical text and one kind; two values, or one that does not fit, are rejected.
func TestValuesOfProtobuf(t *testing.T) {
	for name, row := range map[string]struct {
		value []byte
		kind  kind
		text  string
		bad   string
	}{
		"true":                   {pb(valueBoolean, 1), other, "true", ""},
		"false":                  {pb(valueBoolean, 0), other, "false", ""},
		"an integer":             {pb(valueInteger, 7), integer, "7", ""},
		"the least":              {pb(valueInteger, math.MinInt32), integer, "-2147483648", ""},
		"the greatest":           {pb(valueInteger, math.MaxInt32), integer, "2147483647", ""},
		"one more":               {pb(valueInteger, uint64(math.MaxInt32+1)), 0, "", "more than 32 bits"},
		"a text":                 {pb(valueString, "t"), text, "t", ""},
		"an empty one":           {pb(valueString, ""), text, "", ""},
		"bytes":                  {pb(valueBytes, []byte{0xff}), other, "/w==", ""},
		"an address":             {pb(valueURI, "u"), other, "u", ""},
		"a relative one":         {pb(valueURIRef, "r"), other, "r", ""},
		"a time":                 {pb(valueTimestamp, pb(timeSeconds, 1, timeNanos, 500_000_000)), timestamp, "1970-01-01T00:00:01.5Z", ""},
		"the first time":         {pb(valueTimestamp, pb(timeSeconds, int64(minSeconds))), timestamp, "0001-01-01T00:00:00Z", ""},
		"the last time":          {pb(valueTimestamp, pb(timeSeconds, int64(maxSeconds), timeNanos, 999_999_999)), timestamp, "9999-12-31T23:59:59.999999999Z", ""},
		"before the first":       {pb(valueTimestamp, pb(timeSeconds, int64(minSeconds-1))), 0, "", "is not a time"},
		"after the last":         {pb(valueTimestamp, pb(timeSeconds, int64(maxSeconds+1))), 0, "", "is not a time"},
		"a second of ns":         {pb(valueTimestamp, pb(timeNanos, int(time.Second))), 0, "", "is not a time"},
		"two seconds":            {pb(valueTimestamp, pb(timeSeconds, 1, timeSeconds, 2)), 0, "", "unexpected field 1 of a time"},
		"a time with more":       {pb(valueTimestamp, pb(3, 1)), 0, "", "unexpected field 3 of a time"},
		"a time with text":       {pb(valueTimestamp, pb(timeSeconds, "1")), 0, "", "unexpected field 1 of a time"},
		"nothing":                {nil, 0, "", "a value has 0 fields instead of one"},
		"two things":             {pb(valueInteger, 1, valueInteger, 1), 0, "", "a value has 2 fields instead of one"},
		"a text as integer":      {pb(valueInteger, "7"), 0, "", "unexpected field 2 of a value"},
		"an integer as text":     {pb(valueString, 7), 0, "", "unexpected field 3 of a value"},
		"a kind of later":        {pb(valueTimestamp+1, "x"), 0, "", "unexpected field 8 of a value"},
		"a fixed number":         {protowire.AppendFixed32(protowire.AppendTag(nil, valueInteger, protowire.Fixed32Type), 7), 0, "", "wire type 5"},
		"a number that is cut":   {[]byte{valueInteger << 3, 0x80}, 0, "", "unexpected EOF"},
		"a text that is cut":     {[]byte{valueString<<3 | 2, 5, 'a'}, 0, "", "unexpected EOF"},
		"a tag that is cut":      {[]byte{0x80}, 0, "", "unexpected EOF"},
		"a field without number": {[]byte{0, 1}, 0, "", "invalid field number"},
	} {
		kind, have, err := parseValue(row.value)
		if row.bad != "" {
			require.ErrorContains(t, err, row.bad, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, row.kind, kind, name)
		require.Equal(t, row.text, have, name)
	}
}

// An attribute is one name and one value of the kind that the format defines.
func TestAttributesOfProtobuf(t *testing.T) {
	word := pb(valueString, "w")
	for name, row := range map[string]struct {
		entry []byte
		bad   string
	}{
		"one of each":             {pb(entryName, "n", entryValue, word), ""},
		"in the other order":      {pb(entryValue, word, entryName, "n"), ""},
		"ours":                    {pb(entryName, "count", entryValue, pb(valueInteger, 1)), ""},
		"ours of another kind":    {pb(entryName, "count", entryValue, word), "count has the wrong type"},
		"text of another kind":    {pb(entryName, "epoch", entryValue, pb(valueBytes, "w")), "epoch has the wrong type"},
		"another's of any kind":   {pb(entryName, "x", entryValue, pb(valueBytes, "w")), ""},
		"no value":                {pb(entryName, "n"), "not one name and one value"},
		"no name":                 {pb(entryValue, word), "not one name and one value"},
		"two names":               {pb(entryName, "n", entryName, "n", entryValue, word), "not one name and one value"},
		"two values":              {pb(entryName, "n", entryValue, word, entryValue, word), "not one name and one value"},
		"something else":          {pb(3, "n"), "unexpected field 3 of an attribute"},
		"a number for a name":     {pb(entryName, 1, entryValue, word), "unexpected field 1 of an attribute"},
		"a value that is no good": {pb(entryName, "n", entryValue, []byte{}), "a value has 0 fields instead of one"},
	} {
		_, err := parseEntry(row.entry)
		if row.bad != "" {
			require.ErrorContains(t, err, row.bad, name)
			continue
		}
		require.NoError(t, err, name)
	}
}

// A message has a maximum number of attributes, its data once, and nothing that is foreign to its form.
func TestMessagesThatCannotBeTakenApart(t *testing.T) {
	word := pb(valueString, "w")
	attributes := func(n int) (b []byte) {
		for i := range n {
			b = append(b, pb(ceAttributes, pb(entryName, fmt.Sprint("a", i), entryValue, word))...)
		}
		return b
	}
	head := pb(ceSpecVersion, "1.0", ceBinaryData, "d")
	members := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"a%d":"w"`, i)
		}
		return b.String()
	}
	for name, row := range map[string]struct {
		msg []byte
		bad string
	}{
		"protobuf, as many as may be": {append(attributes(maxAttributes-1), head...), ""},
		"protobuf, one more":          {append(attributes(maxAttributes), head...), "more than 64 attributes"},
		"protobuf, without data":      {pb(ceSpecVersion, "1.0"), "missing binary_data"},
		"protobuf, data twice":        {append(pb(ceBinaryData, "e"), head...), "unexpected field 6"},
		"protobuf, text data":         {append(pb(8, "e"), head...), "unexpected field 8"},
		"protobuf, a number":          {append(pb(ceID, 1), head...), "unexpected field 1"},
		"protobuf, of version 2":      {pb(ceSpecVersion, "2.0", ceBinaryData, "d"), `specversion "2.0" is not 1.0`},
		"protobuf, a name twice":      {append(pb(ceSpecVersion, "1.0"), head...), `duplicate attribute "specversion"`},
		"nothing":                     {nil, "missing binary_data"},
		"JSON, as many as may be":     {[]byte(`{"specversion":"1.0","data":1` + members(maxAttributes-1) + `}`), ""},
		"JSON, one more":              {[]byte(`{"specversion":"1.0","data":1` + members(maxAttributes) + `}`), "more than 64 attributes"},
		"JSON, without data":          {[]byte(`{"specversion":"1.0"}`), "neither data nor data_base64"},
		"JSON, data twice":            {[]byte(`{"specversion":"1.0","data":1,"data_base64":""}`), "duplicate data"},
		"JSON, base64 of nothing":     {[]byte(`{"specversion":"1.0","data_base64":""}`), ""},
		"JSON, base64 is a number":    {[]byte(`{"specversion":"1.0","data_base64":7}`), "cannot unmarshal number"},
		"JSON, base64 with a break":   {[]byte(`{"specversion":"1.0","data_base64":"QU\nFB"}`), "line breaks"},
		"JSON, base64 of more bits":   {[]byte(`{"specversion":"1.0","data_base64":"QR=="}`), "illegal base64"},
		"JSON, no UTF-8":              {[]byte("{\"specversion\":\"1.0\",\"data\":\"\xff\"}"), "not UTF-8"},
		"JSON, cut short":             {[]byte(`{"specversion":"1.0","data":1`), errNotJSON.Error()},
		"JSON, a count as text":       {[]byte(`{"specversion":"1.0","data":1,"count":"1"}`), "is not an integer of 32 bits"},
		"JSON, a count too large":     {[]byte(`{"specversion":"1.0","data":1,"count":2147483648}`), "is not an integer of 32 bits"},
		"JSON, another spelling":      {[]byte(`{"specversion":"1.0","data":1,"count":1.0}`), "is not an integer of 32 bits"},
		"JSON, an id as a number":     {[]byte(`{"specversion":"1.0","data":1,"id":1}`), "id = 1 is not text"},
		"JSON, another's number":      {[]byte(`{"specversion":"1.0","data":1,"x":1}`), ""},
		"JSON, a time of day":         {[]byte(`{"specversion":"1.0","data":1,"time":"12:00"}`), "is not in UTC with the fewest digits"},
	} {
		_, err := parse(row.msg)
		if row.bad != "" {
			require.ErrorContains(t, err, row.bad, name)
			require.ErrorAs(t, err, new(*MalformedError), name)
			continue
		}
		require.NoError(t, err, name)
	}
}

// A batch has as many records as its attributes promise, and damage is rejected wherever it is.
func TestBatchesThatCannotBeRead(t *testing.T) {
	sequences := func(n int) (b []byte) {
		for range n {
			b = protowire.AppendVarint(b, protowire.EncodeZigZag(1))
		}
		return b
	}
	good := pb(fieldNode, "n", fieldEpoch, "e", fieldSequences, sequences(2), fieldTasks, "a", fieldTasks, "b", 9, "later", 10, 7)
	for name, row := range map[string]struct {
		data []byte
		bad  string
	}{
		"as it should be":         {good, ""},
		"a third record":          {append(bytes.Clone(good), pb(fieldTasks, "c")...), "more than the 2 tasks"},
		"a third sequence":        {append(bytes.Clone(good), pb(fieldSequences, sequences(1))...), "more than the 2 sequences"},
		"a sequence that is cut":  {pb(fieldSequences, []byte{2, 0x80}), "malformed sequences: unexpected EOF"},
		"another node":            {pb(fieldNode, "m"), `"m" differs from its attributes, node "n" and epoch "e"`},
		"another epoch":           {pb(fieldEpoch, "f"), `"f" differs from its attributes, node "n" and epoch "e"`},
		"a tag that is cut":       {append(bytes.Clone(good), 0x80), "malformed batch: unexpected EOF"},
		"a record that is cut":    {append(bytes.Clone(good), 9<<3|2, 5), "malformed batch: unexpected EOF"},
		"a node that is a number": {append(pb(fieldNode, 5), good...), ""}, // a field of a later version, that has its number alone
	} {
		b := &Batch{Node: "n", Epoch: "e"}
		err := b.readProtobuf(row.data, 2)
		if row.bad != "" {
			require.ErrorContains(t, err, row.bad, name)
			continue
		}
		require.NoError(t, err, name)
		require.Equal(t, []uint64{1, 2}, b.Sequences, name)
		require.Equal(t, [][]byte{[]byte("a"), []byte("b")}, b.Tasks, name)
	}
	for text, ok := range map[string]bool{
		"00000000000000000007": true, "18446744073709551615": true, "7": false, "000000000000000000007": false,
		"18446744073709551616": false, "0000000000000000000x": false, "": false,
	} {
		_, err := parseSequence("floor", text)
		require.Equal(t, ok, err == nil, text)
	}
}

// An error says what is wrong, with sizes and limits, and the limit's owner if known.
func TestErrorsSayWhatIsWrong(t *testing.T) {
	inner := errors.New("inner")
	for want, err := range map[string]error{
		"data exceeds the limit of 5":                          &TooLargeError{What: "data", Size: -1, Limit: 5},
		"message of 9 bytes exceeds MaxMessageKiB of 5":        &TooLargeError{What: "message", Size: 9, Limit: 5, Whose: "MaxMessageKiB"},
		"records of 9 exceeds the limit of 5":                  &TooLargeError{What: "records", Size: 9, Limit: 5},
		"message of 0 exceeds the limit of 0":                  &TooLargeError{What: "message"},
		`key "k" is not available`:                             &UnknownKeyError{KeyID: "k"},
		`key "k" is not available: inner`:                      &UnknownKeyError{"k", inner},
		"malformed batch":                                      &MalformedError{What: "batch"},
		"malformed batch: inner":                               &MalformedError{"batch", inner},
		`key "k" has sealed 7 messages: rotate it`:             &ExhaustedError{"k", 7},
		"malformed x: " + strings.Repeat("ä", 64) + "…":        malformedf("x", "%s", strings.Repeat("ä", 65)),
		"malformed x: " + strings.Repeat("b", maxQuoted):       malformedf("x", "%s", []byte(strings.Repeat("b", maxQuoted))),
		"malformed x: " + strings.Repeat("e", maxErrorText):    malformed("x", errors.New(strings.Repeat("e", maxErrorText))),
		"malformed x: " + strings.Repeat("e", maxQuoted) + "…": malformed("x", errors.New(strings.Repeat("e", maxErrorText+1))),
	} {
		require.EqualError(t, err, want)
	}
	require.ErrorIs(t, &UnknownKeyError{"k", inner}, inner)
	require.ErrorIs(t, &MalformedError{"batch", inner}, inner)
}

// A range is two numbers in order, and includes both of its ends.
func TestRangesInJSON(t *testing.T) {
	for text, want := range map[string]*Range{
		`[1,3]`: {1, 3}, ` [ 0 , 18446744073709551615 ] `: {0, math.MaxUint64}, `[7,7]`: {7, 7},
		`[3,1]`: nil, `[1]`: nil, `[]`: nil, `[1,2,3]`: nil, `{"first":1,"last":2}`: nil, `[1,"2"]`: nil, `[-1,2]`: nil, `1`: nil,
	} {
		var r Range
		if err := json.Unmarshal([]byte(text), &r); want == nil {
			require.Error(t, err, text)
			continue
		} else {
			require.NoError(t, err, text)
		}
		require.Equal(t, *want, r)
		raw, err := json.Marshal(r)
		require.NoError(t, err)
		require.Equal(t, string(rawRanges([]Range{r})), "["+string(raw)+"]")
	}
	require.EqualValues(t, 3, Range{1, 3}.Len())
	require.EqualValues(t, 1, Range{7, 7}.Len())
	require.Equal(t, "[]", string(rawRanges(nil)))
	require.Equal(t, "[[1,2],[4,5]]", string(rawRanges([]Range{{1, 2}, {4, 5}})))
}

func TestTopicsOfANode(t *testing.T) {
	require.Equal(t, []string{
		"offload/v1/n/batch/c", "offload/v1/n/gone", "offload/v1/n/confirm", "offload/v1/n/receipt", "offload/v1/n/result",
	}, []string{BatchTopic("n", "c"), GoneTopic("n"), ConfirmTopic("n"), ReceiptTopic("n"), ResultTopic("n")})
	for name, ok := range map[string]bool{"n": true, "a b": true, "ä": true, "": false, "a\n": false, "\xff": false, "\ufffd": false} {
		require.Equal(t, ok, IsText(name), "%q", name)
	}
}

// A statement that a sealer rejects is also rejected by a reader, however it was sealed.
func TestStatementsAreCheckedOnBothSides(t *testing.T) {
	s, o := mustSealer(t, DefaultConfig()), NewOpener(testKeys, Limits{MaxRecords: 3})
	now := time.Now()
	for name, seal := range map[string]func() ([]byte, error){
		"a receipt without an id": func() ([]byte, error) { return s.SealReceipt(nil, &Receipt{Node: "n", Created: now}) },
		"a receipt for no node":   func() ([]byte, error) { return s.SealReceipt(nil, &Receipt{ID: "i", Created: now}) },
		"gone in the year 10000": func() ([]byte, error) {
			return s.SealGone(nil, &Gone{ID: "i", Node: "n", Created: time.Unix(maxSeconds+1, 0)})
		},
		"a result of the year 10000": func() ([]byte, error) {
			return s.SealResult(nil, &Result{ID: "i", Node: "n", Created: now, Completed: time.Unix(maxSeconds+1, 0)})
		},
		"a confirmation of no result": func() ([]byte, error) {
			return s.SealConfirmation(nil, &Confirmation{ID: "i", Node: "n", Created: now, Results: []ConfirmedResult{{ID: "r"}, {}}})
		},
		"an announcement of a bad name": func() ([]byte, error) {
			return s.SealAnnouncement(nil, &Announcement{ID: "i", Consumer: "a\n", Created: now})
		},
	} {
		msg, err := seal()
		require.ErrorAs(t, err, new(*MalformedError), name)
		require.Empty(t, msg, name)
	}

	confirmed := &Confirmation{ID: "i", Node: "n", Created: now.UTC(), Results: []ConfirmedResult{{ID: "r1"}, {ID: "r2", Refused: strings.Repeat("x", 200)}, {ID: "r3"}}}
	msg, err := s.SealConfirmation(nil, confirmed)
	require.NoError(t, err)
	back, err := o.OpenConfirmation(msg)
	require.NoError(t, err)
	require.Equal(t, shorten(confirmed.Results[1].Refused), back.Results[1].Refused)
	require.Len(t, back.Results, 3)
	confirmed.Results = append(confirmed.Results, ConfirmedResult{ID: "r4"})
	msg, err = s.SealConfirmation(nil, confirmed)
	require.NoError(t, err)
	_, err = o.OpenConfirmation(msg)
	require.ErrorAs(t, err, new(*TooLargeError))

	for body, bad := range map[string]string{
		`[{"id":"r\u0001"}]`: "the id of a result is not printable UTF-8", `[{"id":7}]`: "malformed statement", `{}`: "malformed statement", `null`: "",
	} {
		msg, err := s.state(nil, statement{typeConfirm, "i", nodeSource("n"), "n", now}, confirmationBody[json.RawMessage]{"n", json.RawMessage(body)})
		require.NoError(t, err)
		if _, err = o.OpenConfirmation(msg); bad != "" {
			require.ErrorContains(t, err, bad, body)
			continue
		}
		require.NoError(t, err)
	}
	for body, bad := range map[string]string{
		`[{"first":3,"last":2}]`: "[3, 2] ends before it begins", `[{"first":2,"last":2,"reason":"r"}]`: "", `7`: "malformed statement",
	} {
		msg, err := s.state(nil, statement{typeGone, "i", nodeSource("n"), "n", now}, goneBody[json.RawMessage]{"n", "e", json.RawMessage(body)})
		require.NoError(t, err)
		g, err := o.OpenGone(msg)
		if bad != "" {
			require.ErrorContains(t, err, bad, body)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, []GoneRange{{Range{2, 2}, "r"}}, g.Ranges)
	}
}
