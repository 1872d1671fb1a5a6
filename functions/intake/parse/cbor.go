package parse

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// The major types of CBOR (RFC 8949, 3.1).
const (
	cborUint byte = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

const (
	cborIndefinite = 31   // additional information: pieces or members until a break
	cborBreak      = 0xff // ends them
	cborNull       = 0xf6
	cborUndefined  = 0xf7

	// cborMaxMembers is the bound of EdgeX's decoder for the members of one array or map.
	cborMaxMembers = 131072
)

// cborHead is the head of a data item.
type cborHead struct {
	major byte
	info  byte // additional information
	arg   uint64
}

func (h cborHead) indefinite() bool { return h.info == cborIndefinite }

func (p *parser) cborDocument() bool {
	if !p.cborMembers(&p.top, topLevel) {
		return false
	}
	if p.i != len(p.b) {
		return p.fail(ReasonMalformed, p.i, "trailing data after the event")
	}
	return p.finishDocument()
}

// head reads the head of the next data item.
func (p *parser) head() (cborHead, bool) {
	if p.i >= len(p.b) {
		return cborHead{}, p.fail(ReasonMalformed, p.i, "the payload ends before a data item")
	}
	c := p.b[p.i]
	h := cborHead{major: c >> 5, info: c & 31}
	rest := p.b[p.i+1:]
	size := 0
	switch {
	case h.info < 24:
		h.arg = uint64(h.info)
	case h.info < 28:
		if size = 1 << (h.info - 24); len(rest) < size {
			return h, p.fail(ReasonMalformed, p.i, "the payload ends within the head of a data item")
		}
		h.arg = bigEndian(rest[:size])
	case h.info < cborIndefinite || h.major < cborBytes || h.major == cborTag || c == cborBreak:
		return h, p.fail(ReasonMalformed, p.i, "%#x is not the head of a data item", c)
	}
	p.i += 1 + size
	return h, p.sized(h)
}

// sized checks that the payload is long enough for the announced length, so that no count leads to a long loop.
func (p *parser) sized(h cborHead) bool {
	if h.major < cborBytes || h.major > cborMap || h.indefinite() {
		return true
	}
	left := uint64(len(p.b) - p.i)
	if h.major == cborMap {
		left /= 2
	}
	if h.arg > left {
		return p.fail(ReasonMalformed, p.i, "length %d is more than the payload has", h.arg)
	}
	if h.major >= cborArray && h.arg > cborMaxMembers {
		return p.fail(ReasonTooLarge, p.i, "%d members, the limit is %d", h.arg, cborMaxMembers)
	}
	return true
}

func bigEndian(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	}
	return binary.BigEndian.Uint64(b)
}

// members counts the members of an array or map, of definite or indefinite length.
type members struct {
	left       uint64
	indefinite bool
	taken      int
}

// more reports whether a further member follows; if not, ok reports whether the list ended properly.
func (m *members) more(p *parser) (more, ok bool) {
	if !m.indefinite {
		if m.left == 0 {
			return false, true
		}
		m.left--
		return true, true
	}
	if p.at(cborBreak) {
		p.i++
		return false, true
	}
	if m.taken++; m.taken > cborMaxMembers {
		return false, p.fail(ReasonTooLarge, p.i, "more than %d members", cborMaxMembers)
	}
	return true, true
}

func (p *parser) cborMembers(o *object, l level) bool {
	o.reset(p.i)
	h, ok := p.head()
	if !ok {
		return false
	}
	if h.major != cborMap {
		return p.fail(ReasonMalformed, o.start, "expected a map")
	}
	if !p.enter() {
		return false
	}
	m := members{left: h.arg, indefinite: h.indefinite()}
	var unknown keySet
	f := atStart
	for {
		more, ok := m.more(p)
		if !more {
			p.depth--
			return ok
		}
		if f, ok = p.cborName(o, l, &unknown, f); !ok || !p.cborField(o, f) {
			return false
		}
	}
}

