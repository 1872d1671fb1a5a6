package parse

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"

	"app-offload/functions/task"
)

// words calls with every text of at most n characters of an alphabet.
func words(alphabet string, n int, call func(string)) {
	texts := []string{""}
	for range n + 1 {
		var longer []string
		for _, text := range texts {
			call(text)
			for _, c := range alphabet {
				longer = append(longer, text+string(c))
			}
		}
		texts = longer
	}
}

// Unknown members of an event are skipped exactly if they are valid JSON.
func TestWhatIsPassedOverIsJSON(t *testing.T) {
	skip := func(text string) bool {
		p := parser{b: []byte(text), maxDepth: 32}
		return p.jsonSkip() && p.i == len(text)
	}
	same := func(text string) {
		valid := json.Valid([]byte(text)) && !strings.ContainsAny(text[:min(1, len(text))]+text[max(len(text)-1, 0):], " ")
		if skip(text) != valid {
			t.Fatalf("%q passes %v, valid %v", text, !valid, valid)
		}
	}
	words(`01-+.eE`, 4, same)
	words(`{}[]":,1 `, 4, same)
	for _, word := range []string{"true", "false", "null", `{"a":true,"b":[false,null]}`, `"\u00e9\ud83d\ude00\n\"\\\/\b\f\r\t"`, `[1.5e-3,-0,{"a":{}}]`} {
		for i := range word {
			same(word[:i])
			same(word[i:])
			same(word[:i] + word[i+1:])
			for _, c := range "x\"\\u0}],e\x1f" {
				same(word[:i] + string(c) + word[i:])
				same(word[:i] + string(c) + word[i+1:])
			}
		}
		same(word)
	}
	long := strings.Repeat("9", 308)
	require.True(t, skip(long), "308 digits are within a float64")
	require.True(t, skip("0."+long+long), "digits behind the point are no matter of range")
	require.False(t, skip(long+long), "616 digits are not")
	require.False(t, skip("1e309"))
	require.True(t, skip("1E+308"))
}

// Every byte, at every distance from the begin of a string and from its end, alone and behind others, is read as encoding/json reads it.
func TestEveryByteOfAString(t *testing.T) {
	for c := range 256 {
		for before := range 10 {
			for _, after := range []int{0, 1, 6, 8} {
				for _, content := range []string{string([]byte{byte(c)}), "\\" + string([]byte{byte(c)}), "é" + string([]byte{byte(c)})} {
					text := `"` + strings.Repeat("a", before) + content + strings.Repeat("b", after) + `"`
					p := parser{b: []byte(text)}
					s, ok := p.jsonString()
					ok = ok && p.i == len(text)
					var want string
					valid := json.Unmarshal([]byte(text), &want) == nil && utf8.ValidString(text)
					if ok != valid || ok && string(p.text(s)) != want {
						t.Fatalf("%q: taken %v as %q, want %v %q", text, ok, p.text(s), valid, want)
					}
				}
			}
		}
	}
}

func TestEscapesAreResolvedAsInEncodingJSON(t *testing.T) {
	parts := []string{`\ud83d`, `\ude00`, `\u0041`, `\uD83D`, `\u00e9`, `\uffff`, `\u12`, `\u`, `\u+123`, `\u_123`, `\u0_12`, `\n`, `\\`, `u`, `a`, `de00`, ``}
	for _, a := range parts {
		for _, b := range parts {
			for _, c := range parts {
				text := `"` + a + b + c + `"`
				var want string
				valid := json.Unmarshal([]byte(text), &want) == nil
				p := parser{b: []byte(text)}
				s, ok := p.jsonString()
				require.Equal(t, valid, ok && p.i == len(text), text)
				if valid {
					require.Equal(t, want, string(p.text(s)), text)
				}
			}
		}
	}
}

func TestAWholeNumberIsOneOfEncodingJSON(t *testing.T) {
	same := func(text string) {
		var want int64
		valid := json.Unmarshal([]byte(text), &want) == nil
		p := parser{b: []byte(text)}
		n, ok := p.wholeNumber()
		if ok = ok && p.i == len(text); ok != valid || ok && n != want {
			t.Fatalf("%q: taken %v as %d, want %v %d", text, ok, n, valid, want)
		}
	}
	words("019-+.eE", 4, same)
	for _, n := range []string{"9223372036854775806", "9223372036854775807", "9223372036854775808", "9999999999999999999", "18446744073709551616", "10000000000000000000"} {
		same(n)
		same("-" + n)
		same("0" + n)
	}
}

