package parse

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonDocument reads a whole payload.
func (p *parser) jsonDocument() bool {
	p.space()
	if !p.jsonMembers(&p.top, topLevel) {
		return false
	}
	end := p.i
	p.space()
	if p.i != len(p.b) {
		return p.fail(ReasonMalformed, p.i, "trailing data after the event")
	}
	if !p.finishDocument() {
		return false
	}
	if p.main == &p.top {
		p.end = end
	}
	return true
}

// jsonMembers reads an object whose names are known.
func (p *parser) jsonMembers(o *object, l level) bool {
	o.reset(p.i)
	if !p.at('{') {
		return p.unexpected("an object")
	}
	p.i++
	if !p.enter() {
		return false
	}
	var unknown keySet
	f := atStart
	for more := !p.closes('}'); more; {
		var ok bool
		if f, ok = p.jsonName(o, l, &unknown, f); !ok || !p.jsonField(o, f) {
			return false
		}
		if more, ok = p.next('}'); !ok {
			return false
		}
	}
	p.depth--
	return true
}

// jsonName reads a name and its colon, and returns its field.
func (p *parser) jsonName(o *object, l level, unknown *keySet, last field) (field, bool) {
	start := p.i
	if f, ok := p.guessed(o, l, last, &jsonNames); ok {
		p.space()
		return f, p.claim(o, f, start)
	}
	key, ok := p.jsonKey()
	if !ok {
		return fUnknown, false
	}
	f, ok := p.field(o, l, unknown, key)
	o.follow[last] = f
	return f, ok
}

// jsonField reads the value of a known name into the object, and skips that of an unknown one.
func (p *parser) jsonField(o *object, f field) bool {
	if f == fUnknown {
		return p.jsonSkip()
	}
	if p.i < len(p.b) && p.b[p.i] == 'n' { // null is the same as absent
		return p.word("null")
	}
	switch f {
	case fOrigin:
		return p.jsonInt(o, f)
	case fReadings:
		return p.jsonReadings()
	case fEvent:
		return p.jsonEvent()
	case fTags:
		if !p.at('{') {
			return p.wrongType(o, f, "an object")
		}
		return p.jsonAny(o, f)
	case fObject:
		return p.jsonAny(o, f)
	case fBinary:
		return p.jsonBinary(o)
	}
	return p.jsonText(o, f)
}

func (p *parser) jsonEvent() bool {
	if !p.beginEvent() {
		return false
	}
	if !p.at('{') {
		return p.wrongType(&p.top, fEvent, "an object")
	}
	if !p.jsonMembers(&p.nested, eventLevel) {
		return false
	}
	p.end = p.i
	return true
}

func (p *parser) jsonReadings() bool {
	if !p.at('[') {
		return p.wrongType(p.main, fReadings, "an array")
	}
	p.i++
	if !p.enter() {
		return false
	}
	for more := !p.closes(']'); more; {
		if !p.jsonMembers(&p.reading, readingLevel) || !p.finishReading() {
			return false
		}
		var ok bool
		if more, ok = p.next(']'); !ok {
			return false
		}
	}
	p.depth--
	return true
}

func (p *parser) jsonText(o *object, f field) bool {
	if !p.at('"') {
		return p.wrongType(o, f, "a string")
	}
	s, ok := p.jsonString()
	o.put(f, s)
	return ok
}

func (p *parser) jsonBinary(o *object) bool {
	if !p.jsonText(o, fBinary) {
		return false
	}
	if !isBase64(p.get(o, fBinary)) {
		return p.fail(ReasonEncoding, o.at[fBinary].start, "%s is not base64", p.path(o, fBinary))
	}
	return true
}

func (p *parser) jsonAny(o *object, f field) bool {
	start := p.i
	if !p.jsonSkip() {
		return false
	}
	o.put(f, span{start: start, end: p.i})
	return true
}