// cborName reads a name, and returns its field.
func (p *parser) cborName(o *object, l level, unknown *keySet, last field) (field, bool) {
	start := p.i
	if f, ok := p.guessed(o, l, last, &cborNames); ok {
		return f, p.claim(o, f, start)
	}
	key, ok := p.cborString(cborText, "a name")
	if !ok {
		return fUnknown, false
	}
	f, ok := p.field(o, l, unknown, key)
	o.follow[last] = f
	return f, ok
}

func (p *parser) cborField(o *object, f field) bool {
	if f == fUnknown {
		return p.cborSkip()
	}
	if p.at(cborNull) || p.at(cborUndefined) { // the same as absent
		p.i++
		return true
	}
	switch f {
	case fOrigin:
		return p.cborInt(o, f)
	case fReadings:
		return p.cborReadings()
	case fEvent:
		return p.cborEvent()
	case fTags:
		return p.cborTags(o)
	case fObject:
		start := p.i
		ok := p.cborSkip()
		o.put(f, span{start: start, end: p.i})
		return ok
	case fBinary:
		return p.cborStringField(o, f, cborBytes, "a byte string")
	}
	return p.cborStringField(o, f, cborText, "a text string")
}

func (p *parser) cborStringField(o *object, f field, major byte, want string) bool {
	if !p.atMajor(major) {
		return p.wrongType(o, f, want)
	}
	s, ok := p.cborString(major, want)
	o.put(f, s)
	return ok
}

func (p *parser) atMajor(major byte) bool { return p.i < len(p.b) && p.b[p.i]>>5 == major }

func (p *parser) cborEvent() bool {
	if !p.beginEvent() {
		return false
	}
	if !p.atMajor(cborMap) {
		return p.wrongType(&p.top, fEvent, "a map")
	}
	if !p.cborMembers(&p.nested, eventLevel) {
		return false
	}
	p.end = p.i
	return true
}

func (p *parser) cborReadings() bool {
	if !p.atMajor(cborArray) {
		return p.wrongType(p.main, fReadings, "an array")
	}
	h, ok := p.head()
	if !ok || !p.enter() {
		return false
	}
	m := members{left: h.arg, indefinite: h.indefinite()}
	for {
		more, ok := m.more(p)
		if !more {
			p.depth--
			return ok
		}
		if !p.cborMembers(&p.reading, readingLevel) || !p.finishReading() {
			return false
		}
	}
}

func (p *parser) cborTags(o *object) bool {
	if !p.atMajor(cborMap) {
		return p.wrongType(o, fTags, "a map")
	}
	start := p.i
	h, ok := p.head()
	if !ok || !p.cborSkipMap(h, true) {
		return false
	}
	o.put(fTags, span{start: start, end: p.i})
	return true
}

func (p *parser) cborInt(o *object, f field) bool {
	start := p.i
	if !p.atMajor(cborUint) && !p.atMajor(cborNegative) {
		return p.wrongType(o, f, "a whole number")
	}
	h, ok := p.head()
	if !ok {
		return false
	}
	if h.arg > math.MaxInt64 {
		return p.fail(ReasonWrongType, start, "%s is beyond 64 bits", p.path(o, f))
	}
	o.put(f, span{start: start, end: p.i})
	o.origin = int64(h.arg)
	if h.major == cborNegative {
		o.origin = -1 - int64(h.arg)
	}
	return true
}

// cborString reads a text or byte string. The span of a string of definite length is its content, without the head.
func (p *parser) cborString(major byte, want string) (span, bool) {
	if !p.atMajor(major) {
		return span{}, p.fail(ReasonMalformed, p.i, "expected %s", want)
	}
	h, ok := p.head()
	if !ok {
		return span{}, false
	}
	if !h.indefinite() {
		return p.cborContent(h)
	}
	s := span{start: p.i, form: formChunked}
	for !p.at(cborBreak) {
		if !p.atMajor(major) {
			return s, p.fail(ReasonMalformed, p.i, "expected a piece of a string")
		}
		piece, ok := p.head()
		if !ok {
			return s, false
		}
		if piece.indefinite() {
			return s, p.fail(ReasonMalformed, p.i, "a piece of a string within a piece")
		}
		if _, ok := p.cborContent(piece); !ok {
			return s, false
		}
	}
	s.end = p.i
	p.i++
	return s, true
}