func TestBase64IsWhatEdgeXDecodes(t *testing.T) {
	same := func(text string) {
		_, err := base64.StdEncoding.DecodeString(text)
		if isBase64([]byte(text)) != (err == nil) {
			t.Fatalf("%q: %v", text, err)
		}
	}
	words("A/=\n\r*", 5, same)
	for c := range 256 {
		same("AAAA" + string([]byte{byte(c)}) + "AAA")
	}
}

func TestOnlyLowerCaseUUIDsAreIDs(t *testing.T) {
	const id = "82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc"
	require.True(t, isUUID([]byte(id)))
	require.False(t, isUUID([]byte(id[1:])))
	require.False(t, isUUID([]byte(id+"0")))
	for i := range id {
		for c := range 256 {
			changed := []byte(id)
			changed[i] = byte(c)
			want := strings.ContainsRune("0123456789abcdef", rune(c))
			if id[i] == '-' {
				want = c == '-'
			}
			require.Equal(t, want, isUUID(changed), "%q", changed)
		}
	}
}

// inCBOR writes a JSON text as CBOR with the same names in the same order, including duplicates. Lengths are definite or not.
func inCBOR(t testing.TB, text string, indefinite bool) []byte {
	from := json.NewDecoder(strings.NewReader(text))
	from.UseNumber()
	var value func(token json.Token) []byte
	head := func(major byte, n int) []byte {
		if indefinite && major >= cborArray {
			return []byte{major<<5 | 31}
		}
		return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
	}
	value = func(token json.Token) []byte {
		switch token := token.(type) {
		case json.Delim:
			var body []byte
			n := 0
			for ; from.More(); n++ {
				token, err := from.Token()
				require.NoError(t, err)
				body = append(body, value(token)...)
			}
			_, err := from.Token()
			require.NoError(t, err)
			if indefinite {
				body = append(body, cborBreak)
			}
			if token == '{' {
				return append(head(cborMap, n/2), body...)
			}
			return append(head(cborArray, n), body...)
		case string:
			return append(head(cborText, len(token)), token...)
		case json.Number:
			if n, err := token.Int64(); err == nil {
				return must(cbor.Marshal(n))(t)
			}
			f, err := token.Float64()
			require.NoError(t, err)
			return must(cbor.Marshal(f))(t)
		}
		return must(cbor.Marshal(token))(t)
	}
	token, err := from.Token()
	require.NoError(t, err)
	out := value(token)
	rest, err := io.ReadAll(from.Buffered())
	require.NoError(t, err)
	return append(out, rest...)
}

func must(b []byte, err error) func(testing.TB) []byte {
	return func(t testing.TB) []byte {
		require.NoError(t, err)
		return b
	}
}

// An event with one fault is rejected for the same reason in both encodings, with definite and indefinite lengths.
func TestRejectionsAreTheSameInCBOR(t *testing.T) {
	tried := 0
	for _, c := range rejections {
		if strings.Contains(c.json, "binaryValue") || c.name == "fraction" || c.name == "byte order mark" || c.name == "not UTF-8" ||
			!json.Valid([]byte(strings.TrimSuffix(c.json, "x"))) || c.name == "number no float64 holds" || c.name == "over 64 bits" {
			continue // these have no counterpart
		}
		for _, indefinite := range []bool{false, true} {
			_, err := Parse(inCBOR(t, c.json, indefinite), ContentTypeCBOR)
			var rejected *RejectError
			require.ErrorAs(t, err, &rejected, c.name)
			require.Equal(t, c.reason, rejected.Reason, "%s: %s", c.name, rejected.Detail)
			tried++
		}
	}
	require.Greater(t, tried, 50)
	for _, indefinite := range []bool{false, true} {
		good := inCBOR(t, `{"apiVersion":"v3","requestId":"","event":`+small+`,"x":[{"y":[]},{}],"z":null}`, indefinite)
		require.True(t, compare(t, good, ContentTypeCBOR))
	}
}