func (p *parser) jsonInt(o *object, f field) bool {
	start := p.i
	n, ok := p.wholeNumber()
	if !ok {
		p.i = start
		return p.wrongType(o, f, "a whole number of 64 bits")
	}
	o.put(f, span{start: start, end: p.i})
	o.origin = n
	return true
}

// wholeNumber reads the literal of an int64; it rejects a fraction or an exponent, as encoding/json does.
func (p *parser) wholeNumber() (int64, bool) {
	negative := p.at('-')
	if negative {
		p.i++
	}
	start := p.i
	var n uint64
	for p.i < len(p.b) && p.b[p.i]-'0' <= 9 {
		n = 10*n + uint64(p.b[p.i]-'0')
		p.i++
	}
	digits := p.i - start
	if digits == 0 || digits > 19 || digits > 1 && p.b[start] == '0' || p.at('.') || p.at('e') || p.at('E') {
		return 0, false
	}
	if negative { // 19 digits cannot overflow a uint64
		return -int64(n), n <= -math.MinInt64
	}
	return int64(n), n <= math.MaxInt64
}

func (p *parser) at(c byte) bool { return p.i < len(p.b) && p.b[p.i] == c }

func (p *parser) space() {
	if p.i < len(p.b) && p.b[p.i] <= ' ' { // rare: Go's encoder writes none
		p.skipSpace()
	}
}