// cborContent reads the content of a string whose head announced its length.
func (p *parser) cborContent(h cborHead) (span, bool) {
	s := span{start: p.i, end: p.i + int(h.arg)}
	p.i = s.end
	if h.major == cborText && !utf8.Valid(p.b[s.start:s.end]) {
		return s, p.fail(ReasonEncoding, s.start, "the string is not UTF-8")
	}
	return s, true
}

// CBOR tags with a special meaning (RFC 8949, 3.4).
const (
	cborTagDate     = 0
	cborTagEpoch    = 1
	cborTagPositive = 2
	cborTagNegative = 3
)

// cborSkip checks and skips a data item of any kind.
func (p *parser) cborSkip() bool {
	start := p.i
	h, ok := p.head()
	if !ok {
		return false
	}
	switch h.major {
	case cborBytes, cborText:
		p.i = start
		_, ok := p.cborString(h.major, "a string")
		return ok
	case cborArray:
		return p.cborSkipArray(h)
	case cborMap:
		return p.cborSkipMap(h, false)
	case cborTag:
		return p.cborSkipTag(h, start)
	case cborSimple:
		if h.info == 24 && h.arg < 32 {
			return p.fail(ReasonMalformed, start, "a simple value in two bytes that fits one")
		}
	}
	return true
}

func (p *parser) cborSkipArray(h cborHead) bool {
	if !p.enter() {
		return false
	}
	m := members{left: h.arg, indefinite: h.indefinite()}
	for {
		more, ok := m.more(p)
		if !more {
			p.depth--
			return ok
		}
		if !p.cborSkip() {
			return false
		}
	}
}

// cborSkipMap skips a map; its keys are names or, unless onlyNames is set, whole numbers.
func (p *parser) cborSkipMap(h cborHead, onlyNames bool) bool {
	if !p.enter() {
		return false
	}
	m := members{left: h.arg, indefinite: h.indefinite()}
	var keys keySet
	for {
		more, ok := m.more(p)
		if !more {
			p.depth--
			return ok
		}
		if !p.cborKey(&keys, onlyNames) || !p.cborSkip() {
			return false
		}
	}
}

func (p *parser) cborKey(keys *keySet, onlyNames bool) bool {
	start := p.i
	key := span{start: start}
	ok := false
	switch {
	case p.atMajor(cborText):
		key, ok = p.cborString(cborText, "a name")
	case !onlyNames && (p.atMajor(cborUint) || p.atMajor(cborNegative)):
		_, ok = p.head()
		key.end = p.i
	default:
		return p.fail(ReasonMalformed, start, "expected a name")
	}
	if !ok {
		return false
	}
	if !keys.add(p, key) {
		return p.fail(ReasonDuplicate, start, "%q occurs twice", p.text(key))
	}
	return true
}

// cborSkipTag skips a tagged item. Times are rejected: EdgeX writes them as whole numbers, and its decoder rejects many of their forms. Big numbers
// must be byte strings.
func (p *parser) cborSkipTag(h cborHead, start int) bool {
	switch h.arg {
	case cborTagDate, cborTagEpoch:
		return p.fail(ReasonWrongType, start, "a time with tag %d", h.arg)
	case cborTagPositive, cborTagNegative:
		if !p.atMajor(cborBytes) {
			return p.fail(ReasonMalformed, start, "tag %d on something other than a byte string", h.arg)
		}
	}
	if !p.enter() {
		return false
	}
	ok := p.cborSkip()
	p.depth--
	return ok
}