// An event that is truncated anywhere, or has one byte more, is malformed in either encoding.
func TestEveryPartOfAnEventIsMalformed(t *testing.T) {
	text := `{"apiVersion":"v3","requestId":"","event":` + small[:len(small)-1] + `,"tags":{"a":[1,-2,300,70000,5000000000,1.5],"b":null,"c":{"d":true}}},"x":[1]}`
	for name, c := range map[string]struct {
		payload     []byte
		contentType string
	}{
		"json":              {[]byte(text), ContentTypeJSON},
		"cbor":              {inCBOR(t, text, false), ContentTypeCBOR},
		"cbor, indefinite":  {inCBOR(t, text, true), ContentTypeCBOR},
		"cbor, in pieces":   {smallCBOR("String", item("value", 0x7f, "ab", "cd", 0xff)), ContentTypeCBOR},
		"cbor, a long head": {smallCBOR("Object", item("objectValue", 0x9a, 0, 0, 0, 1, 0xd9, 1, 0, 0xf9, 0x3c, 0)), ContentTypeCBOR},
	} {
		require.True(t, compare(t, c.payload, c.contentType), name)
		for i := range c.payload {
			_, err := Parse(c.payload[:i:i], c.contentType)
			var rejected *RejectError
			require.ErrorAs(t, err, &rejected, "%s of %d bytes", name, i)
			require.Equal(t, ReasonMalformed, rejected.Reason, "%s of %d bytes: %s", name, i, rejected.Detail)
		}
		_, err := Parse(append(slices.Clip(c.payload), '1'), c.contentType)
		require.ErrorContains(t, err, "trailing data", name)
	}
}