func (p *parser) skipSpace() {
	for p.i < len(p.b) && isSpace(p.b[p.i]) {
		p.i++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func (p *parser) unexpected(want string) bool {
	if p.i >= len(p.b) {
		return p.fail(ReasonMalformed, p.i, "the payload ends, expected %s", want)
	}
	return p.fail(ReasonMalformed, p.i, "%q, expected %s", p.b[p.i], want)
}

// closes reads the end of an empty object or array.
func (p *parser) closes(end byte) bool {
	p.space()
	if !p.at(end) {
		return false
	}
	p.i++
	return true
}

// next reads the separator after a member or element, and reports whether another one follows.
func (p *parser) next(end byte) (more, ok bool) {
	p.space()
	switch {
	case p.at(','):
		p.i++
		p.space()
		return true, true
	case p.at(end):
		p.i++
		return false, true
	}
	return false, p.unexpected("a comma or the end of the list")
}

// jsonKey reads a name and its colon.
func (p *parser) jsonKey() (span, bool) {
	if !p.at('"') {
		return span{}, p.unexpected("a name in quotes")
	}
	key, ok := p.jsonString()
	if !ok {
		return key, false
	}
	p.space()
	if !p.at(':') {
		return key, p.unexpected("a colon")
	}
	p.i++
	p.space()
	return key, true
}

func (p *parser) word(w string) bool {
	if len(p.b)-p.i < len(w) || string(p.b[p.i:p.i+len(w)]) != w {
		return p.unexpected("a value")
	}
	p.i += len(w)
	return true
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special sets the top bit of each byte that is a quote, a backslash or a control character. A byte above a marked one may be marked wrongly; the
// lowest mark is always right.
func special(x uint64) uint64 {
	quote := x ^ '"'*ones
	slash := x ^ '\\'*ones
	return ((quote-ones)&^quote | (slash-ones)&^slash | (x-' '*ones)&^x) & highs
}

// jsonString reads a string, eight bytes at a time; the span excludes the quotes.
func (p *parser) jsonString() (span, bool) {
	b, start := p.b, p.i+1
	i := start
	var seen uint64
	for len(b)-i >= 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		seen |= x
		if m := special(x); m != 0 {
			i += bits.TrailingZeros64(m) / 8
			if b[i] != '"' || seen&highs != 0 {
				break
			}
			p.i = i + 1
			return span{start: start, end: i}, true
		}
		i += 8
	}
	return p.jsonStringRest(span{start: start}, i)
}

// jsonStringRest continues at i with a string that has an escape or non-ASCII bytes, or is near the end of the payload.
func (p *parser) jsonStringRest(s span, i int) (span, bool) {
	b := p.b
	for {
		i = skipUsual(b, i)
		p.i = i
		switch {
		case i >= len(b):
			return s, p.unexpected("the end of a string")
		case b[i] == '"':
			s.end = i
			p.i++
			if !utf8.Valid(b[s.start:s.end]) {
				return s, p.fail(ReasonEncoding, s.start, "the string is not UTF-8")
			}
			return s, true
		case b[i] == '\\':
			s.form = formEscaped
			n := escapeLength(b[i:])
			if n == 0 {
				return s, p.fail(ReasonMalformed, i, "invalid escape")
			}
			i += n
		default:
			return s, p.fail(ReasonMalformed, i, "control character %#x within a string", b[i])
		}
	}
}

// skipUsual returns the position of the next quote, backslash or control character.
func skipUsual(b []byte, i int) int {
	for len(b)-i >= 8 {
		if m := special(binary.LittleEndian.Uint64(b[i:])); m != 0 {
			return i + bits.TrailingZeros64(m)/8
		}
		i += 8
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// escapeLength returns the length of the escape at the beginning of b, or 0.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n), err == nil
}

// jsonSkip checks and skips a value of any kind.
func (p *parser) jsonSkip() bool {
	if p.i >= len(p.b) {
		return p.unexpected("a value")
	}
	switch p.b[p.i] {
	case '{':
		return p.jsonSkipObject()
	case '[':
		return p.jsonSkipArray()
	case '"':
		_, ok := p.jsonString()
		return ok
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	}
	return p.number()
}

func (p *parser) jsonSkipObject() bool {
	p.i++
	if !p.enter() {
		return false
	}
	var keys keySet
	for more := !p.closes('}'); more; {
		key, ok := p.jsonKey()
		if !ok {
			return false
		}
		if !keys.add(p, key) {
			return p.fail(ReasonDuplicate, key.start, "%q occurs twice", p.text(key))
		}
		if !p.jsonSkip() {
			return false
		}
		if more, ok = p.next('}'); !ok {
			return false
		}
	}
	p.depth--
	return true
}

func (p *parser) jsonSkipArray() bool {
	p.i++
	if !p.enter() {
		return false
	}
	for more := !p.closes(']'); more; {
		if !p.jsonSkip() {
			return false
		}
		var ok bool
		if more, ok = p.next(']'); !ok {
			return false
		}
	}
	p.depth--
	return true
}

// number skips a number in JSON's notation.
func (p *parser) number() bool {
	start := p.i
	if p.at('-') {
		p.i++
	}
	if p.at('0') {
		p.i++
	} else if !p.digits() {
		return p.unexpected("a value")
	}
	if p.at('.') {
		p.i++
		if !p.digits() {
			return p.unexpected("a digit")
		}
	}
	if p.at('e') || p.at('E') {
		p.i++
		if p.at('+') || p.at('-') {
			p.i++
		}
		if !p.digits() {
			return p.unexpected("a digit")
		}
	}
	return p.finite(start)
}

// finite rejects numbers that no float64 can hold, as EdgeX's decoder does.
func (p *parser) finite(start int) bool {
	if _, err := strconv.ParseFloat(string(p.b[start:p.i]), 64); err != nil {
		return p.fail(ReasonWrongType, start, "number out of the range of 64 bits")
	}
	return true
}

func (p *parser) digits() bool {
	start := p.i
	for p.i < len(p.b) && p.b[p.i]-'0' <= 9 {
		p.i++
	}
	return p.i > start
}

var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// unescape resolves the escapes of a checked string. Half of a surrogate pair becomes U+FFFD, as in encoding/json.
func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); {
		switch {
		case b[i] != '\\':
			out = append(out, b[i])
			i++
		case b[i+1] != 'u':
			out = append(out, escapes[b[i+1]])
			i += 2
		default:
			r, n := unescapeRune(b[i:])
			out = utf8.AppendRune(out, r)
			i += n
		}
	}
	return out
}

func unescapeRune(b []byte) (rune, int) {
	r, _ := hex4(b[2:])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		second, _ := hex4(b[8:])
		if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}