// A duplicate name is detected at any positions among any number of others.
func TestANameTwiceIsNoticedAmongMany(t *testing.T) {
	const most = 12
	for n := 2; n <= most; n++ {
		for i := range n {
			for k := range i {
				var fields []string
				for j := range n {
					fields = append(fields, fmt.Sprintf(`"n%02d":%d`, j, j))
				}
				list := strings.Join(fields, ",")
				twice := strings.Replace(list, fmt.Sprintf(`"n%02d"`, i), fmt.Sprintf(`"n%02d"`, k), 1)
				for _, form := range []string{`{%s,`, `{"tags":{%s},`, `{"x":{%s},`} {
					good := strings.Replace(small, `{`, fmt.Sprintf(form, list), 1)
					bad := strings.Replace(small, `{`, fmt.Sprintf(form, twice), 1)
					if i == 1 {
						require.NoError(t, second(Parse([]byte(good), ContentTypeJSON)))
						require.NoError(t, second(Parse(inCBOR(t, good, false), ContentTypeCBOR)))
					}
					require.ErrorContains(t, second(Parse([]byte(bad), ContentTypeJSON)), ReasonDuplicate)
					require.ErrorContains(t, second(Parse(inCBOR(t, bad, false), ContentTypeCBOR)), ReasonDuplicate)
				}
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Depth counts the levels open at one time, of any kind; closed ones do not count.
func TestDepthIsThatOfTheDeepestPlace(t *testing.T) {
	limits := Limits{Bytes: 1 << 20, Depth: 6}
	open := map[string][2]string{"array": {"[", "]"}, "object": {`{"a":`, "}"}, "array of two": {"[{},[],", "]"}}
	for name, o := range open {
		for depth := 1; depth <= 8; depth++ {
			inner := strings.Repeat(o[0], depth) + "1" + strings.Repeat(o[1], depth)
			inObject := strings.Replace(reading(`"valueType":"Object","objectValue":`+inner), "{", `{"x":[[],{}],`, 1)
			for place, c := range map[string]struct {
				text  string
				above int // levels around
			}{
				"unknown":    {strings.Replace(small, "{", `{"x":`+inner+`,`, 1), 1},
				"tags":       {strings.Replace(small, "{", `{"tags":{"t":`+inner+`},`, 1), 2},
				"reading":    {inObject, 3},
				"in request": {`{"apiVersion":"v3","event":` + inObject + `}`, 4},
			} {
				deepest := c.above + depth
				if name == "array of two" && place != "" {
					deepest = c.above + depth + 1 // {} and [] within the innermost
				}
				for encoding, payload := range map[string][]byte{
					ContentTypeJSON: []byte(c.text), ContentTypeCBOR: inCBOR(t, c.text, false), ContentTypeCBOR + " ": inCBOR(t, c.text, true),
				} {
					_, err := limits.Parse(payload, strings.TrimSpace(encoding))
					what := fmt.Sprint(name, " ", depth, " deep in ", place, " as ", encoding)
					if max(deepest, 3) <= limits.Depth {
						require.NoError(t, err, what)
					} else {
						require.ErrorContains(t, err, ReasonTooDeep, what)
					}
				}
			}
		}
	}
	for of := 1; of <= 5; of++ { // tags around a number in CBOR are levels as well
		payload := smallCBOR("Object", item("objectValue", bytes.Repeat([]byte{0xc6}, of), 1))
		_, err := limits.Parse(payload, ContentTypeCBOR)
		require.Equal(t, of <= 3, err == nil, "%d tags: %v", of, err)
	}
}

// The size of one array or map is bounded as in EdgeX's decoder, whether its length is definite or not.
func TestMembersAreBounded(t *testing.T) {
	for _, c := range []struct {
		n    int
		good bool
	}{{cborMaxMembers, true}, {cborMaxMembers + 1, false}} {
		array := bytes.Repeat([]byte{1}, c.n)
		given := binary.BigEndian.AppendUint32([]byte{0x9a}, uint32(c.n))
		names := make([]byte, 0, 6*c.n)
		for i := range c.n {
			names = append(binary.BigEndian.AppendUint32(append(names, 0x1a), uint32(i)), 1) // whole numbers
		}
		for name, value := range map[string][]byte{
			"array": slices.Concat(given, array), "array without a length": slices.Concat([]byte{0x9f}, array, []byte{0xff}),
			"map":                  slices.Concat(binary.BigEndian.AppendUint32([]byte{0xba}, uint32(c.n)), names),
			"map without a length": slices.Concat([]byte{0xbf}, names, []byte{0xff}),
		} {
			if c.good && strings.HasPrefix(name, "map") {
				continue // the same count; noticing a name twice takes a while
			}
			_, err := Parse(smallCBOR("Object", item("objectValue", value)), ContentTypeCBOR)
			if c.good {
				require.NoError(t, err, name)
				continue
			}
			require.ErrorContains(t, err, ReasonTooLarge, name)
		}
	}
}

// The forms that only CBOR has, with the reason of their rejection; "" is accepted.
func TestFormsOfCBOR(t *testing.T) {
	object := func(parts ...any) []byte { return smallCBOR("Object", append(item("objectValue"), item(parts...)...)) }
	text := func(parts ...any) []byte { return smallCBOR("String", append(item("value"), item(parts...)...)) }
	for _, c := range []struct {
		name    string
		payload []byte
		reason  string
	}{
		{"a text in pieces", text(0x7f, "ab", "", "cd", 0xff), ""},
		{"no pieces", text(0x7f, 0xff), ""},
		{"a piece in pieces", text(0x7f, 0x7f, "a", 0xff, 0xff), ReasonMalformed},
		{"a piece of bytes", text(0x7f, 0x41, 1, 0xff), ReasonMalformed},
		{"a piece that is not UTF-8", text(0x7f, 0x61, 0xff, 0xff), ReasonEncoding},
		{"half a character in a piece", text(0x7f, 0x61, 0xc3, 0x61, 0xa9, 0xff), ReasonEncoding},
		{"a piece longer than the rest", text(0x7f, 0x79, 0xff, 0xff), ReasonMalformed},
		{"a text of bytes", text(0x41, 1), ReasonWrongType},
		{"null", text(0xf6), ""},
		{"undefined", text(0xf7), ""},
		{"a break", text(0xff), ReasonWrongType},
		{"a simple value", object(0xe0), ""},
		{"a simple value in two bytes", object(0xf8, 32), ""},
		{"a small one in two bytes", object(0xf8, 31), ReasonMalformed},
		{"floats", object(0x83, 0xf9, 0x3c, 0, 0xfa, 0, 0, 0, 0, 0xfb, 0, 0, 0, 0, 0, 0, 0, 0), ""},
		{"whole numbers", object(0x86, 23, 0x18, 24, 0x19, 1, 0, 0x1a, 0, 1, 0, 0, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0, 0x37), ""},
		{"reserved heads", object(0x1c), ReasonMalformed},
		{"a number without an end", object(0x1f), ReasonMalformed},
		{"a negative one", object(0x3f), ReasonMalformed},
		{"a tag without a number", object(0xdf, 1), ReasonMalformed},
		{"a break as a value", object(0xff), ReasonMalformed},
		{"a break as a member's value", object(0xbf, "a", 0xff), ReasonMalformed},
		{"a text of a time", object(0xc0, "2020"), ReasonWrongType},
		{"a time", object(0xc1, 1), ReasonWrongType},
		{"a big number", object(0xc2, 0x41, 1), ""},
		{"a negative big number", object(0xc3, 0x41, 1), ""},
		{"a big number of text", object(0xc2, "1"), ReasonMalformed},
		{"a negative big number of text", object(0xc3, "1"), ReasonMalformed},
		{"any other tag", object(0xc6, "1"), ""},
		{"names of whole numbers", object(0xa2, 1, 1, 0x20, 1), ""},
		{"a number as a name twice", object(0xa2, 1, 1, 1, 1), ReasonDuplicate},
		{"a name of bytes", object(0xa1, 0x41, 1, 1), ReasonMalformed},
		{"a name in pieces twice", object(0xa2, 0x7f, "a", "b", 0xff, 1, "ab", 1), ReasonDuplicate},
		{"an array longer than the rest", object(0x98, 200), ReasonMalformed},
		{"a map longer than the rest", object(0xb8, 3, "a", 1), ReasonMalformed},
	} {
		_, err := Parse(c.payload, ContentTypeCBOR)
		if c.reason == "" {
			require.NoError(t, err, c.name)
			require.True(t, compare(t, c.payload, ContentTypeCBOR), c.name)
			continue
		}
		var rejected *RejectError
		require.ErrorAs(t, err, &rejected, c.name)
		require.Equal(t, c.reason, rejected.Reason, "%s: %s", c.name, rejected.Detail)
	}
	for origin, want := range map[string]int64{
		"\x01": 1, "\x20": -1, "\x38\xff": -256, "\x1b\x7f\xff\xff\xff\xff\xff\xff\xff": 1<<63 - 1, "\x3b\x7f\xff\xff\xff\xff\xff\xff\xff": -1 << 63,
		"\x1b\x80\x00\x00\x00\x00\x00\x00\x00": 0, "\x3b\x80\x00\x00\x00\x00\x00\x00\x00": 0, "\x61a": 0, "\xf9\x3c\x00": 0,
	} {
		payload := bytes.Replace(smallCBOR("Int8", item("value", "1")), []byte("\x66origin\x1b\x18\x00\x00\x00\x00\x00\x00\x00"), []byte("\x66origin"+origin), 1)
		ev, err := Parse(payload, ContentTypeCBOR)
		if want == 0 {
			require.ErrorContains(t, err, ReasonWrongType, "%q", origin)
			continue
		}
		require.NoError(t, err, "%q", origin)
		require.Equal(t, want, ev.Origin)
	}
}

// A member that is null counts as absent, whatever its name.
func TestNullIsAbsent(t *testing.T) {
	whole := `{"apiVersion":"v3","requestId":"","event":` + strings.Replace(small, "{", `{"tags":{},`, 1) + `}`
	for f := range fieldCount {
		name := `"` + fieldNames[f] + `":`
		for at := 0; ; {
			i := strings.Index(whole[at:], name)
			if i < 0 {
				break
			}
			at += i + len(name)
			p := parser{b: []byte(whole), i: at, maxDepth: 32}
			require.True(t, p.jsonSkip())
			null, without := whole[:at]+"null"+whole[p.i:], whole[:at-len(name)]+`"other":null`+whole[p.i:]
			for contentType, encode := range map[string]func(string) []byte{
				ContentTypeJSON: func(s string) []byte { return []byte(s) },
				ContentTypeCBOR: func(s string) []byte { return inCBOR(t, s, true) },
			} {
				_, err1 := Parse(encode(null), contentType)
				_, err2 := Parse(encode(without), contentType)
				require.Equal(t, reasonOf(err2), reasonOf(err1), "%s as %s", null, contentType)
			}
		}
	}
}

func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return err.(*RejectError).Reason
}

// The correlation id is bounded, is UTF-8, and does not pin other memory.
func TestTheCorrelationIDIsBounded(t *testing.T) {
	for _, c := range []struct{ id, want string }{
		{"", ""},
		{"abc", "abc"},
		{strings.Repeat("c", MaxCorrelation), strings.Repeat("c", MaxCorrelation)},
		{strings.Repeat("c", MaxCorrelation-2) + "é", strings.Repeat("c", MaxCorrelation-2) + "é"},
	} {
		ev, err := DefaultLimits().Open(&Envelope{Payload: []byte(small), ContentType: ContentTypeJSON, CorrelationID: []byte(c.id)})
		require.NoError(t, err)
		require.Equal(t, c.want, ev.CorrelationID)
		require.Equal(t, "82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc", ev.ID)
	}
	for _, id := range []string{strings.Repeat("c", MaxCorrelation+1), strings.Repeat("é", MaxCorrelation), "\xff", strings.Repeat("\xff", 9*MaxCorrelation)} {
		ev, err := DefaultLimits().Open(&Envelope{Payload: []byte(small), ContentType: ContentTypeJSON, CorrelationID: []byte(id)})
		require.NoError(t, err)
		require.True(t, utf8.ValidString(ev.CorrelationID))
		require.NotEmpty(t, ev.CorrelationID)
		require.LessOrEqual(t, len(ev.CorrelationID), MaxCorrelation)
		require.Equal(t, len(id) > MaxCorrelation, strings.HasSuffix(ev.CorrelationID, "…"), "a cut id ends in an ellipsis")
	}
}

// A parser between two events keeps nothing of the last one, and no more memory than an ordinary event needs.
func TestAParserKeepsNothingOfAnEvent(t *testing.T) {
	for _, n := range []int{1, maxScratch, maxScratch + 1, 5000} {
		p := new(parser)
		payload := []byte(small)
		p.start(payload, task.JSON, 32)
		require.True(t, p.jsonDocument())
		for len(p.readings) < n {
			p.readings = append(p.readings, p.readings[0])
			p.owners = append(p.owners, owner{payload, payload})
		}
		p.fail(ReasonMalformed, 1, "kept")
		p.recycle()
		require.Nil(t, p.b)
		require.Nil(t, p.err)
		require.LessOrEqual(t, cap(p.readings), 2*maxScratch)
		require.LessOrEqual(t, cap(p.owners), 2*maxScratch)
		require.Empty(t, p.readings)
		require.Empty(t, p.owners)
		for _, r := range p.readings[:cap(p.readings)] {
			require.Empty(t, r)
		}
		for _, o := range p.owners[:cap(p.owners)] {
			require.Empty(t, o)
		}
	}
}

// A program that changes the order of its names, or omits one, is parsed as before.
func TestNamesAreFoundInAnyOrder(t *testing.T) {
	fields := []string{
		`"apiVersion":"v3"`, `"id":"82eb2e26-0f24-48aa-ae4c-de9dac3fb9bc"`, `"deviceName":"d"`, `"profileName":"p"`, `"sourceName":"s"`, `"origin":1`,
		`"tags":{"id":5}`, `"readings":` + small[strings.Index(small, "[{"):len(small)-1],
	}
	for shift := range fields {
		for drop := range fields {
			turned := slices.Concat(fields[shift:], fields[:shift])
			turned[drop], turned[0] = turned[0], turned[drop]
			for contentType, payload := range map[string][]byte{
				ContentTypeJSON: []byte(`{` + strings.Join(turned, ",") + `}`), ContentTypeCBOR: inCBOR(t, `{`+strings.Join(turned, ",")+`}`, false),
			} {
				require.True(t, compare(t, payload, contentType))
				_, err := Parse(bytes.Replace(payload, []byte("Name"), []byte("name"), 1), contentType)
				require.ErrorContains(t, err, ReasonMalformed)
			}
			_, err := Parse([]byte(`{`+strings.Join(turned[1:], ",")+`}`), ContentTypeJSON)
			require.Equal(t, strings.Contains(turned[0], "tags"), err == nil, turned[0])
		}
	}
}

// A name in another case is rejected where the name has a meaning, since EdgeX would accept it as that name, and is skipped anywhere else.
func TestNamesInAnotherCase(t *testing.T) {
	request := `{"apiVersion":"v3","event":` + small + `}`
	places := map[string]level{`{"apiVersion":"v3","event"`: topLevel, `"event":{`: eventLevel, `"readings":[{`: readingLevel, `"x":{`: 0}
	request = strings.Replace(request, `{"apiVersion":"v3","event"`, `{"x":{},"apiVersion":"v3","event"`, 1)
	for f := range fieldCount {
		name := strings.ToUpper(fieldNames[f])
		for place, l := range places {
			at := strings.Index(request, strings.TrimPrefix(place, "{"))
			if strings.HasSuffix(place, "{") {
				at += len(place)
			}
			member := `"` + name + `":null`
			if request[at] != '}' {
				member += ","
			}
			text := request[:at] + member + request[at:]
			for contentType, payload := range map[string][]byte{ContentTypeJSON: []byte(text), ContentTypeCBOR: inCBOR(t, text, false)} {
				_, err := Parse(payload, contentType)
				if l.knows(f) {
					require.ErrorContains(t, err, fmt.Sprintf("%q must be written %q", name, fieldNames[f]), text)
				} else {
					require.NoError(t, err, text)
				}
			}
		}
	}
}

// Devices that readings name and the event does not are its guests. A device of several readings in a row is listed once.
func TestReadingsOfOtherDevicesAreGuests(t *testing.T) {
	event := func(readings ...[2]string) *task.Event {
		list := []map[string]any{}
		for _, r := range readings {
			list = append(list, map[string]any{"id": "x", "origin": 1, "deviceName": r[0], "profileName": r[1], "resourceName": "R", "valueType": "String", "value": "v"})
		}
		raw, err := json.Marshal(map[string]any{"apiVersion": "v3", "id": "6a1c4d0e-5b7f-4c55-9d53-1f0e2a9b7c11", "deviceName": "d", "profileName": "P", "sourceName": "S", "origin": 1, "readings": list})
		require.NoError(t, err)
		ev, err := DefaultLimits().Open(&Envelope{Payload: raw, ContentType: ContentTypeJSON})
		require.NoError(t, err)
		return ev
	}
	require.Nil(t, event([2]string{"d", "P"}, [2]string{"d", "P"}).Guests)
	require.Equal(t, []task.Guest{{Device: "g", Profile: "P"}}, event([2]string{"g", "P"}).Guests)
	require.Equal(t, []task.Guest{{Device: "g", Profile: "Q"}, {Device: "h", Profile: "P"}, {Device: "d", Profile: "Q"}},
		event([2]string{"g", "Q"}, [2]string{"g", "Q"}, [2]string{"d", "P"}, [2]string{"h", "P"}, [2]string{"h", "P"}, [2]string{"d", "Q"}).Guests)
}

// A name of white space alone is rejected, also if the white space is not ASCII.
func TestABlankNameIsMissing(t *testing.T) {
	for _, blank := range []string{" ", "\u00a0", "\u2003", " \u0085"} {
		for _, name := range []string{blank, blank + "d"} {
			raw := []byte(strings.ReplaceAll(small, `"deviceName":"`, `"deviceName":"`+name+`","x":"`))
			require.NotEqual(t, small, string(raw))
			_, err := DefaultLimits().Open(&Envelope{Payload: raw, ContentType: ContentTypeJSON})
			if name == blank {
				require.ErrorContains(t, err, "must not be blank", "%q", name)
			} else {
				require.NoError(t, err, "%q", name)
			}
		}
	}
}

// A detail quotes a short part of the value found, for any size and type.
func TestDetailsAreShort(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, arg := range []any{long, []byte(long), errors.New(long)} {
		detail := Reject(ReasonMalformed, "%q", arg).Detail
		require.LessOrEqual(t, len(detail), maxQuoted+10)
		require.Contains(t, detail, long[:100])
	}
	require.Equal(t, `"short" 5`, Reject(ReasonMalformed, "%q %d", []byte("short"), 5).Detail)
}
